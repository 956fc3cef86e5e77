"""Queries of QIDO-RS and C-FIND on the index, answered as DICOM JSON objects (PS3.18 10.6 and F.2)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.attributes import Level
from dicom_node.store.index.gate_state import (
    STATE_TAG,
    VERDICTS_TAG,
    GateTerms,
    gate_state,
    has_verdict,
    private_members,
    verdicts_of,
)
from dicom_node.store.index.matches import JsonObject, Match, Matches
from dicom_node.store.index.matching import SEARCHABLE, FilterValue, conditions
from dicom_node.store.index.modalities import MODALITY_KEYWORDS, is_rare
from dicom_node.store.index.moments import TIMEZONE, take_moments, zones_of
from dicom_node.store.index.patients import matching_patients, read_patients
from dicom_node.store.index.retrieval import FoundInstances, find_retrievable
from dicom_node.store.index.rows import InstanceRow
from dicom_node.store.index.series import find_instances
from dicom_node.store.schema import instances, series, studies

# A page ends here whatever limit the query sets; the busiest days of real archives need a third of it.
MAX_ANSWER_CHARACTERS: Final = 64 * 2**20
_COMMON: JsonObject = {
    "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},  # the answer is UTF-8, whatever character set the instances use
    "00080056": {"vr": "CS", "Value": ["ONLINE"]},  # Instance Availability
}
_MODALITIES_IN_STUDY = "00080061"
_STUDY_RELATED_SERIES, _STUDY_RELATED_INSTANCES, _SERIES_RELATED_INSTANCES = "00201206", "00201208", "00201209"


class Search:
    """Queries at four levels; `SEARCHABLE` names the keywords that each of them accepts, but for patients."""

    searchable = SEARCHABLE

    def __init__(self, database: Database) -> None:
        self._database = database

    def search_patients(
        self, filters: Mapping[str, FilterValue], *, limit: int = 100, is_page: bool = True, is_fuzzy: bool = False
    ) -> Matches:
        """Search for patients by `PATIENT_KEYWORDS`; the one with the latest study comes first."""
        matching = matching_patients(filters, is_fuzzy=is_fuzzy)
        return self._matches(matching, self._read_patients, limit=limit, is_page=is_page)

    def search_studies(
        self,
        filters: Mapping[str, FilterValue],
        *,
        limit: int = 100,
        offset: int = 0,
        terms: GateTerms | None = None,
        is_page: bool = True,
        is_fuzzy: bool = False,
        is_combined: bool = False,
    ) -> Matches:
        """Search for studies and return the latest study date first.

        Parameters
        ----------
        filters
            DICOM keyword → value as in the URL: exact, ``*`` and ``?``, ``from-to`` for dates and times, several UIDs
            separated by commas or backslashes. A tuple matches any of its values, an empty value all. With ``terms``
            also `STATE_TAG` and `VERDICTS_TAG`, with any of several words.
        terms
            If given, state and verdicts are returned as private attributes.
        is_page
            End before the answer becomes too long for one page.
        is_fuzzy
            Match person names fuzzily (`name_matching`).
        is_combined
            Match a date and its time as one moment (`moments`).

        Raises
        ------
        UnsupportedFilterError
            A keyword is not in `SEARCHABLE` for this level.
        """
        matching = (
            sa.select(studies.c.study_instance_uid, _characters(studies))
            .where(
                *self._conditions("study", filters, terms, is_fuzzy=is_fuzzy, is_combined=is_combined), _HAS_INSTANCES
            )
            .order_by(studies.c.study_date.desc(), studies.c.study_instance_uid.desc())
        )
        return self._matches(
            matching, partial(self._read_studies, terms=terms), limit=limit, offset=offset, is_page=is_page
        )

    def search_series(
        self,
        filters: Mapping[str, FilterValue],
        *,
        limit: int = 100,
        offset: int = 0,
        terms: GateTerms | None = None,
        is_page: bool = True,
        is_fuzzy: bool = False,
        is_combined: bool = False,
    ) -> Matches:
        """Search for series and include the attributes of their studies; parameters as in `search_studies`."""
        matching = (
            sa.select(series.c.series_instance_uid, _characters(series, studies))
            .join_from(series, studies, series.c.study_instance_uid == studies.c.study_instance_uid)
            .where(
                *self._conditions("series", filters, terms, is_fuzzy=is_fuzzy, is_combined=is_combined),
                series.c.n_instances > 0,
            )
            .order_by(series.c.series_instance_uid)
        )
        return self._matches(
            matching, partial(self._read_series, terms=terms), limit=limit, offset=offset, is_page=is_page
        )

    def search_instances(
        self,
        filters: Mapping[str, FilterValue],
        *,
        limit: int = 100,
        offset: int = 0,
        terms: GateTerms | None = None,
        is_page: bool = True,
        is_fuzzy: bool = False,
        is_combined: bool = False,
        with_replaced: bool = False,
    ) -> Matches:
        """Search for instances, with the attributes of series and study; parameters as in `search_studies`.

        State and verdicts are those of the study and of the series; filters by them need a UID, or take long. Results
        that later ones replaced are found only ``with_replaced``.
        """
        is_current = () if with_replaced else (instances.c.superseded_at.is_(None),)
        matching = (
            sa.select(instances.c.id, _characters(instances, series, studies))
            .join_from(instances, series, instances.c.series_instance_uid == series.c.series_instance_uid)
            .join(studies, series.c.study_instance_uid == studies.c.study_instance_uid)
            .where(
                *self._conditions("instance", filters, terms, is_fuzzy=is_fuzzy, is_combined=is_combined),
                *is_current,
            )
            .order_by(instances.c.series_instance_uid, instances.c.instance_number, instances.c.id)
        )
        read = partial(self._read_instances, terms=terms)
        return self._matches(matching, read, limit=limit, offset=offset, is_page=is_page)

    def _conditions(
        self,
        level: Level,
        filters: Mapping[str, FilterValue],
        terms: GateTerms | None,
        *,
        is_fuzzy: bool,
        is_combined: bool,
    ) -> list[sa.ColumnElement[bool]]:
        """Return the conditions of a query, with those on state and verdicts, which only ``terms`` make possible."""
        private = {} if terms is None else {tag: filters[tag] for tag in (STATE_TAG, VERDICTS_TAG) if filters.get(tag)}
        indexed = {keyword: value for keyword, value in filters.items() if keyword not in private}
        has_few = False
        if not MODALITY_KEYWORDS.isdisjoint(indexed):
            with self._database.read() as connection:
                has_few = is_rare(connection, indexed)
        zones: list[str] = []
        if indexed.get(TIMEZONE):
            with self._database.read() as connection:
                zones = zones_of(connection)
        moments = take_moments(indexed, SEARCHABLE[level], is_combined=is_combined, zones=zones)
        found = conditions(level, indexed, is_fuzzy=is_fuzzy, is_rare=has_few) + moments
        for tag, value in private.items():
            listed = value if isinstance(value, str) else ",".join(value)
            words = listed.lower().replace("\\", ",").split(",")
            if tag == STATE_TAG and terms is not None:
                found.append(gate_state(terms).in_(words))
            else:
                found.append(has_verdict(words, "study" if level == "study" else "series"))
        return found

    def _matches(
        self,
        matching: sa.Select[tuple[Any, Any]],
        read: Callable[[Sequence[Match]], Iterable[JsonObject]],
        *,
        limit: int,
        offset: int = 0,
        is_page: bool = True,
    ) -> Matches:
        """Return the rows of an answer, which ends at ``limit``; a page also ends before it becomes too long."""
        page: list[Match] = []
        n_characters = 0
        with self._database.read() as connection:
            for key, size in connection.execute(matching.limit(limit + 1).offset(offset)):
                n_characters += size
                if len(page) == limit or (is_page and page and n_characters > MAX_ANSWER_CHARACTERS):
                    return Matches(read, page, has_more=True)
                page.append(Match(key, size))
        return Matches(read, page, has_more=False)

    def _read_patients(self, batch: Sequence[Match]) -> Iterator[JsonObject]:
        with self._database.read() as connection:
            yield from [_COMMON | patient for patient in read_patients(connection, batch)]

    def _read_studies(self, batch: Sequence[Match], *, terms: GateTerms | None) -> Iterator[JsonObject]:
        uids = [str(match.key) for match in batch]
        with self._database.read() as connection:
            rows = connection.execute(_studies_with_state(terms), {"keys": uids})
            found = {uid: (attributes, state) for uid, attributes, state in rows}
            totals = _study_totals(connection, list(found))
            words = {} if terms is None else verdicts_of(connection, list(found), "study")
        for uid in uids:
            if uid in found:
                attributes, state = found[uid]
                yield _COMMON | json.loads(attributes) | totals[uid] | _private(state, words.get(uid, ()))

    def _read_series(self, batch: Sequence[Match], *, terms: GateTerms | None) -> Iterator[JsonObject]:
        uids = [str(match.key) for match in batch]
        with self._database.read() as connection:
            words = {} if terms is None else verdicts_of(connection, uids, "series")
            rows = connection.execute(_series_with_state(terms), {"keys": uids})
            found = {uid: tuple(rest) for uid, *rest in rows}
        for uid in uids:
            if uid in found:
                own, study, n_instances, state = found[uid]
                counted = {_SERIES_RELATED_INSTANCES: _integer(n_instances)}
                yield _COMMON | json.loads(study) | json.loads(own) | counted | _private(state, words.get(uid, ()))

    def _read_instances(self, batch: Sequence[Match], *, terms: GateTerms | None) -> Iterator[JsonObject]:
        parsed = cache(json.loads)  # of a batch; most of its instances are of one series
        with self._database.read() as connection:
            rows = connection.execute(_instances_with_state(terms), {"keys": [match.key for match in batch]})
            found = {key: tuple(rest) for key, *rest in rows}
            uids = sorted({uid for uid, *_ in found.values()})
            words = {} if terms is None else verdicts_of(connection, uids, "series")
        for match in batch:
            if match.key in found:
                uid, own, of_series, study, n_instances, state = found[match.key]
                yield (
                    _COMMON
                    | parsed(study)
                    | parsed(of_series)
                    | json.loads(own)
                    | {_SERIES_RELATED_INSTANCES: _integer(n_instances)}
                    | _private(state, words.get(uid, ()))
                )

    def find_retrievable(self, filters: Mapping[str, str], *, limit: int) -> FoundInstances:
        """Find at most ``limit`` instances for C-GET and C-MOVE; filters as in `search_instances`."""
        return find_retrievable(self._database, filters, limit=limit)

    def find_instances(
        self,
        *,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> tuple[InstanceRow, ...]:
        """Return instances for WADO-RS, ordered by series and instance number; at least one UID is required.

        A result that a later one replaced is found only by its SOP Instance UID, for readers that follow a reference.
        """
        return find_instances(
            self._database,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uid=sop_instance_uid,
        )


def _state(terms: GateTerms | None) -> sa.ColumnElement[Any]:
    return sa.null() if terms is None else gate_state(terms)


def _private(state: str | None, words: Sequence[str]) -> Mapping[str, Any]:
    return {} if state is None else private_members(state, words)


def _characters(*tables: sa.Table) -> sa.ColumnElement[int]:
    """Return an expression for the length of a row's DICOM JSON, all levels together."""
    lengths = [sa.func.length(table.c.attributes) for table in tables]
    return sum(lengths[1:], start=lengths[0])


