"""Voxels without a number: NaN, infinities, and fill values beyond any measurement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.series.remarks import Remark, RemarkCode

LOWEST_AIR_HU: Final = -1024.0  # stored values of a CT begin here; air is -1000
LARGEST_VALUE: Final = 1e18  # its square still fits into float32; -3.4e38 and 1e30 are marks for "nothing here"

Window = tuple[int, slice, slice]


def fill_missing(
    voxels: NDArray[np.float32], *, windows: Sequence[Window] | None = None, air: float | None = None
) -> NDArray[np.bool_] | None:
    """Replace voxels without a number in place, and return their mask; None if there are none.

    Such voxels are outside the measured region, so they get the lowest number of the volume, or 0 if all numbers are
    above it. If no voxel has a number, all become 0.

    Parameters
    ----------
    voxels
        (slice, row, column). Each plane is looked at on its own, so that no second volume is needed.
    windows
        The parts of planes that hold anything yet; all of every plane where there are none.
    air
        Value of air where it is known, as for Hounsfield units; it replaces the lowest number.
    """
    indices: Sequence[int | Window] = range(len(voxels)) if windows is None else windows
    incomplete = [index for index in indices if not _is_complete(voxels[index])]
    if not incomplete:
        return None
    fill = min(_lowest(voxels[index] for index in indices), 0.0) if air is None else air
    missing = np.zeros(voxels.shape, bool)
    for index in incomplete:
        missing[index] = ~_is_number(voxels[index])
        voxels[index][missing[index]] = fill
    return missing


def missing_remarks(n_missing: int) -> tuple[Remark, ...]:
    """Return a remark on the number of filled voxels, if there are any."""
    if not n_missing:
        return ()
    return (Remark(RemarkCode.VOXELS_NOT_FINITE, f"{n_missing} voxels hold no finite number; they count as air"),)


def is_missing_any(voxels: NDArray[np.float32]) -> bool:
    """Whether any voxel has no number."""
    return not all(_is_complete(plane) for plane in voxels)


def _lowest(planes: Iterable[NDArray[np.float32]]) -> float:
    """Smallest number; 0 where there is none."""
    lowest = [float(plane.min(initial=np.inf, where=_is_number(plane))) for plane in planes]
    found = min(lowest, default=np.inf)
    return found if np.isfinite(found) else 0.0


def _is_complete(plane: NDArray[np.float32]) -> bool:
    """Whether all voxels are numbers: minimum and maximum are NaN where a single one is."""
    if not plane.size:
        return True
    return bool(plane.min() >= -LARGEST_VALUE and plane.max() <= LARGEST_VALUE)


def _is_number(plane: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.abs(plane) <= LARGEST_VALUE  # false for NaN
