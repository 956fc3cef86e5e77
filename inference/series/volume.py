"""A stack of a series as a volume, and where each of its planes came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from inference.series.remarks import Remark


@dataclass(frozen=True, slots=True)
class FrameReference:
    """The instance, and its frame where it has several, that a plane was read from.

    Attributes
    ----------
    is_tile
        The plane is one tile of a mosaic; it does not lie where the instance's own position and size say.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None
    is_tile: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FrameLayout:
    """Where the frames of a stack lie in the patient, and where each was put in the volume.

    A volume has right angles and even steps. A stack may lean, have gaps or change its steps; its frames were put into
    the volume by whole voxels, so that what is found in the volume is found on the frames, voxel by voxel.

    Attributes
    ----------
    positions_mm
        (frame, 3) LPS of each frame's first voxel, as the source says it.
    first_indices
        (frame, 3) index of that voxel in the volume; a frame lies in one slice of it.
    rows, columns
        Size of every frame.
    """

    positions_mm: NDArray[np.float64]
    first_indices: NDArray[np.intp]
    rows: int
    columns: int

    def is_whole(self, array: NDArray[Any]) -> bool:
        """Whether the frames are the slices of the volume, one by one and over their full size."""
        return array.shape == (len(self.first_indices), self.rows, self.columns)

    def on_frames(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the values (frame, row, column) of an array on the volume's grid at the frames' voxels, unchanged."""
        if self.is_whole(array):
            return array
        return np.stack([array[index] for index in self.windows()])

    def windows(self) -> list[tuple[int, slice, slice]]:
        """Index of each frame's voxels in an array on the volume's grid."""
        return [
            (int(plane), slice(int(row), int(row) + self.rows), slice(int(column), int(column) + self.columns))
            for plane, row, column in self.first_indices
        ]

    def clear_outside_frames(self, mask: NDArray[np.bool_]) -> None:
        """Clear ``mask`` in place where nothing was measured: outside the frames and the space between them."""
        if mask.shape[1:] == (self.rows, self.columns):
            return
        windows = self.windows()
        last = len(windows) - 1
        above = 0
        for plane in range(mask.shape[0]):
            while above < last and windows[above][0] < plane:
                above += 1
            measured = np.zeros(mask.shape[1:], dtype=bool)
            _, rows, columns = windows[above]
            measured[rows, columns] = True
            if windows[above][0] != plane:
                between = np.zeros_like(measured)
                between[windows[above - 1][1:]] = True
                measured &= between
            mask[plane] &= measured


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: arrays have no single truth value
class SourceVolume:
    """One stack of a series, or one NIfTI file.

    Attributes
    ----------
    volume
        (slice, row, column) float32, Hounsfield units for CT; slices in ascending order along the cross product of
        the row and column directions; affine from array index to LPS mm.
    plane_sources
        One per frame, in the order of ``frames``; empty for NIfTI.
    headers
        Source datasets without pixel data, overlays and bulky private values: one per frame in that order for
        single-frame instances, one per instance for multi-frame ones and mosaics; empty for NIfTI.
    modality
        ``CT``, ``MR``, or empty when unknown (NIfTI).
    stack_number
        Counts from 1 within the stacks of the series that are run.
    stack_name
        What makes the stack different from the others, such as ``EchoTime 4.92``; empty where it is the only one.
    frames
        The frames behind the volume, ascending like its slices; ``None`` for NIfTI.
    missing
        (slice, row, column), true where the source holds no number or padding, and ``volume`` air instead; ``None``
        where that is nowhere.
    """

    volume: hd.Volume
    plane_sources: tuple[FrameReference, ...]
    headers: tuple[Dataset, ...]
    modality: str
    series_instance_uid: str | None
    stack_number: int = 1
    stack_name: str = ""
    remarks: tuple[Remark, ...] = ()
    frames: FrameLayout | None = None
    missing: NDArray[np.bool_] | None = None
