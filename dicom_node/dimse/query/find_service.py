"""C-FIND: search the index for what an identifier asks for, and send the matches one after the other (PS3.4 C.4.1).

Keys are matched by the code that answers QIDO-RS, so both find the same. A key that is not matched here is left out of
the query, as the standard wants it, and each match then says so by its status 0xFF01.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from dicom_node.dimse.contexts import AcceptedContext
from dicom_node.dimse.query.answers import AnswerEncoder, Member, text_member
from dicom_node.dimse.query.errors import IdentifierError
from dicom_node.dimse.query.identifier import (
    QUERY_LEVEL,
    TIMEZONE,
    Identifier,
    check_unique_keys,
    check_values,
    read_identifier,
)
from dicom_node.dimse.query.models import QUERY_MODELS, QueryLevel
from dicom_node.dimse.query.private_keys import PrivateKeys, find_private_keys
from dicom_node.dimse.query.receiving import QueryService
from dicom_node.dimse.query.status import QueryStatus
from dicom_node.dimse.status import Answer
from dicom_node.store import GateTerms, Store, UnsupportedFilterError
from dicom_node.store.index.attributes import ATTRIBUTES, Level
from dicom_node.store.index.matches import JsonObject, Matches
from dicom_node.store.index.matching import SEARCHABLE, FilterValue
from dicom_node.store.index.moments import TIMEZONE as ZONE_KEYWORD
from dicom_node.store.index.moments import is_zone
from dicom_node.store.index.patients import (
    PATIENT_KEYWORDS,
    RELATED_INSTANCES,
    RELATED_SERIES,
    RELATED_STUDIES,
)
from dicom_node.upper_layer.command_set import Request

log = logging.getLogger(__name__)

INSTANCE_AVAILABILITY, RETRIEVE_AE_TITLE = 0x00080056, 0x00080054
_STUDY_COUNTS: Final = frozenset({0x00080061, 0x00201206, 0x00201208})  # with Modalities in Study
_SERIES_COUNTS: Final = frozenset({0x00201209})
_PATIENT_COUNTS: Final = frozenset(int(tag, 16) for tag in (RELATED_STUDIES, RELATED_SERIES, RELATED_INSTANCES))
_UNMATCHED: Final = frozenset({TIMEZONE})  # says how others are matched, if that was agreed on (PS3.4 C.2.2.2)
_NARROWING: Final = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"})
_OWN_LEVELS: Final = {
    QueryLevel.STUDY: ("study",),
    QueryLevel.SERIES: ("study", "series"),
    QueryLevel.IMAGE: ("study", "series", "instance"),
}
_INDEX_LEVELS: Final[Mapping[QueryLevel, Level]] = {
    QueryLevel.STUDY: "study",
    QueryLevel.SERIES: "series",
    QueryLevel.IMAGE: "instance",
}


@dataclass(frozen=True, slots=True)
class Query:
    """What a C-FIND searches for, and what it returns.

    Attributes
    ----------
    is_complete
        Every key is matched, and can be returned.
    """

    filters: Mapping[str, FilterValue]
    returned: frozenset[int]
    private: PrivateKeys | None
    is_complete: bool


class FindService(QueryService):
    """Answers the queries of one association."""

    def perform(self, context: AcceptedContext, request: Request, encoded: bytes) -> Answer:
        """Send all matches, and return the last answer."""
        model = QUERY_MODELS[context.abstract_syntax]
        identifier = read_identifier(encoded, context.transfer_syntax_uid, model)
        check_values(identifier)
        check_unique_keys(identifier, model, is_relational=context.abstract_syntax in self.agreed.relational)
        terms = None if self.policy.terms is None else self.policy.terms()
        uid = context.abstract_syntax
        query = plan_query(identifier, has_states=terms is not None, has_zones=uid in self.agreed.zones)
        found = search(
            self.store,
            identifier.level,
            query,
            terms,
            is_fuzzy=uid in self.agreed.fuzzy,
            is_combined=uid in self.agreed.combined,
            limit=self.policy.settings.max_matches,
        )
        status = QueryStatus.PENDING if query.is_complete else QueryStatus.PENDING_WITHOUT_SOME_KEYS
        encoder = AnswerEncoder(context.transfer_syntax_uid, identifier.character_set)
        n_sent = 0
        is_cancelled = self.exchange.is_cancelled(request)
        for match in () if is_cancelled else found:
            members = answer_members(match, identifier, query, self.policy.ae_title)
            self.exchange.send_pending(context.context_id, request, Answer(status, data_set=encoder.encode(members)))
            n_sent += 1
            if is_cancelled := self.exchange.is_cancelled(request):
                break
        answer = self._last_answer(is_cancelled=is_cancelled, has_more=found.has_more)
        fields = {"level": identifier.level.value, "n_matches": n_sent, "status": f"0x{answer.status:04X}"}
        log.info("query answered", extra={**self.fields, **fields})
        return answer

    def _last_answer(self, *, is_cancelled: bool, has_more: bool) -> Answer:
        if is_cancelled:
            return Answer(QueryStatus.CANCELLED)
        if has_more:
            return Answer(QueryStatus.OUT_OF_RESOURCES, f"more than {self.policy.settings.max_matches} matches")
        return Answer(QueryStatus.SUCCESS)


def plan_query(identifier: Identifier, *, has_states: bool, has_zones: bool = False) -> Query:
    """Return what the keys of an identifier mean for the index.

    Parameters
    ----------
    has_states
        The state of a study is known here; otherwise it is a key that is not matched.
    has_zones
        Dates and times are in the time zone of the identifier, which was agreed on.
    """
    private = find_private_keys(identifier)
    searchable = _searchable(identifier.level)
    returnable = _returnable(identifier.level)
    filters: dict[str, FilterValue] = {}
    is_complete = True
    for tag, key in identifier.keys.items():
        if private is not None and tag in private.tags:
            continue
        if tag not in returnable:
            is_complete = is_complete and tag in _UNMATCHED
        elif key.text != "" and tag not in _UNMATCHED:
            if key.text is not None and key.keyword in searchable:
                filters[key.keyword] = _one_or_several(key.keyword, key.text)
            else:
                is_complete = False
    zone = identifier.keys.get(TIMEZONE)
    if has_zones and zone is not None and zone.text:
        if not is_zone(zone.text):
            raise IdentifierError(TIMEZONE, "TimezoneOffsetFromUTC: an offset such as +0100 expected")
        filters[ZONE_KEYWORD] = zone.text
    if private is not None:
        if has_states and _takes_states(identifier.level, filters, private):
            filters |= private.filters
        else:
            is_complete = False
    unique = {_tag(level.unique_key) for level in _levels_down_to(identifier.level)}
    return Query(filters, (frozenset(identifier.keys) & returnable) | unique, private, is_complete)


def _takes_states(level: QueryLevel, filters: Mapping[str, FilterValue], private: PrivateKeys) -> bool:
    """Return whether states and verdicts can be matched: among instances only if a UID leaves few of them."""
    if level is QueryLevel.IMAGE:
        return not private.filters or not _NARROWING.isdisjoint(filters)
    return level is not QueryLevel.PATIENT


def search(
    store: Store,
    level: QueryLevel,
    query: Query,
    terms: GateTerms | None,
    *,
    is_fuzzy: bool,
    is_combined: bool = False,
    limit: int,
) -> Matches:
    """Ask the index; raise `IdentifierError` for a key that it matches only where a UID narrows the query."""
    match level:
        case QueryLevel.PATIENT:
            found = store.search.search_patients
        case QueryLevel.STUDY:
            found = partial(store.search.search_studies, terms=terms, is_combined=is_combined)
        case QueryLevel.SERIES:
            found = partial(store.search.search_series, terms=terms, is_combined=is_combined)
        case QueryLevel.IMAGE:
            asked = terms if query.private is not None else None  # they cost a look at jobs and decisions
            found = partial(store.search.search_instances, terms=asked, is_combined=is_combined)
    try:
        return found(query.filters, limit=limit, is_page=False, is_fuzzy=is_fuzzy)
    except UnsupportedFilterError as error:
        keyword = str(error.args[1])
        raise IdentifierError(_tag(keyword), f"{keyword}: matched only with a UID of its level or above") from error


def answer_members(match: JsonObject, identifier: Identifier, query: Query, ae_title: str) -> dict[int, Member]:
    """Return the attributes of a response: what was asked for and is known here, empty if this match has no value."""
    members: dict[int, Member] = {}
    for tag in query.returned:
        members[tag] = match.get(f"{tag:08X}") or {"vr": _vr(tag)}
    members[QUERY_LEVEL] = text_member("CS", identifier.level.value)
    members[RETRIEVE_AE_TITLE] = text_member("AE", ae_title)
    if query.private is not None:
        members |= query.private.members(match)
    return members


def _one_or_several(keyword: str, text: str) -> FilterValue:
    """Return what a key may be; lists of UIDs and modalities are matched as they are."""
    if "\\" not in text or keyword.endswith("UID") or keyword == "ModalitiesInStudy":
        return text
    return tuple(part for part in text.split("\\") if part) or ""


def _levels_down_to(level: QueryLevel) -> list[QueryLevel]:
    levels = list(QueryLevel)
    return levels[: levels.index(level) + 1]


def _searchable(level: QueryLevel) -> frozenset[str]:
    return PATIENT_KEYWORDS if level is QueryLevel.PATIENT else SEARCHABLE[_INDEX_LEVELS[level]]


def _returnable(level: QueryLevel) -> frozenset[int]:
    """Return the tags of the attributes that matches of a level have."""
    found = {INSTANCE_AVAILABILITY, RETRIEVE_AE_TITLE}
    if level is QueryLevel.PATIENT:
        return frozenset(found | _PATIENT_COUNTS | {_tag(keyword) for keyword in PATIENT_KEYWORDS})
    found |= {tag for tag, (_, _, own) in ATTRIBUTES.items() if own in _OWN_LEVELS[level]}
    return frozenset(found | (_STUDY_COUNTS if level is QueryLevel.STUDY else _SERIES_COUNTS))


def _tag(keyword: str) -> int:
    return next(tag for tag, (name, _, _) in ATTRIBUTES.items() if name == keyword)


def _vr(tag: int) -> str:
    known = ATTRIBUTES.get(tag)
    return known[1] if known is not None else "IS" if tag >> 16 == 0x0020 else "CS"  # counts; availability, modalities
