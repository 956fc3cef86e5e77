"""Compare a volume of the node with one of another program: positions and values of voxels, and reasons to differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from benchmarks.other_readers import OtherVolume
from inference.series.volume import SourceVolume

# Voxels are at the same position if they are at most this far apart, due to rounded headers and float32 affines.
SAME_PLACE_VOXELS = 0.02
ROUNDED_PLACE_VOXELS = 0.1  # if positions are rounded, and the other program uses even steps from the first slice
SAME_VALUE = 1e-5  # largest difference, as a share of the largest magnitude
TILT_CORRECTED = "_Tilt"  # part of the name of volumes that dcm2niix corrected
LIKE = 0.999  # correlation from which values are equal except for their scale


class Reason(Enum):
    """Why the result of another program differs; each is a sentence of the table."""

    NOTHING_READ = "cannot read it"
    NOT_THIS_SERIES = "reads other series of the group, not this one"
    PICTURE = "it reads a mosaic as one slice"
    TILT_DROPPED = "the slices are tilted, and it stacks them without the tilt"
    TILT_INTERPOLATED = "the slices are tilted, and it interpolates new ones without tilt"
    ONE_DISTANCE = "the distances between slices change, and it writes one for all"
    THICKNESS_FOR_DISTANCE = "it uses Slice Thickness as the distance between slices"
    NO_SPACING = "it leaves the spacing at 1 mm"
    FIRST_DISTANCE = "it uses the distance of the first two slices for all"
    JOINED = "it joins several images of the series into one volume"
    FRAME_ORDER = "it leaves the frames in the order of the file, not in that of their positions"
    FIRST_RESCALE = "it rescales all frames like the first"
    SCALED = "it scales the values by another factor"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a volume of the node with the most similar volume of another program.

    Attributes
    ----------
    n_outside
        Number of our frames outside the other's grid.
    apart_mm, apart_voxels
        Largest distance of a frame's corner from the centre of the other's voxel at that position.
    differing
        Share of voxels with another value; 1 if no frame is inside.
    correlation
        Correlation of the values at the same positions; 0 if there are none.
    """

    n_outside: int
    apart_mm: float
    apart_voxels: float
    differing: float
    correlation: float
    other: OtherVolume

    @property
    def is_same_place(self) -> bool:
        """Whether every frame is at the position of a plane of the other."""
        return self.n_outside == 0 and self.apart_voxels <= SAME_PLACE_VOXELS

    @property
    def is_rounded_place(self) -> bool:
        """Whether every frame is at the position of a plane of the other, except for rounding."""
        return self.n_outside == 0 and self.apart_voxels <= ROUNDED_PLACE_VOXELS

    @property
    def is_same_values(self) -> bool:
        """Whether all values are the same."""
        return self.differing == 0

    @property
    def rank(self) -> tuple[int, float, float]:
        """Sort key; smaller for more similar volumes."""
        return self.n_outside, self.differing, self.apart_mm


def nearest(source: SourceVolume, others: Sequence[OtherVolume]) -> Agreement | None:
    """Return the agreement with the most similar volume of another program; None if there is none."""
    frames = frames_of(source)
    return min((compare(source, frames, other) for other in others), key=lambda found: found.rank, default=None)


def frames_of(source: SourceVolume) -> NDArray[np.float32]:
    """Return the values (frame, row, column) of the series' own frames, without slices that the volume added."""
    return source.volume.array if source.frames is None else source.frames.on_frames(source.volume.array)


