"""Write two masks as one DICOM SEG (PS3.3 A.51), and verify it before it is returned."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from functools import partial
from typing import Final

import highdicom as hd
import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import SegmentationStorage

from sr_writer.codes import ARTIFICIAL_INTELLIGENCE, FACE, SEGMENT_TERMS
from sr_writer.errors import GridMismatchError
from sr_writer.frame_grid import FrameGrid
from sr_writer.frames import list_frames, pack_frames, per_frame_functional_groups, shared_functional_groups
from sr_writer.objects import (
    ROLES,
    AlgorithmIdentity,
    Lineage,
    Predecessor,
    Role,
    WrittenObject,
)
from sr_writer.proof import prove_segmentation
from sr_writer.result_header import (
    REPLACES_EARLIER,
    check_source_header,
    describe_result,
    encode_result,
    series_number_after,
)
from sr_writer.sources import (
    PlaneSource,
    check_plane_sources,
    find_plane_sources,
    referenced_series_item,
    replaced_image_items,
    replaced_series_items,
)
from sr_writer.uids import derive_frame_of_reference_uid

log = logging.getLogger(__name__)

# Sorts our series after the scanner's in a viewer's list.
SERIES_NUMBER_OFFSET: Final = 9000
MAX_LONG_STRING: Final = 64  # characters, PS3.5 table 6.2-1, VR LO


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
        Grid of both masks; a ``FrameGrid`` if the slices are sheared, have gaps or are unevenly spaced. If neither it
        nor the headers have a frame of reference, one is derived from the series.
    foreground, anonymized
        (slice, row, column) bool masks on ``geometry``. An empty mask gets no segment.
    algorithms
        The model of each role.
    written_at
        Time-zone aware; written in the source's time zone if the source names one.
    plane_sources
        The source frame of each slice, in array order; None to find them in the headers.
    is_face_anonymized
        Whether the anonymized area covers the face, so that the segment names this anatomic region.
    predecessors
        Earlier results of the series; the SEG names the SEGs among them as replaced by it.
    stack_name
        Name of the stack among others of its series, in plain ASCII; it is written to Content Description.

    Returns
    -------
    WrittenObject or None
        The same bytes for the same arguments; ``None`` if both masks are empty.

    Raises
    ------
    SourceHeaderError, PlaneSourceError
        No SEG can be written for the source.
    GridMismatchError
        Masks or sources do not fit ``geometry``.
    GeometryProofError
        The written bytes, read back, differ from the masks.

    References
    ----------
    PS3.3 A.51 (Segmentation IOD), C.8.20.2 (Segmentation Image module).
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
    check_source_header(header, lineage.series_instance_uid)
    sources = find_plane_sources(headers, grid) if plane_sources is None else check_plane_sources(plane_sources, grid)
    earlier = [one for one in predecessors if one.sop_class_uid == SegmentationStorage]
    present_masks = [masks[role] for role in present]
    dataset = _describe(header, lineage, written_at, stack_name)
    dataset.FrameOfReferenceUID = _frame_of_reference_uid(header, grid)
    dataset.ReferencedSeriesSequence = [
        referenced_series_item(str(header.SeriesInstanceUID), sources),  # first, because viewers read only this one
        *replaced_series_items(earlier),
    ]
    if earlier:
        dataset.ReferencedImageSequence = replaced_image_items(earlier)
        dataset.SeriesDescription += REPLACES_EARLIER
    dataset.SegmentSequence = [
        _segment_description(number, role, algorithms[role], lineage, is_face=is_face_anonymized)
        for number, role in enumerate(present, start=1)
    ]
    dataset.SegmentsOverlap = "YES" if _overlap(present_masks) else "NO"
    _add_frames(dataset, grid, present_masks, sources, lineage)
    written = encode_result(dataset, partial(lineage.derive, "seg"))
    expected = {SEGMENT_TERMS[role].property_type: masks[role] for role in present}
    prove_segmentation(written.part10(), grid, str(dataset.FrameOfReferenceUID), expected)
    return written


def _describe(header: Dataset, lineage: Lineage, written_at: datetime, stack_name: str) -> Dataset:
    """Return the attributes that depend neither on the grid nor on the masks, modules in the order of PS3.3 A.51."""
    ds = describe_result(
        header,
        written_at,
        modality="SEG",
        series_number=series_number_after(header, SERIES_NUMBER_OFFSET),
        pipeline_digest=lineage.pipeline_digest,
    )
    ds.InstanceNumber = lineage.stack_number
    # Segmentation Series
    ds.SeriesInstanceUID = lineage.derive_for_series("seg-series")
    ds.SeriesDescription = "Foreground and anonymized area"
    # Segmentation Image
    ds.SOPClassUID = SegmentationStorage
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentLabel = "FOREGROUND_ANON"
    ds.ContentDescription = _content_description(stack_name)
    ds.ContentCreatorName = ""
    ds.SegmentationType = "BINARY"
    _copy_lossy_compression(header, ds)
    return ds


def _content_description(stack_name: str) -> str:
    """Return a description of the masks, with the name of the stack if the series has several."""
    if not stack_name:
        return "Body foreground and area altered by defacing or refacing"
    return f"Foreground, altered area: {stack_name}"[:MAX_LONG_STRING].rstrip()


def _copy_lossy_compression(header: Dataset, ds: Dataset) -> None:
    """Copy the source's lossy compression, because a mask from lossy pixels must state it (PS3.3 C.7.6.1.1.5)."""
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
        segmented_property_type=deepcopy(terms.property_type),  # a modifier is added to it below
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=ARTIFICIAL_INTELLIGENCE,
            version=algorithm.version,
            parameters={"weights_sha256": algorithm.sha256},
        ),
        tracking_uid=lineage.tracking_uid(role),
        tracking_id=lineage.tracking_id(role),
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
    """Add the Image Pixel, Multi-frame Functional Groups and Multi-frame Dimension modules (PS3.3 C.7.6)."""
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
