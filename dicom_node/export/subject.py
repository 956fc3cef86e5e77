"""Content items of a report that describe the patient: they are treated as the attributes of the header are.

A content item stays where it is, since others may refer to it by its place; only its value goes.
"""

from __future__ import annotations

from typing import Final

from highdicom.sr.coding import CodedConcept
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from dicom_node.export.rules import Do
from dicom_node.export.values import OLDEST_YEARS, dummy
from sr_writer.encoding import encoded_element

# Code and scheme, of PS3.16 TID 1007 and 3602, and their equivalents in other public schemes.
_BIRTH_DATES: Final = frozenset({("121031", "DCM"), ("21112-8", "LN"), ("184099003", "SCT")})
_AGES: Final = frozenset({("121033", "DCM"), ("30525-0", "LN"), ("397669002", "SCT"), ("424144002", "SCT")})
_CHARACTERISTICS: Final = _AGES | {
    *(("121032", "DCM"), ("46098-0", "LN"), ("263495000", "SCT")),  # sex
    *(("8302-2", "LN"), ("50373000", "SCT"), ("29463-7", "LN"), ("27113001", "SCT")),  # height, weight
    *(("39156-5", "LN"), ("60621009", "SCT"), ("8277-6", "LN"), ("301898006", "SCT")),  # body mass, body surface
}
_DAYS: Final = {"a": 365.0, "mo": 30.0, "wk": 7.0, "d": 1.0}  # UCUM, as `capped_age` counts them
_UNKNOWN: Final = CodedConcept("261665006", "SCT", "Unknown")


def subject_values(
    concept: tuple[str, str], source: Dataset, *, keeps_characteristics: bool
) -> dict[str, tuple[Do, DataElement | RawDataElement]]:
    """Return what replaces the values of a content item that identify the patient: keyword → action and element.

    Parameters
    ----------
    concept
        Code and scheme of its concept name.
    keeps_characteristics
        Whether the profile keeps sex, age, size and weight; an age above 89 years goes all the same.
    """
    found: dict[str, tuple[Do, DataElement | RawDataElement]] = {}
    if concept in _BIRTH_DATES:
        for keyword in ("Date", "DateTime"):
            vr = dictionary_VR(Tag(keyword))
            found[keyword] = Do.DUMMY, encoded_element(Tag(keyword), vr, dummy(vr))
    elif concept in _CHARACTERISTICS and not (keeps_characteristics and not (concept in _AGES and _is_old(source))):
        # Measured Value Sequence is of type 2: the value is not known.
        found["MeasuredValueSequence"] = Do.EMPTY, DataElement(Tag("MeasuredValueSequence"), "SQ", [])
        found["ConceptCodeSequence"] = Do.DUMMY, DataElement(Tag("ConceptCodeSequence"), "SQ", [_UNKNOWN])
    return {keyword: replacement for keyword, replacement in found.items() if keyword in source}


def _is_old(item: Dataset) -> bool:
    """Return whether an age is above 89 years, or not known to be below."""
    try:
        for measured in item.get("MeasuredValueSequence") or ():
            units = measured.get("MeasurementUnitsCodeSequence") or ()
            days = _DAYS.get(str(units[0].get("CodeValue", "")) if units else "", _DAYS["a"])
            value = measured.get_item("NumericValue").value  # not decoded in place: what is kept stays as it is
            if not float(value) * days < OLDEST_YEARS * _DAYS["a"]:
                return True
    except (AttributeError, TypeError, ValueError):
        return True
    return False
