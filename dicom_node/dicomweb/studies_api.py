"""A small JSON API that only reads: studies with their state and history, and reports of series."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dicom_node.dicomweb.errors import BadRequestError, NoSuchResourceError
from dicom_node.dicomweb.json_stream import json_array, stream_json
from dicom_node.dicomweb.media_types import JSON, accepted_ranges
from dicom_node.dicomweb.resources import base_url, path_uids
from dicom_node.dicomweb.search import whole_number
from dicom_node.gate.decisions import GateState, list_standpoints
from dicom_node.gate.documents import Terms, documents, study_document, study_history
from dicom_node.json_values import plain
from dicom_node.report_text import report_text
from dicom_node.store import Store

API_ROOT: Final = "/api"
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_KNOWN: Final = ("state", "limit", "offset")


class StudiesApi:
    """Studies and reports over the store.

    Parameters
    ----------
    terms
        Returns the rules and the pipeline that the node has now.
    """

    def __init__(self, store: Store, terms: Callable[[], Terms]) -> None:
        self._store = store
        self._terms = terms

    def studies(self, request: Request) -> Response:
        """``GET /api/studies?state=review&limit=100&offset=0``: an array; the header Link names the next page."""
        for name in request.query_params:
            if name not in _KNOWN:
                raise BadRequestError("query parameter", name, " or ".join(_KNOWN))
        state = _state(request.query_params.get("state"))
        limit = min(whole_number("limit", request.query_params.get("limit", str(DEFAULT_LIMIT))), MAX_LIMIT)
        offset = whole_number("offset", request.query_params.get("offset", "0"))
        terms = self._terms()
        found = list_standpoints(self._store, terms.digest, terms.rules, state=state, limit=limit + 1, offset=offset)
        headers = {}
        if len(found) > limit:
            page = {"limit": limit, "offset": offset + limit} | ({} if state is None else {"state": state.value})
            headers["Link"] = f'<{base_url(request)}{API_ROOT}/studies?{urlencode(page)}>; rel="next"'
        made = documents(self._store, terms, found[:limit])
        return stream_json(request, json_array(map(_encoded, made)), JSON, headers)

    def study(self, request: Request) -> Response:
        """``GET /api/studies/{uid}``."""
        uid = path_uids(request)["StudyInstanceUID"]
        return Response(_encoded(study_document(self._store, self._terms(), uid)), media_type=JSON)

    def history(self, request: Request) -> Response:
        """``GET /api/studies/{uid}/history``: the decisions of people, the newest first."""
        uid = path_uids(request)["StudyInstanceUID"]
        return stream_json(request, json_array(map(_encoded, study_history(self._store, uid))), JSON)

    def report(self, request: Request) -> Response:
        """``GET /api/series/{uid}/report``: an array with a report for each stack, or text where that is preferred."""
        uid = path_uids(request)["SeriesInstanceUID"]
        reports = self._store.studies.reports(uid)
        if not reports:
            raise NoSuchResourceError(f"report of series {uid}")
        first = next((one.media_type for one in accepted_ranges(request) if one.media_type in _REPORT_TYPES), JSON)
        if first.startswith("text/"):
            return PlainTextResponse("\n".join(map(report_text, reports)))
        return stream_json(request, json_array(map(_encoded, reports)), JSON)


_REPORT_TYPES: Final = (JSON, "*/*", "application/*", "text/plain", "text/*")


def _state(word: str | None) -> GateState | None:
    if word is None:
        return None
    try:
        return GateState(word.lower())
    except ValueError:
        known = ", ".join(state.value for state in GateState)
        raise BadRequestError("parameter state", word, f"one of {known}") from None


def _encoded(value: object) -> bytes:
    return json.dumps(value, default=plain, ensure_ascii=False, separators=(",", ":")).encode()
