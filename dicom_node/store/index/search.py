"""QIDO-RS queries on the index, answered as DICOM JSON objects (PS3.18 10.6 and F.2)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.matching import SEARCHABLE, conditions
from dicom_node.store.index.rows import InstanceRow
from dicom_node.store.index.series import find_instances
from dicom_node.store.schema import instances, series, studies

_JsonObject = dict[str, Any]
_COMMON: _JsonObject = {
    "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},  # the answer is UTF-8, whatever the instances are in
    "00080056": {"vr": "CS", "Value": ["ONLINE"]},  # Instance Availability
}
_MODALITIES_IN_STUDY = "00080061"
_STUDY_RELATED_SERIES, _STUDY_RELATED_INSTANCES, _SERIES_RELATED_INSTANCES = "00201206", "00201208", "00201209"


class Search:
    """Queries at three levels; `SEARCHABLE` names the keywords that each of them takes."""

    searchable = SEARCHABLE

    def __init__(self, database: Database) -> None:
        self._database = database

    def search_studies(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """Studies that match, the latest study date first.

        Parameters
        ----------
        filters
            DICOM keyword → value as in the URL: exact, ``*`` and ``?``, ``from-to`` for dates and times, several UIDs
            with commas or backslashes between. An empty value matches all.

        Raises
        ------
        UnsupportedFilterError
            A keyword is not in `SEARCHABLE` for this level.
        """
        statement = (
            sa.select(studies.c.study_instance_uid, studies.c.attributes)
            .where(*conditions("study", filters), _has_instances())
            .order_by(studies.c.study_date.desc(), studies.c.study_instance_uid.desc())
            .limit(limit)
            .offset(offset)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
            totals = _study_totals(connection, [row.study_instance_uid for row in rows])
        return tuple(_COMMON | json.loads(row.attributes) | totals[row.study_instance_uid] for row in rows)

    def search_series(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """Series that match, with the attributes of their studies; filters as for `search_studies`."""
        statement = (
            sa.select(series.c.attributes, studies.c.attributes, series.c.n_instances)
            .join_from(series, studies, series.c.study_instance_uid == studies.c.study_instance_uid)
            .where(*conditions("series", filters), series.c.n_instances > 0)
            .order_by(series.c.series_instance_uid)
            .limit(limit)
            .offset(offset)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(
            _COMMON | json.loads(study) | json.loads(own) | {_SERIES_RELATED_INSTANCES: _integer(n_instances)}
            for own, study, n_instances in rows
        )

    def search_instances(
        self, filters: Mapping[str, str], *, limit: int = 100, offset: int = 0
    ) -> tuple[dict[str, Any], ...]:
        """Instances that match, with the attributes of their series and studies; filters as for `search_studies`."""
        statement = (
            sa.select(instances.c.attributes, series.c.attributes, studies.c.attributes, series.c.n_instances)
            .join_from(instances, series, instances.c.series_instance_uid == series.c.series_instance_uid)
            .join(studies, series.c.study_instance_uid == studies.c.study_instance_uid)
            .where(*conditions("instance", filters), instances.c.superseded_at.is_(None))
            .order_by(instances.c.series_instance_uid, instances.c.instance_number, instances.c.id)
            .limit(limit)
            .offset(offset)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(
            _COMMON
            | json.loads(study)
            | json.loads(one_series)
            | json.loads(own)
            | {_SERIES_RELATED_INSTANCES: _integer(n_instances)}
            for own, one_series, study, n_instances in rows
        )

    def find_instances(
        self,
        *,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> tuple[InstanceRow, ...]:
        """Instances for WADO-RS, ordered by series and instance number; at least one UID is wanted.

        A result that a later one replaced is found by its own SOP Instance UID only, for those who follow a reference.
        """
        return find_instances(
            self._database,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uid=sop_instance_uid,
        )


def _has_instances() -> sa.ColumnElement[bool]:
    its_series = sa.select(series.c.series_instance_uid).where(
        series.c.study_instance_uid == studies.c.study_instance_uid, series.c.n_instances > 0
    )
    return its_series.exists()


def _study_totals(connection: sa.Connection, study_instance_uids: Sequence[str]) -> dict[str, _JsonObject]:
    by_modality = (
        sa.select(series.c.study_instance_uid, series.c.modality, sa.func.count(), sa.func.sum(series.c.n_instances))
        .where(series.c.study_instance_uid.in_(study_instance_uids), series.c.n_instances > 0)
        .group_by(series.c.study_instance_uid, series.c.modality)
        .order_by(series.c.modality)
    )
    modalities: defaultdict[str, list[str]] = defaultdict(list)
    n_series: defaultdict[str, int] = defaultdict(int)
    n_instances: defaultdict[str, int] = defaultdict(int)
    for uid, modality, series_of_modality, instances_of_modality in connection.execute(by_modality):
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


def _integer(number: int) -> _JsonObject:
    return {"vr": "IS", "Value": [number]}
