"""Review: one doubtful study after the other, with its head from outside, decided by a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.errors import NodeError
from dicom_node.gate.decisions import MAX_NAME, MAX_REASON, undo
from dicom_node.gate.documents import Terms, study_document
from dicom_node.gate.severity import Standing
from dicom_node.page.answers import status_of
from dicom_node.page.errors import FormError
from dicom_node.page.pictures import Pictures
from dicom_node.page.queue import ReviewQueue, parse_place, place_text
from dicom_node.page.rendering import Renderer
from dicom_node.page.study_page import decide_as_said, said_by
from dicom_node.page.uids import checked_uid, is_number, is_uid, study_uid
from dicom_node.report_text import VERDICT_WORDS
from dicom_node.store import DecisionKind, DecisionRow, EvidenceChangedError, Place, Store, VerdictRow

REASONS: Final = (
    "no face can be recognised",
    "the images show no head",
    "a face can be recognised",
    "not sure; somebody else should look",
)
"""What people say most; a digit writes it."""

_ORDER: Final = [standing.value for standing in Standing]


@dataclass(frozen=True, slots=True)
class ShownVolume:
    """A volume that can be looked at."""

    verdict: VerdictRow
    pictures: str  # path under which its pictures are
    is_shown: bool


class ReviewPage:
    """``/review``: the queue, a study of it, decisions and undo."""

    def __init__(
        self,
        store: Store,
        terms: Callable[[], Terms],
        renderer: Renderer,
        pictures: Pictures,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._terms = terms
        self._renderer = renderer
        self._pictures = pictures
        self._clock = clock
        self._queue = ReviewQueue(store, terms)

    def next(self, request: Request) -> Response:
        """``GET /review?after=``: go to the next study of the queue, or say that there is none."""
        query = request.query_params
        found = self._queue.next(parse_place(query.get("after", "")))
        done = query.get("done", "")
        if found is None:
            return self._renderer.html(request, "review_empty.html", done=self._decision(done))
        return self._to(found.study_instance_uid, done)

    def show(self, request: Request) -> Response:
        """``GET /review/{study}``: one study."""
        return self._page(request, study_uid(request))

    def decide(self, request: Request, fields: Mapping[str, str]) -> Response:
        """``POST /review/{study}/decide``: record a decision and go to the next study, or undo the one before."""
        uid, fields = study_uid(request), said_by(request, fields)
        try:
            if fields.get("undo"):
                return self._undo(fields)
            row = self._store.studies.get(uid)
            decision = decide_as_said(self._store, self._terms(), uid, fields, self._clock())
        except NodeError as error:
            return self._page(request, uid, fields=fields, error=error)
        after = place_text(Place(row.last_arrival_at, uid))
        query = urlencode({"after": after, "done": f"{uid}_{decision.id}"})
        return RedirectResponse(f"{self._renderer.base}/review?{query}", status_code=303)

    def warm(self, request: Request) -> Response:
        """``GET /review/warm?after=``: make the pictures of the next study, while a person looks at this one."""
        place = self._queue.next(parse_place(request.query_params.get("after", "")))
        if place is not None:
            for uid in {one.series_instance_uid for one in self._verdicts(place.study_instance_uid)[:1]}:
                self._pictures.all_of(uid)
        return Response(status_code=204)

    def _undo(self, fields: Mapping[str, str]) -> Response:
        uid, _, number = fields["undo"].partition("_")
        checked_uid("the study", uid)
        if not is_number(number, max_digits=18):
            raise FormError("the decision", number, "the number of a decision")
        undo(self._store, uid, int(number), decided_by=fields.get("name", ""), now=self._clock())
        return self._to(uid, "")

    def _to(self, uid: str, done: str) -> Response:
        query = f"?{urlencode({'done': done})}" if done else ""
        return RedirectResponse(f"{self._renderer.base}/review/{uid}{query}", status_code=303)

    def _decision(self, done: str) -> DecisionRow | None:
        """Return the decision that was made a moment ago, for undo; none if a later one counts."""
        uid, _, number = done.partition("_")
        newest = self._store.decisions.of(uid)[:1] if is_uid(uid) and number.isdigit() else ()
        is_undone = bool(newest) and newest[0].kind is DecisionKind.WITHDRAW
        return newest[0] if newest and str(newest[0].id) == number and not is_undone else None

    def _verdicts(self, uid: str) -> list[VerdictRow]:
        """Return the verdicts of a study, those that ask for the most care first."""

        def care(one: VerdictRow) -> tuple[int, str, int]:
            known = _ORDER.index(one.verdict) if one.verdict in _ORDER else 0
            return known, one.series_instance_uid, one.stack_number

        return sorted(self._store.studies.verdicts(uid), key=care)

    def _page(
        self, request: Request, uid: str, *, fields: Mapping[str, str] | None = None, error: NodeError | None = None
    ) -> Response:
        store, terms = self._store, self._terms()
        document = study_document(store, terms, uid)
        (listed,) = store.browsing.listed([uid])
        verdicts = self._verdicts(uid)
        wanted = request.query_params.get("volume", "0")
        chosen = int(wanted) if is_number(wanted, max_digits=9) and int(wanted) < len(verdicts) else 0
        volumes = [
            ShownVolume(one, f"/series/{one.series_instance_uid}/pictures/{one.stack_number}", number == chosen)
            for number, one in enumerate(verdicts)
        ]
        place = place_text(Place(document["last_arrival_at"], uid))
        state = document["state"]
        return self._renderer.html(
            request,
            "review.html",
            status=200 if error is None else int(status_of(error)),
            study=document,
            listed=listed,
            volumes=volumes,
            chosen=chosen,
            verdict_words=VERDICT_WORDS,
            reasons=REASONS,
            evidence=store.studies.evidence(uid).fingerprint,
            may_release=state in (*self._queue.states, "held"),
            n_left=len(self._queue),
            after=urlencode({"after": place}),
            done=self._decision(request.query_params.get("done", "")),
            fields=fields or {},
            error=error,
            has_changed=isinstance(error, EvidenceChangedError),
            max_reason=MAX_REASON,
            max_name=MAX_NAME,
        )