# Statements are built once: to build one takes SQLAlchemy longer than SQLite takes to answer it.
_KEYS: Final[sa.BindParameter[Any]] = sa.bindparam("keys", expanding=True)
_HAS_INSTANCES: Final = (
    sa.select(series.c.series_instance_uid)
    .where(series.c.study_instance_uid == studies.c.study_instance_uid, series.c.n_instances > 0)
    .exists()
)
_TOTALS: Final = (
    sa.select(series.c.study_instance_uid, series.c.modality, sa.func.count(), sa.func.sum(series.c.n_instances))
    .where(series.c.study_instance_uid.in_(_KEYS), series.c.n_instances > 0)
    .group_by(series.c.study_instance_uid, series.c.modality)
    .order_by(series.c.modality)
)


@lru_cache(maxsize=16)
def _studies_with_state(terms: GateTerms | None) -> sa.Select[Any]:
    wanted = sa.select(studies.c.study_instance_uid, studies.c.attributes, _state(terms))
    return wanted.where(studies.c.study_instance_uid.in_(_KEYS))


@lru_cache(maxsize=16)
def _series_with_state(terms: GateTerms | None) -> sa.Select[Any]:
    return (
        sa.select(
            series.c.series_instance_uid,
            series.c.attributes,
            studies.c.attributes,
            series.c.n_instances,
            _state(terms),
        )
        .join_from(series, studies, series.c.study_instance_uid == studies.c.study_instance_uid)
        .where(series.c.series_instance_uid.in_(_KEYS))
    )


