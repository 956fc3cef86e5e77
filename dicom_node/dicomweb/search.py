"""QIDO-RS: search for studies, series and instances (PS3.18 10.6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.errors import BadRequestError
from dicom_node.dicomweb.include_fields import MAX_ENRICHED, Enricher, IncludeFields, parse_include_fields
from dicom_node.dicomweb.json_stream import json_array, stream_json, xml_response
from dicom_node.dicomweb.kept_metadata import KeptMetadata
from dicom_node.dicomweb.media_types import DICOM_XML, metadata_type
from dicom_node.dicomweb.resources import path_uids, resource_url
from dicom_node.store import GateTerms
from dicom_node.store.index.date_forms import expected_form, forms_of, is_date_or_time
from dicom_node.store.index.filter_limits import MAX_LISTED, find_problem
from dicom_node.store.index.gate_state import STATE_TAG, VERDICTS_TAG
from dicom_node.store.index.matches import Matches
from dicom_node.store.index.matching import FilterValue
from dicom_node.store.index.moments import TIMEZONE, is_zone
from dicom_node.store.index.search import Search

# More results are sent in pages; the longest series and busiest days fit into one.
MAX_RESULTS: Final = 20_000

_PAGING: Final = ("limit", "offset")
_NOT_FILTERS: Final = frozenset({"accept", "includefield", "fuzzymatching", *_PAGING})
_PRIVATE_FILTERS: Final = frozenset({STATE_TAG, VERDICTS_TAG})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD: Final = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")
MAX_REPEATED: Final = 16  # of one parameter
MAX_TOLD: Final = 8  # ignored parameters that are named
_SEPARATOR: Final = re.compile(r"[,\\]")
_SHOWABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ENRICHED_WARNING: Final = (
    f'299 dicom-node "Attributes that only the instances hold are included in the first {MAX_ENRICHED} results."'
)
_MORE_WARNING: Final = '299 dicom-node "There are additional results that can be requested."'
_RETRIEVE_URL: Final = "00081190"

SearchLevel = Callable[..., Matches]


@dataclass(frozen=True, slots=True)
class Query:
    """A validated search request."""

    filters: Mapping[str, FilterValue]
    limit: int
    offset: int
    is_fuzzy: bool
    fields: IncludeFields
    ignored: tuple[str, ...]  # names of parameters and fields that are none


class SearchService:
    """QIDO-RS on the index, at three levels.

    Parameters
    ----------
    terms
        Returns the present rules, by which studies have a state.
    metadata
        Where attributes come from that the index does not hold.
    """

    def __init__(self, search: Search, terms: Callable[[], GateTerms], metadata: KeptMetadata) -> None:
        self._search = search
        self._terms = terms
        self._enricher = Enricher(search, metadata)

    def studies(self, request: Request) -> Response:
        """``GET /studies``."""
        return self._answer(request, partial(self._search.search_studies, terms=self._terms()), ("StudyInstanceUID",))

    def series(self, request: Request) -> Response:
        """``GET /series`` and ``GET /studies/{study}/series``."""
        levels = ("StudyInstanceUID", "SeriesInstanceUID")
        return self._answer(request, partial(self._search.search_series, terms=self._terms()), levels)

    def instances(self, request: Request) -> Response:
        """``GET /instances``, of all studies, one study or one series."""
        levels = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        return self._answer(request, self._search.search_instances, levels)

    def _answer(self, request: Request, search_level: SearchLevel, uid_keywords: tuple[str, ...]) -> Response:
        media_type = metadata_type(request, "search results")
        query = parse_query(request)
        found = search_level(
            query.filters, limit=query.limit, offset=query.offset, is_fuzzy=query.is_fuzzy, is_combined=True
        )
        warnings = [f'299 dicom-node "Ignored, because it is no DICOM attribute: {name}"' for name in query.ignored]
        if found.has_more:
            warnings.append(_MORE_WARNING)
        if query.fields and len(found) > MAX_ENRICHED:
            warnings.append(_ENRICHED_WARNING)
        headers = {"Warning": ", ".join(warnings)} if warnings else {}
        if not len(found):
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
        results: Iterator[dict[str, Any]] = iter(found)
        if query.fields:
            results = self._enricher.enriched(results, query.fields)
        located = (_with_retrieve_url(request, attributes, uid_keywords) for attributes in results)
        if media_type == DICOM_XML:
            response = xml_response(request, located)
            response.headers.update(headers)
            return response
        return stream_json(request, json_array(map(_encoded, located)), media_type, headers)


def parse_query(request: Request) -> Query:
    """Parse filters, paging and fields.

    A parameter that occurs twice matches either value. One that is no DICOM attribute is ignored and named; one that
    looks like an attribute and is none is refused, because without it other patients' studies would be answered.
    """
    in_path = path_uids(request)
    filters: dict[str, list[str]] = {}
    paging = {"limit": MAX_RESULTS, "offset": 0}
    is_fuzzy = False
    ignored: list[str] = []
    for name, value in request.query_params.multi_items():
        if name in _PAGING:
            paging[name] = whole_number(name, value)
        elif name == "fuzzymatching":
            is_fuzzy = value.lower() == "true"
        elif name not in _NOT_FILTERS:
            keyword = _keyword(name)
            if keyword is None:
                ignored.append(name)
            elif keyword in in_path:
                raise BadRequestError(f"parameter {keyword}", "given in the path already", "one of both")
            else:
                filters.setdefault(keyword, []).append(_checked_value(keyword, value))
    fields, unknown = parse_include_fields(request.query_params.getlist("includefield"))
    for keyword, values in filters.items():
        n_listed = sum(1 + len(_SEPARATOR.findall(value)) for value in values)
        if len(values) > MAX_REPEATED or n_listed > MAX_LISTED:
            expected = f"at most {MAX_REPEATED} times, with {MAX_LISTED} values in all"
            raise BadRequestError(f"parameter {keyword}", f"given {len(values)} times", expected)
    given: dict[str, FilterValue] = {}
    for keyword, values in filters.items():
        wanted = tuple(form for value in values for form in forms_of(keyword, value))
        if any(wanted):
            given[keyword] = wanted[0] if len(wanted) == 1 else wanted
    told = tuple(name if _SHOWABLE.fullmatch(name) else "a parameter" for name in (*ignored, *unknown))
    limit = min(paging["limit"], MAX_RESULTS)
    return Query(in_path | given, limit, paging["offset"], is_fuzzy, fields, told[:MAX_TOLD])


def _keyword(name: str) -> str | None:
    """Return the keyword of a parameter: a keyword, eight hexadecimal digits, or two of them with a dot between.

    None if it is no attribute. Our own tags stay tags.
    """
    if name in _PRIVATE_FILTERS:
        return name
    parts = name.split(".")
    keywords = [keyword_for_tag(int(part, 16)) if _TAG.fullmatch(part) else part for part in parts]
    if len(parts) <= 2 and all(part and tag_for_keyword(part) is not None for part in keywords):
        return ".".join(keywords)
    if all(_KEYWORD.fullmatch(part) or _TAG.fullmatch(part) for part in parts):
        raise BadRequestError("query parameter", name, "a DICOM keyword or a tag of eight hexadecimal digits")
    return None


def _checked_value(keyword: str, value: str) -> str:
    """Return the value of a filter, with limits that keep every query within what the index can answer."""
    if keyword == TIMEZONE and value:
        value = value.replace(" ", "+", 1)  # an unencoded plus is a space in a query
        if not is_zone(value):
            raise BadRequestError(f"parameter {keyword}", value, "an offset from UTC such as +0100")
    problem = find_problem(value)
    if problem is not None:
        raise BadRequestError(f"parameter {keyword}", *problem)
    if is_date_or_time(keyword):
        value = value.rstrip(" ")  # padding
        expected = expected_form(keyword, value)
        if expected is not None:
            raise BadRequestError(f"parameter {keyword}", value, expected)
    return value


def whole_number(name: str, value: str) -> int:
    """Return the value of a paging parameter; more than any index holds is as good as all of it."""
    if not re.fullmatch(r"[0-9]{1,100}", value):
        raise BadRequestError(f"parameter {name}", value, "a whole number that is not negative")
    return min(int(value), _MORE_THAN_ANY_INDEX_HOLDS)


def _encoded(result: dict[str, Any]) -> bytes:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()


_MORE_THAN_ANY_INDEX_HOLDS: Final = 10**9
_UID_TAGS: Final = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
}


def _with_retrieve_url(request: Request, attributes: dict[str, Any], uid_keywords: tuple[str, ...]) -> dict[str, Any]:
    uids = {keyword: attributes[_UID_TAGS[keyword]]["Value"][0] for keyword in uid_keywords}
    url = {_RETRIEVE_URL: {"vr": "UR", "Value": [resource_url(request, uids)]}}
    return dict(sorted((attributes | url).items()))
