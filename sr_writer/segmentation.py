"""Two masks to one DICOM SEG (PS3.3 A.51), proved before anyone gets it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Final

import highdicom as hd
import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from sr_writer.codes import ARTIFICIAL_INTELLIGENCE, FACE, SEGMENT_TERMS, private_scheme_item
from sr_writer.encoding import encode_dataset, encoded_element
from sr_writer.errors import GridMismatchError, SourceHeaderError
from sr_writer.frame_grid import FrameGrid
from sr_writer.frames import list_frames, pack_frames, per_frame_functional_groups, shared_functional_groups
from sr_writer.identity import copy_identity
from sr_writer.objects import (
    MANUFACTURER,
    MANUFACTURER_MODEL_NAME,
    ROLES,
    WRITER_VERSION,
    AlgorithmIdentity,
    Lineage,
    Predecessor,
    Role,
    WrittenObject,
)
from sr_writer.proof import prove_segmentation
from sr_writer.sources import (
    PlaneSource,
    check_plane_sources,
    find_plane_sources,
    referenced_series_item,
    replaced_image_items,
    replaced_series_items,
)
from sr_writer.time_zone import source_time_zone
from sr_writer.uids import derive_frame_of_reference_uid

log = logging.getLogger(__name__)

# Keeps our series behind the scanner's in a viewer's list.
SERIES_NUMBER_OFFSET: Final = 9000
REPLACES_EARLIER: Final = " (replaces earlier)"  # in the series' description, where a person compares the two
MAX_LONG_STRING: Final = 64  # characters, PS3.5 table 6.2-1, VR LO
_LARGEST_SOURCE_SERIES_NUMBER: Final = 2**31 - 1 - SERIES_NUMBER_OFFSET


def write_segmentation(
    headers: Sequence[Dataset],
    geometry: hd.VolumeGeometry | FrameGrid,
    foreground: NDArray[np.bool_],
    anonymized: NDArray[np.bool_],
    *,
    algorithms: Mapping[Role, AlgorithmIdentity],
    lineage: Lineage,
    written_at: datetime,
    plane_sources: Sequence[PlaneSource] | None = None,
    is_face_anonymized: bool = False,
    predecessors: Sequence[Predecessor] = (),
    stack_name: str = "",
) -> WrittenObject | None:
    """Write the SEG of one stack.

    Parameters
    ----------
    headers
        Source datasets, without their pixels: one per slice in array order, or one multi-frame instance.
    geometry
        Grid of both masks; a ``FrameGrid`` where the slices lean, have gaps or change their distances. Without a frame
        of reference in it and in the headers, one is derived from the series.
    foreground, anonymized
        (slice, row, column) on ``geometry``. A mask without a voxel has no segment.
    written_at
        Aware; stated in the source's time zone where the source names one.
    plane_sources
        The frame of each slice, in array order; found from the headers when left out.
    is_face_anonymized
        Whether the anonymized area lies at the face, so that the segment may say so.
    predecessors
        Earlier results that this one replaces; it says so of each.
    stack_name
        What tells the stack from the others of its series, in plain ASCII; it stands in Content Description.

    Returns
    -------
    WrittenObject or None
        The same bytes for the same arguments; ``None`` when both masks are empty.

    Raises
    ------
    SourceHeaderError, PlaneSourceError
        The source cannot carry a SEG.
    GridMismatchError
        Masks or sources do not fit ``geometry``.
    GeometryProofError
        The written bytes, read back, are not the masks.
    """
    grid = geometry if isinstance(geometry, FrameGrid) else FrameGrid.from_geometry(geometry)
    masks: dict[Role, NDArray[np.bool_]] = {"foreground": foreground, "anonymized": anonymized}
    for role, mask in masks.items():
        if mask.shape != grid.shape or mask.dtype != np.bool_:
            raise GridMismatchError(f"{role} mask ({mask.dtype})", mask.shape, grid.shape)
    present = tuple(role for role in ROLES if masks[role].any())
    if not present:
        return None
    header = headers[0]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if not header.get(keyword):
            raise SourceHeaderError(lineage.series_instance_uid, keyword)
    sources = find_plane_sources(headers, grid) if plane_sources is None else check_plane_sources(plane_sources, grid)
    present_masks = [masks[role] for role in present]
    dataset = _describe(header, lineage, written_at, stack_name)
    dataset.FrameOfReferenceUID = _frame_of_reference_uid(header, grid)
    dataset.ReferencedSeriesSequence = [
        referenced_series_item(str(header.SeriesInstanceUID), sources),  # the first: viewers look no further
        *replaced_series_items(predecessors),
    ]
    if predecessors:
        dataset.ReferencedImageSequence = replaced_image_items(predecessors)
        dataset.SeriesDescription += REPLACES_EARLIER
    dataset.SegmentSequence = [
        _segment_description(number, role, algorithms[role], lineage, is_face=is_face_anonymized)
        for number, role in enumerate(present, start=1)
    ]
    dataset.SegmentsOverlap = "YES" if _overlap(present_masks) else "NO"
    _add_frames(dataset, grid, present_masks, sources, lineage)
    written = _encode(dataset, lineage)
    expected = {SEGMENT_TERMS[role].property_type: masks[role] for role in present}
    prove_segmentation(written.part10(), grid, str(dataset.FrameOfReferenceUID), expected)
    return written


def _describe(header: Dataset, lineage: Lineage, written_at: datetime, stack_name: str) -> Dataset:
    """Everything that neither the grid nor the masks decide, with the modules in the order of PS3.3 A.51."""
    stated_at = _in_source_time_zone(header, written_at)
    ds = Dataset()
    copy_identity(header, ds)
    ds.StudyInstanceUID = str(header.StudyInstanceUID)
    # Segmentation Series
    ds.Modality = "SEG"
    ds.SeriesInstanceUID = lineage.derive_for_series("seg-series")
    ds.SeriesNumber = _series_number(header)
    ds.SeriesDescription = "Foreground and anonymized area"
    ds.SeriesDate = ds.ContentDate = ds.InstanceCreationDate = stated_at.strftime("%Y%m%d")
    ds.SeriesTime = ds.ContentTime = ds.InstanceCreationTime = stated_at.strftime("%H%M%S")
    # Enhanced General Equipment
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MANUFACTURER_MODEL_NAME
    ds.DeviceSerialNumber = lineage.pipeline_digest[:16]
    ds.SoftwareVersions = [version("dicom-node"), f"writer {WRITER_VERSION}"]
    # Segmentation Image
    ds.SOPClassUID = SegmentationStorage
    ds.InstanceNumber = lineage.stack_number
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentLabel = "FOREGROUND_ANON"
    ds.ContentDescription = _content_description(stack_name)
    ds.ContentCreatorName = ""
    ds.SegmentationType = "BINARY"
    _copy_lossy_compression(header, ds)
    # SOP Common
    ds.CodingSchemeIdentificationSequence = [private_scheme_item()]
    return ds


def _content_description(stack_name: str) -> str:
    """What the masks show, and of which stack where there are several: stacks share their SEG series' description."""
    if not stack_name:
        return "Body foreground and area altered by defacing or refacing"
    return f"Foreground, altered area: {stack_name}"[:MAX_LONG_STRING].rstrip()


