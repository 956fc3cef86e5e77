"""Turn query values of QIDO-RS into conditions on the index (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import sqlalchemy as sa

from dicom_node.store.errors import UnsupportedFilterError
from dicom_node.store.index.attributes import Level, integer
from dicom_node.store.index.filing import name_key
from dicom_node.store.index.kept_values import kept_conditions
from dicom_node.store.index.like import ESCAPE, like_pattern
from dicom_node.store.index.name_matching import fuzzy_patient_name, fuzzy_referring_physician, patient_name
from dicom_node.store.schema import instances, series, studies, without_index

Condition = sa.ColumnElement[bool]


def _text(column: sa.ColumnElement[str]) -> Callable[[str], Condition]:
    def match(value: str) -> Condition:
        if "*" in value or "?" in value:
            return column.like(like_pattern(value), escape=ESCAPE)
        return column == value

    return match


def _uids(column: sa.Column[str]) -> Callable[[str], Condition]:
    def match(value: str) -> Condition:
        uids = _listed(value)
        return column == uids[0] if len(uids) == 1 else column.in_(uids)

    return match


def _range(column: sa.Column[str]) -> Callable[[str], Condition]:
    """Match ranges of dates and times as text; ``~`` sorts after all their characters, so that 1030 includes 103059."""

    def match(value: str) -> Condition:
        if "-" not in value:
            return column == value
        first, _, last = value.partition("-")
        known = column != ""
        if first and last:
            return sa.and_(known, column >= first, column <= last + "~")
        return sa.and_(known, column >= first) if first else sa.and_(known, column <= last + "~")

    return match


def _number(column: sa.Column[int | None]) -> Callable[[str], Condition]:
    def match(value: str) -> Condition:
        number = integer(value)
        return sa.false() if number is None else column == number

    return match


def _referring_physician_name(value: str) -> Condition:
    return _text(studies.c.referring_physician_name_key)(name_key(value))


def _modalities_in_study(value: str) -> Condition:
    other = series.alias("series_of_study")  # the query may be on series itself
    condition = sa.or_(*(_text(without_index(other.c.modality))(modality) for modality in _listed(value)))
    return (
        sa.select(other.c.series_instance_uid)
        .where(other.c.study_instance_uid == studies.c.study_instance_uid, condition)
        .exists()
    )


def _rare_modalities_in_study(value: str) -> Condition:
    other = series.alias("series_of_modality")
    return studies.c.study_instance_uid.in_(
        sa.select(other.c.study_instance_uid).where(other.c.modality.in_(_listed(value)))
    )


_STUDY: dict[str, Callable[[str], Condition]] = {
    "StudyInstanceUID": _uids(studies.c.study_instance_uid),
    "StudyDate": _range(studies.c.study_date),
    "StudyTime": _range(studies.c.study_time),
    "AccessionNumber": _text(studies.c.accession_number),
    "ModalitiesInStudy": _modalities_in_study,
    "ReferringPhysicianName": _referring_physician_name,
    "PatientName": patient_name,
    "PatientID": _text(studies.c.patient_id),
    "PatientBirthDate": _range(studies.c.patient_birth_date),
    "PatientSex": _text(studies.c.patient_sex),
    "StudyID": _text(studies.c.study_id),
    "StudyDescription": _text(studies.c.study_description),
}
_SERIES = _STUDY | {
    "StudyInstanceUID": _uids(series.c.study_instance_uid),
    "SeriesInstanceUID": _uids(series.c.series_instance_uid),
    "Modality": _text(without_index(series.c.modality)),
    "SeriesNumber": _number(series.c.series_number),
    "SeriesDescription": _text(series.c.series_description),
    "BodyPartExamined": _text(series.c.body_part_examined),
    "PerformedProcedureStepStartDate": _range(series.c.performed_procedure_step_start_date),
    "PerformedProcedureStepStartTime": _range(series.c.performed_procedure_step_start_time),
}
_INSTANCE = _SERIES | {
    "StudyInstanceUID": _uids(instances.c.study_instance_uid),
    "SeriesInstanceUID": _uids(instances.c.series_instance_uid),
    "SOPInstanceUID": _uids(instances.c.sop_instance_uid),
    "SOPClassUID": _uids(instances.c.sop_class_uid),
    "InstanceNumber": _number(instances.c.instance_number),
}
_COLUMNS = frozenset(_INSTANCE)
_STUDY_KEPT = kept_conditions("study", except_for=_COLUMNS)
_SERIES_KEPT = _STUDY_KEPT | kept_conditions("series", except_for=_COLUMNS)
_INSTANCE_KEPT = _SERIES_KEPT | kept_conditions("instance", except_for=_COLUMNS)
_LEVELS: Mapping[Level, Mapping[str, Callable[[str], Condition]]] = MappingProxyType(
    {"study": _STUDY | _STUDY_KEPT, "series": _SERIES | _SERIES_KEPT, "instance": _INSTANCE | _INSTANCE_KEPT}
)
_FUZZY: Mapping[str, Callable[[str], Condition]] = MappingProxyType(
    {"PatientName": fuzzy_patient_name, "ReferringPhysicianName": fuzzy_referring_physician}
)
_RARE: Mapping[str, Callable[[str], Condition]] = MappingProxyType(
    {"ModalitiesInStudy": _rare_modalities_in_study, "Modality": _text(series.c.modality)}
)
_NARROWING = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"})

SEARCHABLE: Mapping[Level, frozenset[str]] = MappingProxyType(
    {level: frozenset(keywords) for level, keywords in _LEVELS.items()}
)
"""Keywords that a query at each level may filter by, those of higher levels included."""

FilterValue = str | tuple[str, ...]
"""What an attribute must be: one value, or any one of several."""


def conditions(
    level: Level, filters: Mapping[str, FilterValue], *, is_fuzzy: bool = False, is_rare: bool = False
) -> list[Condition]:
    """Return the conditions of a query, all of which must hold.

    Parameters
    ----------
    is_fuzzy
        Match person names with other vowels and accents, and their words in any order.
    is_rare
        Few series have the modalities that are asked for (`modalities.is_rare`).

    Raises
    ------
    UnsupportedFilterError
        A keyword is not in `SEARCHABLE`, or is one of instances that no UID narrows down.
    """
    unsupported = sorted(set(filters) - SEARCHABLE[level])
    if not unsupported and level == "instance" and _NARROWING.isdisjoint(filters):
        unsupported = sorted(set(filters) & set(_INSTANCE_KEPT))
    if unsupported:
        raise UnsupportedFilterError(level, unsupported[0])
    matchers = {**_LEVELS[level], **(_FUZZY if is_fuzzy else {}), **(_rare(level) if is_rare else {})}
    found = []
    for keyword, value in filters.items():
        values = (value,) if isinstance(value, str) else value
        if all(one.strip("*") for one in values):
            found.append(sa.or_(*(matchers[keyword](one) for one in values)))
    return found


def _rare(level: Level) -> Mapping[str, Callable[[str], Condition]]:
    return {keyword: matcher for keyword, matcher in _RARE.items() if keyword in _LEVELS[level]}


def _listed(value: str) -> list[str]:
    return [part for part in re.split(r"[,\\]", value) if part] or [""]
