"""Attributes that state how an object was de-identified: only what was done to this object."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary  # the dictionary itself has no public name

import dicom_node
from dicom_node.export.profile import Dates, Profile
from dicom_node.export.standard_table import EDITION, OPTION_CODES, Option
from sr_writer.objects import MANUFACTURER, MANUFACTURER_MODEL_NAME

_BASIC_PROFILE: Final = ("113100", "Basic Application Confidentiality Profile")
_FACE_OPTION: Final = ("113102", "Clean Recognizable Visual Features Option")
METHOD_CODES: Final = dict((_BASIC_PROFILE, *OPTION_CODES.values()))
_FIXED_OPTIONS: Final = (Option.PATIENT_CHARACTERISTICS, Option.DEVICE_IDENTITY, Option.INSTITUTION_IDENTITY)

# Each item of these contains one coded concept.
CODE_SEQUENCE_KEYWORDS: Final = frozenset(
    keyword for _, _, _, _, keyword in DicomDictionary.values() if keyword.endswith("CodeSequence")
)


def method_values(profile: Profile) -> list[str]:
    """Return the values of De-identification Method, which are the same for every copy."""
    return [f"{MANUFACTURER_MODEL_NAME} {dicom_node.__version__}", EDITION, f"profile {profile.name}"]


def state_what_was_done(
    source: Dataset, copy: Dataset, profile: Profile, carried_out: Collection[Option], *, is_face_gone: bool = False
) -> None:
    """Set (0012,0062), (0012,0063), (0012,0064), (0028,0303) and the contributing equipment.

    Parameters
    ----------
    carried_out
        Options that changed this object: dates that were moved, structured content that was cleaned, descriptors
        that were kept.
    is_face_gone
        A verdict or a person says so: Recognizable Visual Features becomes NO, and 113102 is among the codes. Otherwise
        the copy claims neither, whatever its source claimed.

    References
    ----------
    PS3.15 E.2 and CID 7050.
    """
    done = {option for option in profile.options if option in _FIXED_OPTIONS} | set(carried_out)
    copy.PatientIdentityRemoved = "YES"
    copy.DeidentificationMethod = method_values(profile)
    earlier = {
        str(item.get("CodeValue", "")): str(item.get("CodeMeaning", ""))
        for item in source.get("DeidentificationMethodCodeSequence") or ()
        if item.get("CodingSchemeDesignator") == "DCM" and str(item.get("CodeValue", "")).startswith("1131")
    }
    codes = [code for code in earlier if code in METHOD_CODES]
    codes += [_BASIC_PROFILE[0], *(OPTION_CODES[option][0] for option in Option if option in done)]
    if is_face_gone:
        copy.RecognizableVisualFeatures = "NO"
        codes.append(_FACE_OPTION[0])
    elif str(copy.get("RecognizableVisualFeatures", "")) == "NO":
        del copy.RecognizableVisualFeatures  # the source's word, which nobody has checked
    copy.DeidentificationMethodCodeSequence = [
        _code(code, METHOD_CODES.get(code, _FACE_OPTION[1])) for code in dict.fromkeys(codes)
    ]
    is_moved = profile.dates is Dates.MODIFIED
    copy.LongitudinalTemporalInformationModified = "MODIFIED" if is_moved else "REMOVED"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109104", "De-identifying Equipment")]
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = MANUFACTURER_MODEL_NAME
    equipment.SoftwareVersions = dicom_node.__version__
    copy.ContributingEquipmentSequence = [equipment]


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = "DCM"
    item.CodeMeaning = meaning[:64]
    return item
