"""One study: why it may leave or not, what was found, sent, decided and exported; and the form to decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dicom_node.access.callers import caller_of
from dicom_node.errors import NodeError
from dicom_node.gate.decisions import MAX_NAME, MAX_REASON, GateState, decide
from dicom_node.gate.documents import Terms, study_document
from dicom_node.page.answers import status_of
from dicom_node.page.errors import FormError
from dicom_node.page.rendering import Renderer
from dicom_node.page.uids import study_uid
from dicom_node.report_text import VERDICT_WORDS, report_text
from dicom_node.store import (
    DecisionKind,
    DecisionRow,
    EvidenceChangedError,
    JobRow,
    Origin,
    ResultRow,
    SeriesRow,
    Store,
    VerdictRow,
)
from dicom_node.store.index.browsing import text_of
from dicom_node.store.work.decisions import DECIDED

MAX_ROWS: Final = 200  # of deliveries, entries and so on; a study with more says so


@dataclass(frozen=True, slots=True)
class ShownSeries:
    """What the page shows of a received series."""

    row: SeriesRow
    number: str
    description: str
    standing: str
    verdicts: tuple[VerdictRow, ...]
    reports: tuple[str, ...]  # as text
    job: JobRow | None  # the newest
    results: tuple[ResultRow, ...]
    n_conflicts: int


class StudyPage:
    """``GET /studies/{study}`` and the decision on it."""

    def __init__(
        self, store: Store, terms: Callable[[], Terms], renderer: Renderer, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._terms = terms
        self._renderer = renderer
        self._clock = clock

    def show(self, request: Request) -> Response:
        """Return the page of a study."""
        return self._page(request, study_uid(request))

    def decide(self, request: Request, fields: Mapping[str, str]) -> Response:
        """Record a decision and return to the study; if that is refused, say why above the form."""
        uid = study_uid(request)
        try:
            decide_as_said(self._store, self._terms(), uid, said_by(request, fields), self._clock())
        except NodeError as error:
            return self._page(request, uid, fields=fields, error=error)
        return RedirectResponse(f"{self._renderer.base}/studies/{uid}#decide", status_code=303)

    def _page(
        self, request: Request, uid: str, *, fields: Mapping[str, str] | None = None, error: NodeError | None = None
    ) -> Response:
        store, terms = self._store, self._terms()
        document = study_document(store, terms, uid)
        (listed,) = store.browsing.listed([uid])
        series = self._series(uid, document)
        uids = [uid, *(one.row.series_instance_uid for one in series)]
        state = GateState(document["state"])
        return self._renderer.html(
            request,
            "study.html",
            status=200 if error is None else int(status_of(error)),
            study=document,
            listed=listed,
            series=series,
            verdict_words=VERDICT_WORDS,
            evidence=store.studies.evidence(uid).fingerprint,
            decisions=store.decisions.of(uid)[:MAX_ROWS],
            deliveries=store.deliveries.list(study_instance_uid=uid, limit=MAX_ROWS),
            exports=store.exports.list(study_instance_uids=[uid])[-MAX_ROWS:],
            audit=[one for one in store.audit.about(uids, limit=MAX_ROWS) if one.action != DECIDED],  # they are above
            may_release=state is not GateState.OPEN
            and (state is not GateState.BLOCKED or terms.rules.release_of_blocked == "allowed"),
            fields=fields or {},
            error=error,
            has_changed=isinstance(error, EvidenceChangedError),
            max_reason=MAX_REASON,
            max_name=MAX_NAME,
            max_rows=MAX_ROWS,
        )

    def _series(self, uid: str, document: Mapping[str, Any]) -> list[ShownSeries]:
        """Return the received series, in the order of their numbers."""
        store = self._store
        attributes = {
            text_of(one, "0020000E"): one for one in store.search.search_series({"StudyInstanceUID": uid}, limit=1000)
        }
        verdicts = store.studies.verdicts(uid)
        standings = {one["series_instance_uid"]: one for one in document["series"]}
        shown = []
        for row in store.series.list(study_instance_uid=uid):
            if row.origin is not Origin.RECEIVED:
                continue
            known = attributes.get(row.series_instance_uid, {})
            jobs = store.jobs.list(series_instance_uid=row.series_instance_uid, limit=1)
            its_verdicts = tuple(one for one in verdicts if one.series_instance_uid == row.series_instance_uid)
            standing = standings.get(row.series_instance_uid, {})
            shown.append(
                ShownSeries(
                    row=row,
                    number=text_of(known, "00200011"),
                    description=text_of(known, "0008103E"),
                    standing=standing.get("standing", "unfinished"),
                    verdicts=its_verdicts,
                    reports=tuple(report_text(one.report) for one in its_verdicts),
                    job=jobs[0] if jobs else None,
                    results=store.jobs.results(jobs[0].id) if jobs else (),
                    n_conflicts=standing.get("n_conflicts", 0),
                )
            )
        return sorted(
            shown, key=lambda one: (int(one.number) if one.number.isdigit() else 10**9, one.row.series_instance_uid)
        )


def decide_as_said(store: Store, terms: Terms, uid: str, fields: Mapping[str, str], now: datetime) -> DecisionRow:
    """Record the decision of a form, for the evidence that its page showed; return it."""
    return decide(
        store,
        uid,
        kind_of(fields.get("kind", "")),
        reason=fields.get("reason", ""),
        decided_by=fields.get("name", ""),
        now=now,
        gate_digest=terms.digest,
        rules=terms.rules,
        seen_evidence=fields.get("evidence", ""),
    )


def said_by(request: Request, fields: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields of a form; who has signed in decides under that name and no other."""
    caller = caller_of(request)
    return fields if caller is None else {**fields, "name": caller.name}


def kind_of(word: str) -> DecisionKind:
    """Return the kind of decision that a form names."""
    try:
        return DecisionKind(word)
    except ValueError:
        raise FormError("the decision", word, " or ".join(DecisionKind)) from None
