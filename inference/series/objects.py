"""Check whether an object is a CT or MR image whose planes can become a volume, and if not, why."""

from __future__ import annotations

import math

from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    MRSpectroscopyStorage,
    ParametricMapStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
)

from inference.series.errors import (
    ColourImageError,
    DerivedMapError,
    DicomdirError,
    EncapsulatedDocumentError,
    LocalizerError,
    OtherImageError,
    ParametricMapError,
    PetError,
    PresentationStateError,
    RadiotherapyObjectError,
    RawDataError,
    SecondaryCaptureError,
    SegmentationObjectError,
    SopClassMissingError,
    SpectroscopyError,
    StructuredReportError,
    UidMissingError,
    UnsuitableObjectError,
)
from inference.series.numbers import BLANK, numbers_at
from inference.series.uids import name_of_uid, shown_word

MULTI_FRAME_CLASSES = frozenset(
    {
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
    }
)
IMAGE_CLASSES = MULTI_FRAME_CLASSES | {CTImageStorage, MRImageStorage}
CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

# Families of storage classes by the root of their UID (PS3.4 Table B.5-1), the more special one first.
REFUSED_CLASSES: tuple[tuple[str, type[UnsuitableObjectError]], ...] = (
    (MediaStorageDirectoryStorage, DicomdirError),
    (EnhancedMRColorImageStorage, ColourImageError),
    (MRSpectroscopyStorage, SpectroscopyError),
    (SecondaryCaptureImageStorage, SecondaryCaptureError),
    ("1.2.840.10008.5.1.4.1.1.66.4", SegmentationObjectError),
    ("1.2.840.10008.5.1.4.1.1.66.5", SegmentationObjectError),
    ("1.2.840.10008.5.1.4.1.1.66.7", SegmentationObjectError),
    (RawDataStorage, RawDataError),
    (ParametricMapStorage, ParametricMapError),
    ("1.2.840.10008.5.1.4.1.1.88", StructuredReportError),
    ("1.2.840.10008.5.1.4.1.1.11", PresentationStateError),
    ("1.2.840.10008.5.1.4.1.1.104", EncapsulatedDocumentError),
    ("1.2.840.10008.5.1.4.1.1.128", PetError),
    ("1.2.840.10008.5.1.4.1.1.130", PetError),
    ("1.2.840.10008.5.1.4.1.1.481", RadiotherapyObjectError),
)

MOSAIC, VFRAME = "MOSAIC", "VFRAME"  # in Image Type: many slices in one picture, of Siemens and United Imaging
MAP_IMAGE_TYPES = frozenset({"METABOLITE_MAP"})
# PS3.3 C.7.6.3.1.2, retired ones too.
PHOTOMETRIC = (
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "YBR_FULL", "YBR_FULL_422",
    "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB",
)  # fmt: skip
GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
IDENTIFYING_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


def sop_class_uid_of(ds: Dataset) -> str:
    """SOP Class UID of the dataset, else of its file meta information, else an empty string."""
    meta = getattr(ds, "file_meta", None) or Dataset()
    return str(ds.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")


def image_type_of(ds: Dataset) -> tuple[str, ...]:
    """Values of Image Type, upper case and without padding."""
    value = ds.get("ImageType") or ()
    return tuple(str(v).strip().upper() for v in ((value,) if isinstance(value, str) else value))


def check_suitable(ds: Dataset, name: str) -> None:
    """Raise a subclass of ``UnsuitableObjectError`` if ``ds`` is not a CT or MR image plane."""
    if "DirectoryRecordSequence" in ds:
        raise DicomdirError(name)
    sop_class_uid = sop_class_uid_of(ds)
    if not sop_class_uid:
        raise SopClassMissingError(name)
    if sop_class_uid not in IMAGE_CLASSES:
        raise _refusal_by_class(sop_class_uid, name)
    missing = [keyword for keyword in IDENTIFYING_UIDS if not ds.get(keyword)]
    if missing:
        raise UidMissingError(name, ", ".join(missing))
    _check_image_type(ds, name)
    _check_samples(ds, name)


def photometric_interpretation_of(ds: Dataset) -> str:
    """Photometric Interpretation, upper case and without padding; MONOCHROME2 where nothing is said."""
    value = ds.get("PhotometricInterpretation")
    return str(value).strip(BLANK).upper() if value else "MONOCHROME2"


def _check_samples(ds: Dataset, name: str) -> None:
    """Refuse colours: several samples a pixel, or samples that are no grey values."""
    try:
        samples = numbers_at(ds, "SamplesPerPixel")
    except ValueError:
        samples = (math.nan,)
    photometric_interpretation = photometric_interpretation_of(ds)
    if samples not in ((), (1.0,)) or photometric_interpretation not in GREY:
        raise ColourImageError(
            name, f"Photometric Interpretation {shown_word(photometric_interpretation, *PHOTOMETRIC)}"
        )


def _refusal_by_class(sop_class_uid: str, name: str) -> UnsuitableObjectError:
    words = name_of_uid(sop_class_uid)
    for root, refusal in REFUSED_CLASSES:
        if sop_class_uid == root or sop_class_uid.startswith(f"{root}."):
            return refusal(name, words)
    return OtherImageError(name, words)


def _check_image_type(ds: Dataset, name: str) -> None:
    image_type = image_type_of(ds)
    if "LOCALIZER" in image_type:
        raise LocalizerError(name)
    # PixelPresentation COLOR: grey values only index a supplemental palette (PS3.3 C.8.16.2.1.1).
    if MAP_IMAGE_TYPES.intersection(image_type) or str(ds.get("PixelPresentation", "")) == "COLOR":
        raise DerivedMapError(
            name, "\\".join(sorted(MAP_IMAGE_TYPES.intersection(image_type))) or "Pixel Presentation COLOR"
        )
