"""Which source frame each slice of a mask lies on, and how an object says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from sr_writer.errors import GridMismatchError, PlaneSourceError, SourceHeaderError

# Two positions closer than this share of the slice spacing are the same plane. Stored positions are rounded, and a
# regular grid through them is off by a little; neighbouring planes are a whole spacing apart.
SAME_PLANE_FRACTION: Final = 0.1


class PlaneSource(Protocol):
    """The frame that one slice was read from; ``frame_number`` is ``None`` for a single-frame instance."""

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


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A ``PlaneSource`` found in the headers."""

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None


def find_plane_sources(headers: Sequence[Dataset], geometry: hd.VolumeGeometry) -> tuple[PlaneSource, ...]:
    """One source per slice: the headers in their order, or the frames of one multi-frame header by position.

    Raises
    ------
    GridMismatchError
        The headers are neither one per slice nor one multi-frame instance.
    PlaneSourceError
        A slice lies on no frame, or on several (a time series, several echoes).
    """
    n_slices = geometry.spatial_shape[0]
    if len(headers) == 1 and "PerFrameFunctionalGroupsSequence" in headers[0]:
        return _frames_by_position(headers[0], geometry)
    if len(headers) != n_slices:
        raise GridMismatchError("list of source headers", (len(headers),), (n_slices,))
    return tuple(SourceFrame(str(ds.SOPClassUID), str(ds.SOPInstanceUID), None) for ds in headers)


def check_plane_sources(plane_sources: Sequence[PlaneSource], geometry: hd.VolumeGeometry) -> tuple[PlaneSource, ...]:
    """Check sources that the caller knew; there must be one per slice."""
    if len(plane_sources) != geometry.spatial_shape[0]:
        raise GridMismatchError("list of plane sources", (len(plane_sources),), (geometry.spatial_shape[0],))
    return tuple(plane_sources)


def _frames_by_position(header: Dataset, geometry: hd.VolumeGeometry) -> tuple[PlaneSource, ...]:
    frame_positions = np.array([_frame_position(header, item) for item in header.PerFrameFunctionalGroupsSequence])
    tolerance_mm = SAME_PLANE_FRACTION * geometry.spacing_between_slices
    frames = []
    for slice_index, position in enumerate(slice_positions(geometry)):
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


def slice_positions(geometry: hd.VolumeGeometry) -> NDArray[np.float64]:
    """(slice, 3) LPS position in mm of the first voxel of every slice."""
    n_slices = geometry.spatial_shape[0]
    origin = geometry.affine[:3, 3]
    step = geometry.affine[:3, 0]
    return np.asarray(origin + np.arange(n_slices)[:, np.newaxis] * step, dtype=np.float64)


def referenced_series_item(series_instance_uid: str, plane_sources: Sequence[PlaneSource]) -> Dataset:
    """Item of Referenced Series Sequence with every source instance once, in source order."""
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedInstanceSequence = []
    for sop_class_uid, sop_instance_uid in dict.fromkeys((s.sop_class_uid, s.sop_instance_uid) for s in plane_sources):
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = sop_instance_uid
        item.ReferencedInstanceSequence.append(reference)
    return item
