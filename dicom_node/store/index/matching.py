"""Turn query values of QIDO-RS into conditions on the index (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from dicom_node.store.errors import UnsupportedFilterError
from dicom_node.store.index.filing import name_key
from dicom_node.store.index.headers import Level, integer
from dicom_node.store.schema import instances, series, studies

Condition = sa.ColumnElement[bool]
SELECTIVE_CHARACTERS = 3  # of a name, from which on it is looked up before studies are
_ESCAPE = "/"


def _text(column: sa.Column[str]) -> Callable[[str], Condition]:
    def match(value: str) -> Condition:
        if "*" in value or "?" in value:
            return column.like(_like_pattern(value), escape=_ESCAPE)
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


def _patient_name(value: str) -> Condition:
    """Match a person name without regard to case, in any of its three component groups (PS3.4 C.2.2.2.1.1).

    Of a name with a selective beginning the studies are found by two indices; joined by OR, all studies would be looked
    at. Of any other one most studies may match, so they are looked at in the order of the answer until it is full.
    """
    key = name_key(value)
    beginning = re.split(r"[*?]", key)[0]
    is_selective = len(beginning) >= SELECTIVE_CHARACTERS
    named = studies.alias("studies_of_name") if is_selective else studies
    first, groups = named.c.patient_name_key, named.c.patient_name_groups_key
    if beginning != key:
        pattern = _like_pattern(key)
        in_first = sa.and_(_BeginsWith(first, beginning), first.like(pattern, escape=_ESCAPE))
        in_others = groups.like(f"%={pattern}", escape=_ESCAPE)
    else:
        in_first = first == key
        in_others = groups.like(f"%={_like_pattern(key)}%", escape=_ESCAPE)
    if not is_selective:
        return sa.or_(in_first, in_others)
    uid = sa.select(named.c.study_instance_uid)
    return studies.c.study_instance_uid.in_(sa.union_all(uid.where(in_first), uid.where(groups > "", in_others)))


def begins_with(column: sa.Column[str], beginning: str) -> Condition:
    """Return a condition on the beginning of a text; where the database allows, an index finds it."""
    pattern = _like_pattern(re.sub(r"[*?]", "", beginning)) + "%"
    return sa.and_(_BeginsWith(column, beginning), column.like(pattern, escape=_ESCAPE))


class _BeginsWith(sa.sql.functions.FunctionElement[bool]):
    """A range of texts that SQLite finds in an index, where it does not use one for LIKE; true on other databases.

    Texts are compared by their bytes on SQLite only, and the LIKE that comes with it decides on all of them.
    """

    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, column: sa.ColumnElement[str], prefix: str) -> None:
        super().__init__(column, prefix, f"{prefix}\U0010ffff")


@compiles(_BeginsWith)
def _as_truth(element: _BeginsWith, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001, ANN401
    return "1 = 1"


@compiles(_BeginsWith, "sqlite")
def _as_range(element: _BeginsWith, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, begin, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} >= {begin} AND {column} < {end})"


def _referring_physician_name(value: str) -> Condition:
    return _text(studies.c.referring_physician_name_key)(name_key(value))


def _modalities_in_study(value: str) -> Condition:
    other = series.alias("series_of_study")  # the query may be on series itself
    condition = sa.or_(*(_text(other.c.modality)(modality) for modality in _listed(value)))
    return (
        sa.select(other.c.series_instance_uid)
        .where(other.c.study_instance_uid == studies.c.study_instance_uid, condition)
        .exists()
    )


_STUDY: dict[str, Callable[[str], Condition]] = {
    "StudyInstanceUID": _uids(studies.c.study_instance_uid),
    "StudyDate": _range(studies.c.study_date),
    "StudyTime": _range(studies.c.study_time),
    "AccessionNumber": _text(studies.c.accession_number),
    "ModalitiesInStudy": _modalities_in_study,
    "ReferringPhysicianName": _referring_physician_name,
    "PatientName": _patient_name,
    "PatientID": _text(studies.c.patient_id),
    "PatientBirthDate": _range(studies.c.patient_birth_date),
    "PatientSex": _text(studies.c.patient_sex),
    "StudyID": _text(studies.c.study_id),
    "StudyDescription": _text(studies.c.study_description),
}
_SERIES = _STUDY | {
    "StudyInstanceUID": _uids(series.c.study_instance_uid),
    "SeriesInstanceUID": _uids(series.c.series_instance_uid),
    "Modality": _text(series.c.modality),
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
_LEVELS: Mapping[Level, Mapping[str, Callable[[str], Condition]]] = MappingProxyType(
    {"study": _STUDY, "series": _SERIES, "instance": _INSTANCE}
)

SEARCHABLE: Mapping[Level, frozenset[str]] = MappingProxyType(
    {level: frozenset(keywords) for level, keywords in _LEVELS.items()}
)
"""Keywords that a query at each level may filter by, those of higher levels included."""


def conditions(level: Level, filters: Mapping[str, str]) -> list[Condition]:
    """Return the conditions of a query, all of which must hold."""
    unsupported = sorted(set(filters) - SEARCHABLE[level])
    if unsupported:
        raise UnsupportedFilterError(level, unsupported[0])
    return [_LEVELS[level][keyword](value) for keyword, value in filters.items() if value.strip("*")]


def _listed(value: str) -> list[str]:
    return [part for part in re.split(r"[,\\]", value) if part] or [""]


def _like_pattern(value: str) -> str:
    escaped = re.sub(r"[%_/]", lambda found: _ESCAPE + found[0], value)
    return escaped.replace("*", "%").replace("?", "_")
