"""QIDO-RS: search for studies, series and instances (PS3.18 10.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from pydicom.datadict import keyword_for_tag
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.errors import BadRequestError
from dicom_node.dicomweb.json_stream import json_array, stream_json
from dicom_node.dicomweb.media_types import json_media_type
from dicom_node.dicomweb.resources import path_uids, resource_url
from dicom_node.store import GateTerms
from dicom_node.store.index.filter_limits import find_problem
from dicom_node.store.index.gate_state import STATE_TAG, VERDICTS_TAG
from dicom_node.store.index.matches import Matches
from dicom_node.store.index.search import Search

# More results are sent in pages; the longest series and busiest days fit into one.
MAX_RESULTS: Final = 20_000

_PAGING: Final = ("limit", "offset")
_NOT_FILTERS: Final = frozenset({"accept", "includefield", "fuzzymatching", *_PAGING})
_PRIVATE_FILTERS: Final = frozenset({STATE_TAG, VERDICTS_TAG})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD: Final = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")
_FUZZY_WARNING: Final = (
    '299 dicom-node "The fuzzymatching parameter is not supported. Only literal matching has been performed."'
)
_MORE_WARNING: Final = '299 dicom-node "There are additional results that can be requested."'
_RETRIEVE_URL: Final = "00081190"

SearchLevel = Callable[..., Matches]


@dataclass(frozen=True, slots=True)
class Query:
    """A validated search request."""

    filters: Mapping[str, str]
    limit: int
    offset: int
    is_fuzzy: bool


class SearchService:
    """QIDO-RS on the index, at three levels.

    Parameters
    ----------
    terms
        Returns the present rules, by which studies have a state.
    """

    def __init__(self, search: Search, terms: Callable[[], GateTerms]) -> None:
        self._search = search
        self._terms = terms

    def studies(self, request: Request) -> Response:
        """``GET /studies``."""
        return _answer(request, partial(self._search.search_studies, terms=self._terms()), ("StudyInstanceUID",))

    def series(self, request: Request) -> Response:
        """``GET /series`` and ``GET /studies/{study}/series``."""
        levels = ("StudyInstanceUID", "SeriesInstanceUID")
        return _answer(request, partial(self._search.search_series, terms=self._terms()), levels)

    def instances(self, request: Request) -> Response:
        """``GET /instances``, of all studies, one study or one series."""
        levels = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        return _answer(request, self._search.search_instances, levels)


def parse_query(request: Request) -> Query:
    """Parse filters and paging; refuse a parameter that occurs twice, because one would be ignored."""
    filters: dict[str, str] = dict(path_uids(request))
    paging = {"limit": MAX_RESULTS, "offset": 0}
    is_fuzzy = False
    for name, value in request.query_params.multi_items():
        if name in _PAGING:
            paging[name] = whole_number(name, value)
        elif name == "fuzzymatching":
            is_fuzzy = value.lower() == "true"
        elif name not in _NOT_FILTERS:
            keyword = _keyword(name)
            if keyword in filters:
                raise BadRequestError(f"parameter {keyword}", "given more than once", "one value, or a list of UIDs")
            filters[keyword] = _checked_value(keyword, value)
    given = {keyword: value for keyword, value in filters.items() if value}
    return Query(given, min(paging["limit"], MAX_RESULTS), paging["offset"], is_fuzzy)


def _keyword(name: str) -> str:
    """Return the DICOM keyword of a parameter that is a keyword or eight hexadecimal digits; our own tags stay tags."""
    if name in _PRIVATE_FILTERS:
        return name
    keyword = keyword_for_tag(int(name, 16)) if _TAG.fullmatch(name) else name
    if not _KEYWORD.fullmatch(keyword):
        raise BadRequestError("query parameter", name, "a DICOM keyword or a tag of eight hexadecimal digits")
    return keyword


def _checked_value(keyword: str, value: str) -> str:
    """Return the value of a filter, with limits that keep every query within what the index can answer."""
    problem = find_problem(value)
    if problem is not None:
        raise BadRequestError(f"parameter {keyword}", *problem)
    return value


def whole_number(name: str, value: str) -> int:
    """Return the value of a paging parameter."""
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise BadRequestError(f"parameter {name}", value, "a whole number from 0 to 999999999")
    return int(value)


def _answer(request: Request, search_level: SearchLevel, uid_keywords: tuple[str, ...]) -> Response:
    media_type = json_media_type(request, "search results")
    query = parse_query(request)
    found = search_level(query.filters, limit=query.limit, offset=query.offset)
    warnings = [_FUZZY_WARNING] if query.is_fuzzy else []
    if found.has_more:
        warnings.append(_MORE_WARNING)
    headers = {"Warning": ", ".join(warnings)} if warnings else {}
    if not len(found):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    results = (_encoded(_with_retrieve_url(request, attributes, uid_keywords)) for attributes in found)
    return stream_json(request, json_array(results), media_type, headers)


def _encoded(result: dict[str, Any]) -> bytes:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()


_UID_TAGS: Final = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
}


def _with_retrieve_url(request: Request, attributes: dict[str, Any], uid_keywords: tuple[str, ...]) -> dict[str, Any]:
    uids = {keyword: attributes[_UID_TAGS[keyword]]["Value"][0] for keyword in uid_keywords}
    url = {_RETRIEVE_URL: {"vr": "UR", "Value": [resource_url(request, uids)]}}
    return dict(sorted((attributes | url).items()))
