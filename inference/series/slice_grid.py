"""Find an even grid along the normal that contains every slice of a stack, whatever the distances between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A step may differ from the mean by this fraction of it: GE rounds positions so that 7.00 mm becomes 6.96 to 7.07.
STEP_TOLERANCE = 0.02
# A slice may lie this fraction of the usual step off the even grid, which bounds what small steps add up to.
POSITION_TOLERANCE = 0.1
# Any plane is within a tenth of the usual step of a grid this fine.
FINEST_FRACTION = 2 * POSITION_TOLERANCE
# Steps that are tried before the finest one is taken, each this much smaller than the one before.
TRIED_RATIO = 0.999


@dataclass(frozen=True, slots=True, eq=False)
class SliceGrid:
    """Planes at even steps from the first slice to the last.

    Attributes
    ----------
    slice_indices
        The plane at which each slice lies, ascending from 0.
    has_one_distance
        Whether all distances are multiples of the smallest, so that only slices are missing.
    """

    step_mm: float
    slice_indices: NDArray[np.intp]
    has_one_distance: bool

    @property
    def n_slices(self) -> int:
        """Planes of the grid."""
        return int(self.slice_indices[-1]) + 1

    @property
    def is_even(self) -> bool:
        """Whether every plane of the grid is a slice."""
        return self.n_slices == self.slice_indices.size


def slice_grid(along_mm: NDArray[np.float64]) -> SliceGrid:
    """Find the coarsest grid that meets every slice, each in a plane of its own, to within a tenth of the usual step.

    Parameters
    ----------
    along_mm
        Ascending positions along the normal, the first of them 0.
    """
    steps = np.diff(along_mm)
    usual = float(np.median(steps))
    mean = float(along_mm[-1] / steps.size)
    in_order = np.arange(along_mm.size)
    off_grid = np.abs(along_mm - mean * in_order).max()
    if np.abs(steps - usual).max() <= STEP_TOLERANCE * usual and off_grid <= POSITION_TOLERANCE * mean:
        return SliceGrid(mean, in_order, has_one_distance=True)
    smallest = float(steps.min())
    # With rounded positions the smallest step is not the usual one; the median of its likes is.
    indices, step_mm = _counted(along_mm, float(np.median(steps[steps <= smallest * (1 + 2 * STEP_TOLERANCE)])))
    if np.abs(along_mm - indices * step_mm).max() <= POSITION_TOLERANCE * usual:
        return SliceGrid(step_mm, indices, has_one_distance=True)
    finest = min(smallest, FINEST_FRACTION * usual)
    step_mm = smallest * (1 + POSITION_TOLERANCE)
    while step_mm > finest:
        indices = _nearest(along_mm, step_mm)
        if np.abs(along_mm - indices * step_mm).max() <= POSITION_TOLERANCE * usual and np.all(np.diff(indices) > 0):
            return SliceGrid(step_mm, indices, has_one_distance=False)
        step_mm *= TRIED_RATIO
    return SliceGrid(finest, _nearest(along_mm, finest), has_one_distance=False)


def _counted(along_mm: NDArray[np.float64], step_mm: float) -> tuple[NDArray[np.intp], float]:
    """Indices counted from slice to slice, so that rounding does not add up, and the step that fits them best."""
    counts = np.maximum(np.rint(np.diff(along_mm) / step_mm), 1)
    indices = np.concatenate(([0.0], np.cumsum(counts)))
    return indices.astype(np.intp), float(indices @ along_mm / (indices @ indices))


def _nearest(along_mm: NDArray[np.float64], step_mm: float) -> NDArray[np.intp]:
    """The nearest plane for each slice; halves go up, so that two slices a step apart stay apart."""
    return np.floor(along_mm / step_mm + 0.5).astype(np.intp)
