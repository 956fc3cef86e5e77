"""Attributes that the index holds, and at which level each is searched and returned.

Here is nothing that reads datasets: who only asks the index need not load pydicom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Level = Literal["study", "series", "instance"]

ATTRIBUTES: Mapping[int, tuple[str, str, Level]] = {
    0x00080008: ("ImageType", "CS", "instance"),
    0x00080016: ("SOPClassUID", "UI", "instance"),
    0x00080018: ("SOPInstanceUID", "UI", "instance"),
    0x00080020: ("StudyDate", "DA", "study"),
    0x00080021: ("SeriesDate", "DA", "series"),
    0x00080023: ("ContentDate", "DA", "instance"),
    0x00080030: ("StudyTime", "TM", "study"),
    0x00080031: ("SeriesTime", "TM", "series"),
    0x00080033: ("ContentTime", "TM", "instance"),
    0x00080050: ("AccessionNumber", "SH", "study"),
    0x00080060: ("Modality", "CS", "series"),
    0x00080070: ("Manufacturer", "LO", "series"),
    0x00080090: ("ReferringPhysicianName", "PN", "study"),
    0x00080201: ("TimezoneOffsetFromUTC", "SH", "study"),
    0x00081010: ("StationName", "SH", "series"),
    0x00081030: ("StudyDescription", "LO", "study"),
    0x0008103E: ("SeriesDescription", "LO", "series"),
    0x00081090: ("ManufacturerModelName", "LO", "series"),
    0x00100010: ("PatientName", "PN", "study"),
    0x00100020: ("PatientID", "LO", "study"),
    0x00100021: ("IssuerOfPatientID", "LO", "study"),
    0x00100030: ("PatientBirthDate", "DA", "study"),
    0x00100040: ("PatientSex", "CS", "study"),
    0x00120062: ("PatientIdentityRemoved", "CS", "series"),
    0x00180015: ("BodyPartExamined", "CS", "series"),
    0x00181030: ("ProtocolName", "LO", "series"),
    0x00185100: ("PatientPosition", "CS", "series"),
    0x0020000D: ("StudyInstanceUID", "UI", "study"),
    0x0020000E: ("SeriesInstanceUID", "UI", "series"),
    0x00200010: ("StudyID", "SH", "study"),
    0x00200011: ("SeriesNumber", "IS", "series"),
    0x00200012: ("AcquisitionNumber", "IS", "instance"),
    0x00200013: ("InstanceNumber", "IS", "instance"),
    0x00200032: ("ImagePositionPatient", "DS", "instance"),
    0x00200037: ("ImageOrientationPatient", "DS", "instance"),
    0x00200052: ("FrameOfReferenceUID", "UI", "series"),
    0x00201002: ("ImagesInAcquisition", "IS", "instance"),
    0x00201209: ("NumberOfSeriesRelatedInstances", "IS", "series"),  # the sender's claim; queries answer our own count
    0x00280008: ("NumberOfFrames", "IS", "instance"),
    0x00280010: ("Rows", "US", "instance"),
    0x00280011: ("Columns", "US", "instance"),
    0x00280100: ("BitsAllocated", "US", "instance"),
    0x00280301: ("BurnedInAnnotation", "CS", "instance"),
    0x00280302: ("RecognizableVisualFeatures", "CS", "series"),
    0x00400244: ("PerformedProcedureStepStartDate", "DA", "series"),
    0x00400245: ("PerformedProcedureStepStartTime", "TM", "series"),
}
"""Tag → keyword, VR, level at which it is searched and returned (PS3.18 10.6.3.3)."""

REQUEST_ATTRIBUTES = 0x00400275
"""Request Attributes Sequence, of which the index keeps `REQUESTED`."""
REQUESTED: Mapping[int, tuple[str, str]] = {
    0x00400009: ("ScheduledProcedureStepID", "SH"),
    0x00401001: ("RequestedProcedureID", "SH"),
}
TAGS = {keyword: f"{tag:08X}" for tag, (keyword, _, _) in ATTRIBUTES.items()}


def integer(text: str) -> int | None:
    """First value of an IS, where it is a number that fits 32 bits."""
    try:
        number = int(text.split("\\", 1)[0])
    except ValueError:
        return None
    return number if -(2**31) <= number < 2**31 else None
