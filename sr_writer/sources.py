"""Find the source frame of each slice of a mask, and write references to source frames and replaced results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from pydicom.dataset import Dataset

from sr_writer.codes import REPLACED_RESULT
from sr_writer.errors import GridMismatchError, PlaneSourceError, SourceHeaderError
from sr_writer.frame_grid import FrameGrid
from sr_writer.objects import Predecessor

# Two positions closer than this share of the slice spacing are the same plane. Stored positions are rounded and deviate
# a little from a regular grid; neighbouring planes are a whole spacing apart.
SAME_PLANE_FRACTION: Final = 0.1


class PlaneSource(Protocol):
    """The source frame of one slice; ``frame_number`` is ``None`` for a single-frame instance."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID of the instance."""
        ...

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID of the instance."""
        ...

    @property
    def frame_number(self) -> int | None:
        """Number of the frame in the instance, from 1."""
        ...

    @property
    def is_tile(self) -> bool:
        """Whether the slice is a tile of a mosaic, so that the position in the instance is not that of the slice."""
        ...


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A ``PlaneSource`` found in the headers."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None
    is_tile: bool = False


def find_plane_sources(headers: Sequence[Dataset], grid: FrameGrid) -> tuple[PlaneSource, ...]:
    """Return one source per slice: the headers in their order, or the frames of one multi-frame header by position.

    Raises
    ------
    GridMismatchError
        The headers are neither one per slice nor one multi-frame instance.
    PlaneSourceError
        A slice is at the position of no frame, or of several (a time series, several echoes).
    """
    n_slices = grid.shape[0]
    if len(headers) == 1 and "PerFrameFunctionalGroupsSequence" in headers[0]:
        return _frames_by_position(headers[0], grid)
    if len(headers) != n_slices:
        raise GridMismatchError("list of source headers", (len(headers),), (n_slices,))
    return tuple(SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers)


def check_plane_sources(plane_sources: Sequence[PlaneSource], grid: FrameGrid) -> tuple[PlaneSource, ...]:
    """Return the caller's sources; raise `GridMismatchError` unless there is one per slice."""
    if len(plane_sources) != grid.shape[0]:
        raise GridMismatchError("list of plane sources", (len(plane_sources),), grid.shape[:1])
    return tuple(plane_sources)


def _frames_by_position(header: Dataset, grid: FrameGrid) -> tuple[PlaneSource, ...]:
    frame_positions = np.array([_frame_position(header, item) for item in header.PerFrameFunctionalGroupsSequence])
    tolerance_mm = SAME_PLANE_FRACTION * grid.slice_thickness_mm
    frames = []
    for slice_index, position in enumerate(grid.positions_mm):
        matches = np.flatnonzero(np.linalg.norm(frame_positions - position, axis=1) < tolerance_mm)
        if len(matches) != 1:
            raise PlaneSourceError(str(header.SeriesInstanceUID), slice_index + 1, len(matches))
        frames.append(SourceFrame(str(header.SOPClassUID), str(header.SOPInstanceUID), int(matches[0]) + 1))
    return tuple(frames)


def _frame_position(header: Dataset, frame: Dataset) -> list[float]:
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for groups in (frame, shared[0]):
        for item in groups.get("PlanePositionSequence") or ():
            if item.get("ImagePositionPatient"):
                return [float(value) for value in item.ImagePositionPatient]
    raise SourceHeaderError(str(header.get("SeriesInstanceUID", "")), "ImagePositionPatient")


def replaced_image_items(predecessors: Sequence[Predecessor]) -> list[Dataset]:
    """Return items of Referenced Image Sequence (PS3.3 C.12.4) for the results that the object replaces."""
    items = []
    for predecessor in predecessors:
        item = _instance_reference(predecessor.sop_class_uid, predecessor.sop_instance_uid)
        item.PurposeOfReferenceCodeSequence = [REPLACED_RESULT]
        items.append(item)
    return items


def replaced_series_items(predecessors: Sequence[Predecessor]) -> list[Dataset]:
    """Return items of Referenced Series Sequence (PS3.3 C.12.2) for the replaced results, each series once."""
    items = []
    for uid in dict.fromkeys(predecessor.series_instance_uid for predecessor in predecessors):
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = [
            _instance_reference(predecessor.sop_class_uid, predecessor.sop_instance_uid)
            for predecessor in predecessors
            if predecessor.series_instance_uid == uid
        ]
        items.append(item)
    return items


def referenced_series_item(series_instance_uid: str, plane_sources: Sequence[PlaneSource]) -> Dataset:
    """Return the item of Referenced Series Sequence with every source instance once, in source order."""
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedInstanceSequence = []
    for sop_class_uid, sop_instance_uid in dict.fromkeys((s.sop_class_uid, s.sop_instance_uid) for s in plane_sources):
        item.ReferencedInstanceSequence.append(_instance_reference(sop_class_uid, sop_instance_uid))
    return item


def _instance_reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = sop_class_uid
    reference.ReferencedSOPInstanceUID = sop_instance_uid
    return reference
