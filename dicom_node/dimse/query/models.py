"""Information models of query and retrieve: SOP classes, levels and unique keys (PS3.4 C.3 and C.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dicom_node.upper_layer.associate import Extension
from dicom_node.upper_layer.command_set import CommandField


class QueryLevel(StrEnum):
    """Query/Retrieve Level (0008,0052)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def unique_key(self) -> str:
        """Keyword of the attribute that identifies an entity of this level."""
        return _UNIQUE_KEYS[self]


_UNIQUE_KEYS: Final = {
    QueryLevel.PATIENT: "PatientID",
    QueryLevel.STUDY: "StudyInstanceUID",
    QueryLevel.SERIES: "SeriesInstanceUID",
    QueryLevel.IMAGE: "SOPInstanceUID",
}
LEVELS: Final = tuple(QueryLevel)  # from the root downwards


@dataclass(frozen=True, slots=True)
class QueryModel:
    """A SOP class of query or retrieve."""

    operation: CommandField
    levels: tuple[QueryLevel, ...]

    def levels_above(self, level: QueryLevel) -> tuple[QueryLevel, ...]:
        """Return the levels of this model above one of its levels."""
        return self.levels[: self.levels.index(level)]


_ROOT: Final = "1.2.840.10008.5.1.4.1.2."
_OPERATIONS: Final = {1: CommandField.C_FIND_RQ, 2: CommandField.C_MOVE_RQ, 3: CommandField.C_GET_RQ}
_MODELS: Final = {1: LEVELS, 2: LEVELS[1:], 3: LEVELS[:2]}  # Patient Root, Study Root, Patient/Study Only (retired)

QUERY_MODELS: Final = {
    f"{_ROOT}{model}.{operation}": QueryModel(field, levels)
    for model, levels in _MODELS.items()
    for operation, field in _OPERATIONS.items()
}
"""SOP Class UID → operation and levels."""

_SUPPORTED_BY_FIND: Final = bytes((
    1,  # relational queries
    1,  # combined matching of date and time
    1,  # fuzzy matching of person names
    1,  # adjustment of time zones
    0,  # enhanced multi-frame image conversion
    0,  # matching of empty values
    1,  # matching of several values
))  # fmt: skip
"""Item bytes of PS3.4 table C.5-2."""
_SUPPORTED_BY_RETRIEVE: Final = bytes((1, 0))  # relational retrieval; no enhanced multi-frame image conversion
_RELATIONAL, _COMBINED, _FUZZY, _ZONES = range(4)


def answer_extension(proposed: Extension) -> Extension:
    """Return what is granted of what is proposed for a SOP class of `QUERY_MODELS`, as long as the proposal."""
    is_find = QUERY_MODELS[proposed.sop_class_uid].operation is CommandField.C_FIND_RQ
    supported = _SUPPORTED_BY_FIND if is_find else _SUPPORTED_BY_RETRIEVE
    granted = bytes(ours & theirs for ours, theirs in zip(supported, proposed.information, strict=False))
    return Extension(proposed.sop_class_uid, granted)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What was agreed on beyond the baseline: for which SOP classes."""

    relational: frozenset[str] = frozenset()  # unique keys of levels above may be missing
    fuzzy: frozenset[str] = frozenset()  # person names are matched with other vowels and accents
    combined: frozenset[str] = frozenset()  # ranges of a date and its time are one range
    zones: frozenset[str] = frozenset()  # dates and times are in the time zone of the query


def agreed_of(granted: Iterable[Extension]) -> Agreed:
    """Return what extensions that were granted mean."""
    found = list(granted)
    relational, combined, fuzzy, zones = (
        frozenset(each.sop_class_uid for each in found if each.information[index : index + 1] == b"\1")
        for index in (_RELATIONAL, _COMBINED, _FUZZY, _ZONES)
    )
    return Agreed(relational, fuzzy, combined, zones)
