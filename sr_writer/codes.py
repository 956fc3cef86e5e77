"""Coded concepts of the objects we write; ``docs/decisions/0040`` explains the choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.color import CIELabColor
from highdicom.sr.coding import CodedConcept

from sr_writer.objects import Role

ANATOMICAL_STRUCTURE: Final = CodedConcept("91723000", "SCT", "Anatomical Structure")
SPATIAL_AND_RELATIONAL_CONCEPT: Final = CodedConcept("309825002", "SCT", "Spatial and Relational Concept")
ENTIRE_BODY: Final = CodedConcept("38266002", "SCT", "Entire body")
FACE: Final = CodedConcept("89545001", "SCT", "Face")
CLEAN_RECOGNIZABLE_VISUAL_FEATURES: Final = CodedConcept("113102", "DCM", "Clean Recognizable Visual Features Option")
ARTIFICIAL_INTELLIGENCE: Final = CodedConcept("123110", "DCM", "Artificial Intelligence")
SEGMENTATION_DERIVATION: Final = CodedConcept("113076", "DCM", "Segmentation")
SOURCE_IMAGE: Final = CodedConcept("121322", "DCM", "Source image for image processing operation")

PRIVATE_SCHEME: Final = "99DICOMNODE"
# Voxels whose values were removed or replaced by a defacing or refacing tool, anywhere in the body.
ANONYMIZED_AREA: Final = CodedConcept("ANON-AREA", PRIVATE_SCHEME, "Anonymized area")
# Purpose of a reference to an earlier result that the object replaces. CID 7009 has such a code for reports only, and
# the predecessors in CID 7202 are other forms of the same pixels.
REPLACED_RESULT: Final = CodedConcept("REPLACED-RESULT", PRIVATE_SCHEME, "Replaced result")

# Key Object Selection (TID 2010, CID 7010) and its observer (TID 1002).
FOR_RESEARCH_COLLECTION_EXPORT: Final = CodedConcept("128713", "DCM", "For Research Collection Export")
KEY_OBJECT_DESCRIPTION: Final = CodedConcept("113012", "DCM", "Key Object Description")
OBSERVER_TYPE: Final = CodedConcept("121005", "DCM", "Observer Type")
DEVICE: Final = CodedConcept("121007", "DCM", "Device")
DEVICE_OBSERVER_UID: Final = CodedConcept("121012", "DCM", "Device Observer UID")

COMMENT: Final = CodedConcept("121106", "DCM", "Comment")

# Qualitative evaluation of whether a face can be seen; no public scheme has codes for the question or its answers.
FACE_VERDICT: Final = CodedConcept("FACE-VERDICT", PRIVATE_SCHEME, "Face in the image")
VERDICTS: Final[dict[str, CodedConcept]] = {
    "defaced": CodedConcept("DEFACED", PRIVATE_SCHEME, "Anonymized area covers the face"),
    "face_present": CodedConcept("FACE-PRESENT", PRIVATE_SCHEME, "Face present"),
    "indeterminate": CodedConcept("INDETERMINATE", PRIVATE_SCHEME, "Indeterminate"),
    "not_applicable": CodedConcept("NOT-APPLICABLE", PRIVATE_SCHEME, "No face in the field of view"),
}
VOLUME: Final = CodedConcept("118565006", "SCT", "Volume")
SHARE_OF_BODY: Final = CodedConcept("SHARE-OF-BODY", PRIVATE_SCHEME, "Volume as share of the foreground")
VERDICT_PROBABILITY: Final = CodedConcept("VERDICT-PROB", PRIVATE_SCHEME, "Probability of the verdict")
MILLILITER: Final = CodedConcept("ml", "UCUM", "milliliter")
PERCENT: Final = CodedConcept("%", "UCUM", "Percent")
NO_UNITS: Final = CodedConcept("1", "UCUM", "no units")
# From CID 100, for an unspecified body region; SNOMED codes for methods are not procedures in that context group.
PROCEDURES: Final[dict[str, CodedConcept]] = {
    "CT": CodedConcept("25045-6", "LN", "CT unspecified body region"),
    "MR": CodedConcept("25056-3", "LN", "MRI unspecified body region"),
}


@dataclass(frozen=True, slots=True)
class SegmentTerms:
    """Description of the segment of one role; readers identify it by ``property_type``."""

    label: str
    category: CodedConcept
    property_type: CodedConcept
    modifier: CodedConcept | None
    display_color: CIELabColor


SEGMENT_TERMS: Final[dict[Role, SegmentTerms]] = {
    "foreground": SegmentTerms(
        label="Foreground",
        category=ANATOMICAL_STRUCTURE,
        property_type=ENTIRE_BODY,
        modifier=None,
        display_color=CIELabColor(65.0, -10.0, -30.0),
    ),
    "anonymized": SegmentTerms(
        label="Anonymized area",
        category=SPATIAL_AND_RELATIONAL_CONCEPT,
        property_type=ANONYMIZED_AREA,
        modifier=CLEAN_RECOGNIZABLE_VISUAL_FEATURES,
        display_color=CIELabColor(70.0, 35.0, 65.0),
    ),
}


def private_scheme_item() -> CodingSchemeIdentificationItem:
    """Return the item that identifies the coding scheme ``99DICOMNODE`` (PS3.3 C.12.1.1.11)."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME, name="DICOM node private codes", responsible_organization="dicom-node project"
    )
