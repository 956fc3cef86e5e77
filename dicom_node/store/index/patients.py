"""Patients, as the studies in the index name them, for queries at the level of patients (PS3.4 C.6.1.1.2).

Studies with the same Patient ID are of one patient; of studies without one, those with the same name. What is said of
a patient is what its latest study says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.errors import UnsupportedFilterError
from dicom_node.store.index.attributes import TAGS
from dicom_node.store.index.matches import JsonObject, Match
from dicom_node.store.index.matching import FilterValue, conditions
from dicom_node.store.schema import series, studies

PATIENT_KEYWORDS: Final = frozenset({"PatientID", "PatientName", "PatientBirthDate", "PatientSex"})
"""Attributes of a patient in the index; a query may filter by each."""
RELATED_STUDIES, RELATED_SERIES, RELATED_INSTANCES = "00201200", "00201202", "00201204"
_TAGS: Final = frozenset(TAGS[keyword] for keyword in PATIENT_KEYWORDS)
_SEPARATOR: Final = " "  # in no date and no UID

_WITHOUT_ID: Final = sa.case((studies.c.patient_id == "", studies.c.patient_name_key), else_="")
_HAS_INSTANCES: Final = (
    sa.select(series.c.series_instance_uid)
    .where(series.c.study_instance_uid == studies.c.study_instance_uid, series.c.n_instances > 0)
    .exists()
)
_KEYS: Final[sa.BindParameter[Any]] = sa.bindparam("keys", expanding=True)
_IDS: Final[sa.BindParameter[Any]] = sa.bindparam("ids", expanding=True)
_ATTRIBUTES: Final = sa.select(
    studies.c.study_instance_uid, studies.c.patient_id, _WITHOUT_ID, studies.c.attributes
).where(studies.c.study_instance_uid.in_(_KEYS))
_TOTALS: Final = (
    sa.select(
        studies.c.patient_id,
        _WITHOUT_ID.label("without_id"),
        sa.func.count(studies.c.study_instance_uid.distinct()),
        sa.func.count(series.c.series_instance_uid),
        sa.func.sum(series.c.n_instances),
    )
    .join_from(studies, series, series.c.study_instance_uid == studies.c.study_instance_uid)
    .where(studies.c.patient_id.in_(_IDS), series.c.n_instances > 0)
    .group_by(studies.c.patient_id, sa.text("without_id"))
)


def matching_patients(filters: Mapping[str, FilterValue], *, is_fuzzy: bool) -> sa.Select[tuple[str, int]]:
    """Select the latest study of each patient with a matching study, and the length of what is said of it.

    Raises
    ------
    UnsupportedFilterError
        A keyword is not in `PATIENT_KEYWORDS`.
    """
    unsupported = sorted(set(filters) - PATIENT_KEYWORDS)
    if unsupported:
        raise UnsupportedFilterError("patient", unsupported[0])
    # No date is the earliest one, also where a database leaves out spaces when it compares.
    date = sa.case((studies.c.study_date == "", "00000000"), else_=studies.c.study_date)
    latest = sa.func.max(date + _SEPARATOR + studies.c.study_instance_uid)
    return (
        sa.select(latest, sa.func.max(sa.func.length(studies.c.attributes)))
        .where(*conditions("study", filters, is_fuzzy=is_fuzzy), _HAS_INSTANCES)
        .group_by(studies.c.patient_id, _WITHOUT_ID)
        .order_by(latest.desc())
    )


def read_patients(connection: sa.Connection, batch: Sequence[Match]) -> Iterator[JsonObject]:
    """Yield the attributes of patients that `matching_patients` found, with the numbers of all that they have."""
    uids = [str(match.key).partition(_SEPARATOR)[2] for match in batch]
    found = {uid: (tuple(key), attributes) for uid, *key, attributes in connection.execute(_ATTRIBUTES, {"keys": uids})}
    ids = sorted({key[0] for key, _ in found.values()})
    totals = {
        (patient_id, without_id): (n_studies, n_series, int(n_instances))
        for patient_id, without_id, n_studies, n_series, n_instances in connection.execute(_TOTALS, {"ids": ids})
    }
    for uid in uids:
        if uid in found and found[uid][0] in totals:
            key, attributes = found[uid]
            numbers = zip((RELATED_STUDIES, RELATED_SERIES, RELATED_INSTANCES), totals[key], strict=True)
            said = {tag: member for tag, member in json.loads(attributes).items() if tag in _TAGS}
            yield said | {tag: {"vr": "IS", "Value": [number]} for tag, number in numbers}
