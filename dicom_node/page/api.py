"""What the page can do, as JSON under ``/api``; `openapi.yaml` describes it, and what only reads studies as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar

import yaml
from starlette.requests import Request
from starlette.responses import Response

from dicom_node import __version__
from dicom_node.access.callers import caller_of
from dicom_node.gate.decisions import decide
from dicom_node.gate.documents import Terms
from dicom_node.json_values import plain
from dicom_node.page.actions import act_on_delivery, act_on_job, actor_of, row_number
from dicom_node.page.errors import FormError
from dicom_node.page.study_page import kind_of
from dicom_node.page.uids import checked_uid, study_uid
from dicom_node.page.work_state import ReadModels, read_work
from dicom_node.settings import Settings
from dicom_node.store import DecisionKind, JobState, Store

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_MAX_OFFSET: Final = 2**31
_FINGERPRINT: Final = "evidence_fingerprint"
_PROBLEM: Final = {"$ref": "#/components/responses/Problem"}
_LIMITED: Final = {"$ref": "#/components/responses/Limited"}
_DECISION: Final = ("kind", "reason", "decided_by", _FINGERPRINT)

Row = TypeVar("Row")


class Api:
    """Jobs, deliveries, work and decisions as JSON."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        terms: Callable[[], Terms],
        read_models: ReadModels,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._settings = settings
        self._terms = terms
        self._read_models = read_models
        self._clock = clock

    def schema(self, request: Request) -> Response:
        """``GET /api/openapi.json``."""
        return _answer(openapi(signs_in=caller_of(request) is not None))

    def work(self, _: Request) -> Response:
        """``GET /api/work``."""
        return _answer(read_work(self._store, self._settings, self._read_models))

    def jobs(self, request: Request) -> Response:
        """``GET /api/jobs``, the newest first."""
        query = _query(request, "state", "series", "limit", "offset")
        series = checked_uid("series", query["series"]) if "series" in query else None
        page = _page(query)
        return _answer(self._store.jobs.list(states=_states(query), series_instance_uid=series, **page))

    def job(self, request: Request) -> Response:
        """``GET /api/jobs/{job}``: the job, what its worker does, its history, results and deliveries."""
        number = row_number("job", request.path_params["job"])
        job = self._store.jobs.get(number)
        return _answer(
            {
                "job": job,
                "task": self._store.task_of(job),
                "events": self._store.jobs.events(number),
                "results": self._store.jobs.results(number),
                "deliveries": self._store.deliveries.list(job_id=number, limit=MAX_LIMIT),
            }
        )

    def deliveries(self, request: Request) -> Response:
        """``GET /api/deliveries``, the newest first."""
        query = _query(request, "state", "peer", "study", "limit", "offset")
        study = checked_uid("study", query["study"]) if "study" in query else None
        peer, page = query.get("peer"), _page(query)
        found = self._store.deliveries.list(states=_states(query), peer=peer, study_instance_uid=study, **page)
        return _answer(found)

    def act_on_job(self, request: Request, body: Mapping[str, Any]) -> Response:
        """``POST /api/jobs/{job}/{action}``."""
        _check_empty(body)
        number = row_number("job", request.path_params["job"])
        return _answer(
            act_on_job(
                self._store, self._terms(), number, request.path_params["action"], self._clock(), by=actor_of(request)
            )
        )

    def act_on_delivery(self, request: Request, body: Mapping[str, Any]) -> Response:
        """``POST /api/deliveries/{delivery}/{action}``."""
        _check_empty(body)
        number = row_number("delivery", request.path_params["delivery"])
        return _answer(
            act_on_delivery(self._store, number, request.path_params["action"], self._clock(), by=actor_of(request))
        )

    def decide(self, request: Request, body: Mapping[str, Any]) -> Response:
        """``POST /api/studies/{study}/decisions``; who releases says which evidence was looked at."""
        uid, terms = study_uid(request), self._terms()
        for name, value in body.items():
            if name not in _DECISION:
                raise FormError("the key", name, " or ".join(_DECISION))
            if not isinstance(value, str):
                raise FormError(name, json.dumps(value), "a text")
        kind = kind_of(body.get("kind", ""))
        if kind is DecisionKind.RELEASE and _FINGERPRINT not in body:
            raise FormError(_FINGERPRINT, "", "that of the study's document, for a release")
        caller = caller_of(request)
        if caller is not None and body.get("decided_by", caller.name) != caller.name:
            raise FormError("decided_by", body["decided_by"], f"{caller.name!r}, whose token this is, or nothing")
        made = decide(
            self._store,
            uid,
            kind,
            reason=body.get("reason", ""),
            decided_by=body.get("decided_by", "") if caller is None else caller.name,
            now=self._clock(),
            gate_digest=terms.digest,
            rules=terms.rules,
            seen_evidence=body.get(_FINGERPRINT),
        )
        return _answer(made, status=201)


@cache
def openapi(*, signs_in: bool = False) -> dict[str, Any]:
    """Return the description of the whole API.

    Parameters
    ----------
    signs_in
        Whether callers have to show who they are; then every request may be answered 401, 403 or 429.
    """
    text = (resources.files(__package__) / "openapi.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    document["info"]["version"] = __version__
    for method, operation in _operations(document):
        more = {"403"} | ({"408", "413"} if method == "post" else set()) | ({"401", "429"} if signs_in else set())
        for status in sorted(more - operation["responses"].keys()):
            operation["responses"][status] = _LIMITED if status == "429" else _PROBLEM
    if signs_in:
        document["security"] = [{"token": []}]
    return document


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in document["paths"].values():
        yield from ((method, item[method]) for method in ("get", "post") if method in item)


def _answer(value: object, *, status: int = 200) -> Response:
    body = json.dumps(value, default=plain, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return Response(body, status_code=status, media_type="application/json")


def _query(request: Request, *known: str) -> dict[str, str]:
    for name, value in request.query_params.items():
        if name not in known:
            raise FormError("the parameter", name, " or ".join(known))
        if "\0" in value:
            raise FormError(name, value, "text without NUL")
    return dict(request.query_params)


def _check_empty(body: Mapping[str, Any]) -> None:
    for name in body:
        raise FormError("the key", name, "none: the body is {}")


def _states(query: Mapping[str, str]) -> tuple[JobState, ...]:
    words = [word for word in query.get("state", "").split(",") if word]
    try:
        return tuple(JobState(word.lower()) for word in words)
    except ValueError:
        raise FormError("state", query["state"], f"some of {', '.join(JobState)}") from None


def _page(query: Mapping[str, str]) -> dict[str, int]:
    limit = min(_whole("limit", query.get("limit", str(DEFAULT_LIMIT))), MAX_LIMIT)
    return {"limit": limit, "offset": min(_whole("offset", query.get("offset", "0")), _MAX_OFFSET)}


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise FormError(name, text, "a whole number")
    return int(text)