def _in_source_time_zone(header: Dataset, written_at: datetime) -> datetime:
    """All times of an object share one offset (PS3.3 C.12.1.1.8), and the copied ones are the source's."""
    zone = source_time_zone(header)
    return written_at if zone is None else written_at.astimezone(zone)


def _series_number(header: Dataset) -> int:
    try:
        number = int(header.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return SERIES_NUMBER_OFFSET + (number if 0 < number <= _LARGEST_SOURCE_SERIES_NUMBER else 0)


def _copy_lossy_compression(header: Dataset, ds: Dataset) -> None:
    """A mask found on lossy pixels says so (PS3.3 C.7.6.1.1.5)."""
    is_lossy = str(header.get("LossyImageCompression") or "") == "01"
    ds.LossyImageCompression = "01" if is_lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if is_lossy and header.get(keyword):
            ds[keyword] = header[keyword]


def _frame_of_reference_uid(header: Dataset, grid: FrameGrid) -> str:
    known = grid.frame_of_reference_uid or header.get("FrameOfReferenceUID")
    if known:
        return str(known)
    series_instance_uid = str(header.SeriesInstanceUID)
    log.info("source has no frame of reference, one was derived", extra={"series_instance_uid": series_instance_uid})
    return derive_frame_of_reference_uid(series_instance_uid)


def _segment_description(
    number: int, role: Role, algorithm: AlgorithmIdentity, lineage: Lineage, *, is_face: bool
) -> SegmentDescription:
    terms = SEGMENT_TERMS[role]
    description = SegmentDescription(
        segment_number=number,
        segment_label=terms.label,
        segmented_property_category=terms.category,
        segmented_property_type=terms.property_type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=ARTIFICIAL_INTELLIGENCE,
            version=algorithm.version,
            parameters={"weights_sha256": algorithm.sha256},
        ),
        tracking_uid=lineage.derive("tracking", role),
        tracking_id=f"{role}, stack {lineage.stack_number}",
        anatomic_regions=[FACE] if role == "anonymized" and is_face else None,
        display_color=terms.display_color,
    )
    if terms.modifier is not None:
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [terms.modifier]
    return description


