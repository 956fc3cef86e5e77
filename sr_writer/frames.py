"""Frames of a BINARY segmentation: their order, their functional groups and their packed bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import format_number_as_ds

from sr_writer.codes import SEGMENTATION_DERIVATION, SOURCE_IMAGE
from sr_writer.encoding import encode_sequence, encoded_element
from sr_writer.frame_grid import FrameGrid
from sr_writer.sources import PlaneSource

# Decimals of positions, spacings (mm) and cosines: far more precise than a voxel, and 0.4 stays "0.4".
DECIMALS: Final = 9
# Eight frames of any size fill whole bytes, so frames can be packed in chunks with bounded memory.
_FRAMES_PER_CHUNK: Final = 8

_DIMENSION_INDEX_VALUES: Final = Tag("DimensionIndexValues")
_FRAME_CONTENT_SEQUENCE: Final = Tag("FrameContentSequence")
_IMAGE_POSITION_PATIENT: Final = Tag("ImagePositionPatient")
_PLANE_POSITION_SEQUENCE: Final = Tag("PlanePositionSequence")
_DERIVATION_CODE_SEQUENCE: Final = Tag("DerivationCodeSequence")
_DERIVATION_IMAGE_SEQUENCE: Final = Tag("DerivationImageSequence")
_PURPOSE_OF_REFERENCE_CODE_SEQUENCE: Final = Tag("PurposeOfReferenceCodeSequence")
_SEGMENT_IDENTIFICATION_SEQUENCE: Final = Tag("SegmentIdentificationSequence")
_REFERENCED_SEGMENT_NUMBER: Final = Tag("ReferencedSegmentNumber")


@dataclass(frozen=True, slots=True)
class SegmentFrame:
    """One frame: a slice of one segment that holds at least one voxel."""

    segment_number: int
    slice_index: int


def list_frames(masks: Sequence[NDArray[np.bool_]]) -> tuple[SegmentFrame, ...]:
    """Return the non-empty slices of all masks, segment by segment, slices in source order.

    Parameters
    ----------
    masks
        One per segment, (slice, row, column); segments are numbered from 1 in this order.
    """
    return tuple(
        SegmentFrame(segment_number, int(slice_index))
        for segment_number, mask in enumerate(masks, start=1)
        for slice_index in np.flatnonzero(mask.any(axis=(1, 2)))
    )


def pack_frames(frames: Sequence[SegmentFrame], masks: Sequence[NDArray[np.bool_]]) -> bytes:
    """Return Pixel Data: one bit per pixel, least significant bit first, no padding between frames (PS3.5 8.1.1)."""
    packed = []
    for start in range(0, len(frames), _FRAMES_PER_CHUNK):
        chunk = frames[start : start + _FRAMES_PER_CHUNK]
        pixels = np.stack([masks[frame.segment_number - 1][frame.slice_index] for frame in chunk])
        packed.append(np.packbits(pixels, bitorder="little").tobytes())
    pixel_data = b"".join(packed)
    return pixel_data + b"\0" if len(pixel_data) % 2 else pixel_data


def decimal_strings(values: Sequence[float] | NDArray[np.float64]) -> bytes:
    """Return values encoded as DS, separated by backslashes (PS3.5 6.2)."""
    # Adding zero turns -0.0 into 0.0.
    return "\\".join(format_number_as_ds(round(float(value), DECIMALS) + 0.0) for value in values).encode("ascii")


def shared_functional_groups(grid: FrameGrid) -> Dataset:
    """Return the Shared Functional Groups: spacing and orientation (PS3.3 C.7.6.16.2.1, C.7.6.16.2.4).

    Slice Thickness is the spacing between slices, because the voxels of a mask fill the volume without gaps. If the
    distances between slices vary, Spacing Between Slices is left out; the positions of the frames define them.
    """
    measures = Dataset()
    thickness_mm, spacing_mm = grid.slice_thickness_mm, grid.spacing_between_slices_mm
    if spacing_mm is not None:
        thickness_mm = spacing_mm
        tag = Tag("SpacingBetweenSlices")
        measures[tag] = encoded_element(tag, "DS", decimal_strings([spacing_mm]))
    measures[Tag("SliceThickness")] = encoded_element(Tag("SliceThickness"), "DS", decimal_strings([thickness_mm]))
    measures[Tag("PixelSpacing")] = encoded_element(Tag("PixelSpacing"), "DS", decimal_strings(grid.spacing_mm))
    orientation = Dataset()
    tag = Tag("ImageOrientationPatient")
    cosines = np.concatenate((grid.row_direction, grid.column_direction))
    orientation[tag] = encoded_element(tag, "DS", decimal_strings(cosines))
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [orientation]
    return groups


def per_frame_functional_groups(
    frames: Sequence[SegmentFrame], grid: FrameGrid, plane_sources: Sequence[PlaneSource]
) -> list[Dataset]:
    """Return the Per-Frame Functional Groups, one item per frame (PS3.3 C.7.6.16).

    Parameters
    ----------
    plane_sources
        One per slice of ``grid``. In the second dimension index, slices with a voxel of any segment are numbered from 1
        in source order.
    """
    used = sorted({frame.slice_index for frame in frames})
    slices = {
        slice_index: _SliceItems(
            dimension_index=number,
            position=_item(_IMAGE_POSITION_PATIENT, "DS", decimal_strings(grid.positions_mm[slice_index])),
            derivation=_derivation_item(plane_sources[slice_index]),
        )
        for number, slice_index in enumerate(used, start=1)
    }
    return [_frame_item(frame, slices[frame.slice_index]) for frame in frames]


@dataclass(frozen=True, slots=True, eq=False)
class _SliceItems:
    """Items that the frames of one slice have in common, regardless of their segment."""

    dimension_index: int
    position: Dataset
    derivation: Dataset


def _frame_item(frame: SegmentFrame, items: _SliceItems) -> Dataset:
    index_values = np.array([frame.segment_number, items.dimension_index], dtype="<u4").tobytes()
    segment_number = np.array([frame.segment_number], dtype="<u2").tobytes()
    item = Dataset()
    for tag, nested in (
        (_DERIVATION_IMAGE_SEQUENCE, items.derivation),
        (_FRAME_CONTENT_SEQUENCE, _item(_DIMENSION_INDEX_VALUES, "UL", index_values)),
        (_PLANE_POSITION_SEQUENCE, items.position),
        (_SEGMENT_IDENTIFICATION_SEQUENCE, _item(_REFERENCED_SEGMENT_NUMBER, "US", segment_number)),
    ):
        item[tag] = DataElement(tag, "SQ", [nested])
    return item


def _item(tag: BaseTag, vr: str, value: bytes) -> Dataset:
    item = Dataset()
    item[tag] = encoded_element(tag, vr, value)
    return item


def _derivation_item(source: PlaneSource) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.sop_class_uid
    reference.ReferencedSOPInstanceUID = source.sop_instance_uid
    if source.frame_number is not None:
        reference.ReferencedFrameNumber = source.frame_number
    # A pixel of a tile has another row and column in the mosaic, and the mosaic's position is not that of the tile.
    reference.SpatialLocationsPreserved = "NO" if source.is_tile else "YES"
    reference[_PURPOSE_OF_REFERENCE_CODE_SEQUENCE] = _code_sequence(_PURPOSE_OF_REFERENCE_CODE_SEQUENCE, SOURCE_IMAGE)
    item = Dataset()
    item.SourceImageSequence = [reference]
    item[_DERIVATION_CODE_SEQUENCE] = _code_sequence(_DERIVATION_CODE_SEQUENCE, SEGMENTATION_DERIVATION)
    return item


@cache
def _code_sequence(tag: BaseTag, code: CodedConcept) -> RawDataElement:
    """Return a sequence with one concept, encoded once for all frames."""
    return encode_sequence(tag, [code])
