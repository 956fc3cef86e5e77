"""Decide what happens to an attribute: the table's action, or the engine's own rule if the table does not list it.

Deny by default: an attribute is kept only if the table, its value representation or the profile allows it. The rule
depends only on the attribute's position, never on its value, so it is decided once for each position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pydicom.datadict import dictionary_keyword, dictionary_VR

from dicom_node.export.attribute_types import types_of_iod
from dicom_node.export.profile import Profile
from dicom_node.export.standard_table import Option, read_table


class Do(Enum):
    """Action on an element."""

    KEEP = auto()  # unchanged bytes
    DROP = auto()
    EMPTY = auto()
    DUMMY = auto()
    MAP_UID = auto()
    MOVE_DATE = auto()
    KEEP_TIME = auto()  # if it is a valid time
    CHECK_NUMBERS = auto()  # DS and IS: kept if every value is a number
    CHECK_CODE_STRING = auto()  # CS: kept if every word is a public one
    CHECK_TEXT = auto()  # kept if the profile lists the value
    RECURSE = auto()  # a sequence: apply the rules to every item


@dataclass(frozen=True, slots=True)
class Rule:
    """Action on an attribute, and the action to take instead if a value fails its check."""

    do: Do
    otherwise: Do
    vr: str  # from the dictionary, possibly "US or SS"
    keyword: str
    is_described: bool = False  # kept text counts as Clean Descriptors (113105)


BINARY_VRS: Final = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
TEXT_VRS: Final = frozenset({"LO", "LT", "SH", "ST", "UC", "UR", "UT", "AE", "PN", "AS"})
PIXEL_KEYWORDS: Final = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})
KEPT_BULK: Final = PIXEL_KEYWORDS | {
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "LUTData", "ModalityLUTData"),
    *("RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    *("SegmentedBluePaletteColorLookupTableData", "RealWorldValueLUTData"),
}
# UIDs that identify a class of things: never mapped, whoever registered them.
CLASS_UID_KEYWORDS: Final = frozenset(
    {
        *("SOPClassUID", "ReferencedSOPClassUID", "RequestedSOPClassUID", "AffectedSOPClassUID"),
        *("RelatedGeneralSOPClassUID", "OriginalSpecializedSOPClassUID", "ReferencedRelatedGeneralSOPClassUIDInFile"),
        *("CodingSchemeUID", "ContextUID", "MappingResourceUID", "AvailableTransferSyntaxUID"),
        *("EncryptedContentTransferSyntaxUID", "MACCalculationTransferSyntaxUID"),
    }
)
# Sequences of references only: the table removes them, but with mapped UIDs they link the copies to each other.
_REFERENCES: Final = frozenset(
    {
        "ReferencedStudySequence",
        "ReferencedImageSequence",
        "SourceImageSequence",
        "ReferencedPerformedProcedureStepSequence",
    }
)
_COMPOUND_ORDER: Final = {"1": Do.DUMMY, "1C": Do.DUMMY, "2": Do.EMPTY, "2C": Do.EMPTY}
_DROPPED: Final = Rule(Do.DROP, Do.DROP, "UN", "")


class Rules:
    """Rules of one SOP class under one profile, each decided once and cached."""

    def __init__(self, profile: Profile, sop_class_uid: str) -> None:
        self._text = profile.text
        self._options: Sequence[Option] = (*profile.options, Option.CLEAN_STRUCTURED_CONTENT)
        self._types: Mapping[tuple[str, str], str] = types_of_iod(sop_class_uid)
        self._known: dict[tuple[str, int], Rule] = {}

    def rule(self, parent_keyword: str, tag: int) -> Rule:
        """Return the rule for an even-group attribute within a sequence (``""``: at the top level)."""
        key = (parent_keyword, tag)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._decide(parent_keyword, tag)
        return known

    def _decide(self, parent: str, tag: int) -> Rule:
        group, element = tag >> 16, tag & 0xFFFF
        if element == 0 or group <= 0x0007 or group >= 0xFFFA or group & 0xFF00 in (0x5000, 0x6000):
            return _DROPPED
        try:
            vr, keyword = dictionary_VR(tag), dictionary_keyword(tag)
        except KeyError:
            return _DROPPED
        if parent and keyword in PIXEL_KEYWORDS:  # a thumbnail, which may show a face
            return Rule(Do.DROP, Do.DROP, vr, keyword)
        kind = self._types.get((parent, keyword), "3")
        milder = _COMPOUND_ORDER.get(kind, Do.DROP)  # what may replace a missing value
        row = read_table().get(tag)
        if vr == "SQ":
            return Rule(
                self._of_sequence(keyword, row.action(self._options) if row else "", milder), milder, vr, keyword
            )
        if row is None:
            return self._unlisted(vr, keyword, milder)
        action = row.action(self._options)
        if action in ("K", "C"):
            if vr in TEXT_VRS and action == "K" and keyword not in self._text:
                return Rule(Do.KEEP, milder, vr, keyword)
            return self._unlisted(vr, keyword, milder)
        if action == "U":
            return Rule(Do.MAP_UID, milder, vr, keyword)
        removal = _of_action(action, milder)
        if removal is Do.DUMMY and vr == "UI":
            return Rule(Do.MAP_UID, Do.DROP, vr, keyword)
        if keyword in self._text and ("cleanDescOpt", "C") in read_table_columns(tag):
            return Rule(Do.CHECK_TEXT, removal, vr, keyword, is_described=True)
        return Rule(removal, removal, vr, keyword)

    def _of_sequence(self, keyword: str, action: str, milder: Do) -> Do:
        if keyword in _REFERENCES or action in ("", "K", "C", "D", "U"):
            return Do.RECURSE
        removal = _of_action(action, milder)
        return Do.RECURSE if removal is Do.DUMMY else removal

    def _unlisted(self, vr: str, keyword: str, milder: Do) -> Rule:
        """Return the rule of an attribute that is not in the table, by its value representation."""
        if vr.split(" or ")[0] in BINARY_VRS:
            do = Do.KEEP
        elif vr in ("DS", "IS"):
            do = Do.CHECK_NUMBERS
        elif vr == "CS":
            do = Do.CHECK_CODE_STRING
        elif vr == "UI":
            do = Do.MAP_UID
        elif vr in ("DA", "DT"):
            do = Do.MOVE_DATE if Option.MODIFIED_DATES in self._options else milder
        elif vr == "TM":
            do = Do.KEEP_TIME if Option.MODIFIED_DATES in self._options else milder
        elif vr.split(" or ")[0] in BULK_VRS:
            do = Do.KEEP if keyword in KEPT_BULK else milder
        else:
            do = Do.CHECK_TEXT if keyword in self._text else milder
        if milder is Do.DUMMY and (vr == "UI" or keyword == "SpecificCharacterSet"):
            milder = Do.DROP  # there is no dummy UID, and none that a reader would take for a character set
        return Rule(do, milder, vr, keyword)


def read_table_columns(tag: int) -> tuple[tuple[str, str], ...]:
    """Return the option columns of an attribute that are not empty."""
    row = read_table().get(tag)
    return row.options if row else ()


def _of_action(action: str, milder: Do) -> Do:
    """Return the action for a code of the table; compounds follow the attribute's type (PS3.15 E.2)."""
    if action == "X":
        return Do.DROP
    if action == "Z":
        return Do.DUMMY if milder is Do.DUMMY else Do.EMPTY
    if action == "D":
        return Do.DUMMY
    if action == "Z/D":
        return Do.DUMMY if milder is Do.DUMMY else Do.EMPTY
    if action == "X/Z" and milder is Do.DUMMY:
        return Do.DUMMY
    return milder