def _overlap(masks: Sequence[NDArray[np.bool_]]) -> bool:
    return len(masks) == 2 and any(bool((first & second).any()) for first, second in zip(*masks, strict=True))


def _add_frames(
    ds: Dataset,
    grid: FrameGrid,
    masks: Sequence[NDArray[np.bool_]],
    sources: Sequence[PlaneSource],
    lineage: Lineage,
) -> None:
    """Image Pixel, Multi-frame Functional Groups and Multi-frame Dimension modules."""
    frames = list_frames(masks)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = grid.rows, grid.columns
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.NumberOfFrames = len(frames)
    organization = Dataset()
    organization.DimensionOrganizationUID = lineage.derive("dimension-organization")
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = [
        _dimension_index(organization, "ReferencedSegmentNumber", "SegmentIdentificationSequence"),
        _dimension_index(organization, "ImagePositionPatient", "PlanePositionSequence"),
    ]
    ds.SharedFunctionalGroupsSequence = [shared_functional_groups(grid)]
    ds.PerFrameFunctionalGroupsSequence = per_frame_functional_groups(frames, grid, sources)
    ds.add_new("PixelData", "OB", pack_frames(frames, masks))


def _dimension_index(organization: Dataset, keyword: str, functional_group: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = organization.DimensionOrganizationUID
    item.DimensionIndexPointer = Tag(keyword)
    item.FunctionalGroupPointer = Tag(functional_group)
    item.DimensionDescriptionLabel = keyword
    return item


def _encode(ds: Dataset, lineage: Lineage) -> WrittenObject:
    """Encode, and derive the SOP Instance UID from lineage and content: other content never shares a UID."""
    uid_tag = Tag("SOPInstanceUID")
    before = encode_dataset(ds[:uid_tag])
    after = encode_dataset(ds[uid_tag + 1 :])
    digest = sha256(before)
    digest.update(after)
    sop_instance_uid = lineage.derive("seg", digest.hexdigest())
    uid_only = Dataset()
    uid_only[uid_tag] = encoded_element(uid_tag, "UI", sop_instance_uid.encode("ascii"))
    return WrittenObject(
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(sop_instance_uid),
        series_instance_uid=str(ds.SeriesInstanceUID),
        study_instance_uid=str(ds.StudyInstanceUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        encoded_dataset=b"".join((before, encode_dataset(uid_only), after)),
    )