def compare(source: SourceVolume, frames: NDArray[np.float32], other: OtherVolume) -> Agreement:
    """Compare every voxel of our frames (frame, row, column) with the other volume at the same patient position."""
    assert source.frames is not None
    to_other = np.linalg.inv(other.affine)
    per_row, per_column = (to_other[:3, :3] @ source.volume.affine[:3, axis] for axis in (1, 2))
    n_rows, n_columns = frames.shape[1:]
    corners = np.array([[0, 0], [n_rows - 1, 0], [0, n_columns - 1], [n_rows - 1, n_columns - 1]])
    n_outside, apart_mm, apart_voxels, n_different, n_compared = 0, 0.0, 0.0, 0, 0
    ours, theirs = [], []
    tolerance = SAME_VALUE * max(float(np.abs(frames).max()), 1e-9)
    grid = np.stack(np.meshgrid(np.arange(n_rows), np.arange(n_columns), indexing="ij"))
    for position_mm, frame in zip(source.frames.positions_mm, frames, strict=True):
        first = to_other[:3, :3] @ position_mm + to_other[:3, 3]
        at = first + corners[:, :1] * per_row + corners[:, 1:] * per_column
        off = at - np.rint(at)
        apart_voxels = max(apart_voxels, float(np.abs(off).max()))
        apart_mm = max(apart_mm, float(np.linalg.norm(off @ other.affine[:3, :3].T, axis=1).max()))
        if (np.rint(at) < 0).any() or (np.rint(at) >= other.voxels.shape).any():
            n_outside += 1
            continue
        index = np.rint(np.tensordot(np.column_stack((per_row, per_column)), grid, 1) + first[:, None, None])
        values = other.voxels[tuple(index.astype(np.intp))]
        n_different += int(np.count_nonzero(np.abs(values - frame) > tolerance))
        n_compared += frame.size
        ours.append(frame.ravel())
        theirs.append(values.ravel())
    return Agreement(
        n_outside,
        apart_mm,
        apart_voxels,
        n_different / n_compared if n_compared else 1.0,
        _correlation(ours, theirs),
        other,
    )


def _correlation(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> float:
    if not ours:
        return 0.0
    a, b = np.concatenate(ours).astype(np.float64), np.concatenate(theirs).astype(np.float64)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float(np.array_equal(a, b))


def reason_for(source: SourceVolume, agreement: Agreement) -> Reason | None:
    """Return why the most similar volume of another program differs from ours; None if no reason is recognised."""
    codes = {remark.code for remark in source.remarks}
    other = agreement.other
    if agreement.is_rounded_place:
        return _reason_of_values(source, agreement)
    if "tilted" in codes:
        return Reason.TILT_INTERPOLATED if TILT_CORRECTED in other.name else Reason.TILT_DROPPED
    if codes & {"missing-slices", "changing-slice-distances"}:
        return Reason.ONE_DISTANCE
    n_frames, n_rows, n_columns = frames_of(source).shape
    if not {n_rows, n_columns} <= set(other.voxels.shape):
        return Reason.PICTURE if any(one.is_tile for one in source.plane_sources) else Reason.NOT_THIS_SERIES
    spacing_mm = np.linalg.norm(other.affine[:3, :3], axis=0)
    along = int(np.argmax(np.abs((other.affine[:3, :3] / spacing_mm).T @ source.volume.affine[:3, 0])))
    if np.allclose(spacing_mm, 1.0) and not np.allclose(source.volume.spacing, 1.0):
        return Reason.NO_SPACING
    if other.voxels.shape[along] > n_frames and "several-stacks" in codes:
        return Reason.JOINED
    if other.voxels.shape[along] == n_frames and np.isclose(spacing_mm[along], thickness_mm(source), rtol=1e-3):
        return Reason.THICKNESS_FOR_DISTANCE
    ends_mm = distances_mm(source)[[0, -1]]
    if other.voxels.shape[along] == n_frames and np.isclose(spacing_mm[along], ends_mm, rtol=1e-3).any():
        return Reason.FIRST_DISTANCE
    return None


def distances_mm(source: SourceVolume) -> NDArray[np.float64]:
    """Return the distances from each frame to the next along their normal."""
    assert source.frames is not None
    normal = source.volume.affine[:3, 0] / source.volume.spacing[0]
    return np.asarray(np.diff(source.frames.positions_mm @ normal))


def thickness_mm(source: SourceVolume) -> float:
    """Return Slice Thickness of the first frame; 0 if it is missing."""
    header = source.headers[0]
    if "SharedFunctionalGroupsSequence" in header:
        (header,) = header.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence") or [header]
    return float(header.get("SliceThickness") or 0.0)


def _reason_of_values(source: SourceVolume, agreement: Agreement) -> Reason | None:
    other, frames = agreement.other, frames_of(source)
    if agreement.correlation >= LIKE:
        return Reason.SCALED
    if other.voxels.size == frames.size and np.allclose(np.sort(other.voxels, None), np.sort(frames, None), rtol=1e-4):
        return Reason.FRAME_ORDER
    if other.voxels.size > frames.size:
        return Reason.JOINED
    return None