@lru_cache(maxsize=16)
def _instances_with_state(terms: GateTerms | None) -> sa.Select[Any]:
    return (
        sa.select(
            instances.c.id,
            instances.c.series_instance_uid,
            instances.c.attributes,
            series.c.attributes,
            studies.c.attributes,
            series.c.n_instances,
            _state(terms),
        )
        .join_from(instances, series, instances.c.series_instance_uid == series.c.series_instance_uid)
        .join(studies, series.c.study_instance_uid == studies.c.study_instance_uid)
        .where(instances.c.id.in_(_KEYS))
    )


def _study_totals(connection: sa.Connection, study_instance_uids: Sequence[str]) -> dict[str, JsonObject]:
    modalities: defaultdict[str, list[str]] = defaultdict(list)
    n_series: defaultdict[str, int] = defaultdict(int)
    n_instances: defaultdict[str, int] = defaultdict(int)
    for uid, modality, series_of_modality, instances_of_modality in connection.execute(
        _TOTALS, {"keys": study_instance_uids}
    ):
        if modality:
            modalities[uid].append(modality)
        n_series[uid] += series_of_modality
        n_instances[uid] += int(instances_of_modality)
    return {
        uid: {
            _MODALITIES_IN_STUDY: {"vr": "CS", "Value": modalities[uid]} if modalities[uid] else {"vr": "CS"},
            _STUDY_RELATED_SERIES: _integer(n_series[uid]),
            _STUDY_RELATED_INSTANCES: _integer(n_instances[uid]),
        }
        for uid in study_instance_uids
    }


def _integer(number: int) -> JsonObject:
    return {"vr": "IS", "Value": [number]}
