"""Decide from the header which objects may be copied at all, before anything is cleaned."""

from __future__ import annotations

import re
from typing import Final

from pydicom import Dataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from dicom_node.export.errors import NotExportableError
from dicom_node.export.hidden_pixels import check_pixel_bytes
from dicom_node.export.profile import Profile, StructuredReports
from dicom_node.patient_ids import names_nobody

_UID: Final = re.compile(r"[0-9.]{1,64}")
# Image Type and burned-in text matter for images from a scanner, not for objects that were derived from them.
_DERIVED_KINDS: Final = frozenset(
    {"SegmentationStorage", "LabelMapSegmentationStorage", "ParametricMapStorage", "RealWorldValueMappingStorage"}
)
_REPORT_KINDS: Final = frozenset({"EnhancedSRStorage", "ComprehensiveSRStorage", "Comprehensive3DSRStorage"})


def check_object(source: Dataset, profile: Profile) -> None:
    """Raise if an object must not be copied.

    Raises
    ------
    NotExportableError
        With the reason: its SOP class, missing identifiers, text burned into its pixels, or bytes in Pixel Data that
        are no pixels.
    """
    if str(getattr(source, "file_meta", {}).get("MediaStorageSOPClassUID", "")) == MediaStorageDirectoryStorage:
        raise NotExportableError("dicomdir", "a DICOMDIR names files that the copies do not have")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID"):
        if not _UID.fullmatch(str(source.get(keyword) or "")):
            raise NotExportableError("missing-uid", f"{keyword} is missing or not a UID; nothing can refer to the copy")
    patient_id = str(source.get("PatientID") or "").strip()
    if names_nobody(patient_id):
        raise NotExportableError(
            "no-patient-id",
            "Patient ID is empty or a placeholder; a pseudonym made from it would join different people, "
            "give the study a Patient ID first",
        )
    kind = str(UID(source.SOPClassUID).keyword)
    if kind not in profile.sop_classes:
        raise NotExportableError(
            "sop-class",
            f"objects of SOP class {_named(source.SOPClassUID)} are not copied; the profile lists those that are",
        )
    if kind in _REPORT_KINDS:
        if profile.structured_reports is StructuredReports.REFUSED:
            raise NotExportableError("structured-report", "the profile does not copy structured reports")
        return
    if "PixelData" in source and kind not in _DERIVED_KINDS:
        _check_image(source, profile)


def _check_image(source: Dataset, profile: Profile) -> None:
    burned_in = str(source.get("BurnedInAnnotation") or "").strip().upper()
    if burned_in not in ("", "NO"):
        raise NotExportableError(
            "burned-in-annotation", "Burned In Annotation is not NO; clean the pixels and send the object again"
        )
    image_type = [str(value).strip() for value in _values(source.get("ImageType"))]
    if "\\".join(image_type[:2]) not in profile.image_types or "SCREEN SAVE" in image_type:
        raise NotExportableError(
            "image-type",
            "Image Type is not one that the profile lists in image_types; such images often have text in their pixels",
        )
    check_pixel_bytes(source)


def _values(value: object) -> list[object]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def _named(uid: str) -> str:
    known = UID(uid)
    return (
        known.name if known.name != str(known) else ("a private class" if not uid.startswith("1.2.840.10008.") else uid)
    )
