"""The anonymised area on the source grid: where a tool wrote one value, that value shows the area to the last voxel.

The network's proposal says where to look. The most frequent exact value in it is taken for the tool's fill when enough
of the proposal holds it; the area is then all voxels of that value that lie close together and hang together with the
proposal. Where no value is frequent enough (noise, blur, another face, resampled fills), the proposal stays.

How far the area goes into the air depends on the scan. Where the scan's own air is noise, every exact voxel that hangs
together with the cut is the tool's. Where the air already had that value, nothing can be seen in it, and the area stays
near the proposal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.grids import SIX_NEIGHBOURS, CoarseGrid, DecidedBy, Mask, Spacing, coarse_grid, neighbour_count

FILL_SHARE = 0.2  # of a part of the proposal; a value is frequent enough to be a tool's
DENSE_COUNT = 15  # of 27, so more than 0.55: exact values by chance lie alone
REACH_MM = 30.0  # where the scan's own air holds the fill value; measured on really defaced heads
REACH_OF_SIZE = 0.25  # and no further than this share of the cube root of the proposal's volume
PART_ML = 0.3  # parts of the proposal smaller than this give no evidence of their own
SHELL_MM = (3.0, 15.0)  # of the air beside the head that tells what the scanner writes into air
SCANNER_SHARE = 0.2  # of that shell; the scan's own air holds the fill value
ISLAND_ML = 1.0  # parts of exact values away from the proposal: ears, a neck slab


@dataclass(frozen=True, slots=True, eq=False)
class RefinedArea:
    """The refined mask and how it came about.

    Attributes
    ----------
    fill_values
        Stored values that were taken for a tool's, most frequent first.
    exact
        The part of ``mask`` that exact values prove.
    """

    mask: Mask
    exact: Mask
    decided_by: DecidedBy
    fill_values: tuple[float, ...] = ()


def refine_anonymized(
    voxels: NDArray[np.float32], proposal: Mask, foreground: Mask, spacing_mm: Spacing
) -> RefinedArea:
    """Replace the proposal's contour by that of exact values, part by part.

    Parameters
    ----------
    voxels
        Stored values (rescaled is as good), not normalised or resampled: equal means written equal.
    foreground
        The body as the other network found it; only its rough place is used.
    """
    nothing = np.zeros(voxels.shape, bool)
    labelled, n_parts = ndimage.label(proposal, SIX_NEIGHBOURS)
    if n_parts == 0:
        return RefinedArea(proposal, nothing, DecidedBy.NETWORK)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    parts = _fill_of_parts(voxels, labelled, n_parts, smallest=PART_ML / voxel_ml)
    exact = nothing
    for value in dict.fromkeys(parts.values()):
        seeds = np.isin(labelled, [part for part, fill in parts.items() if fill == value])
        exact = exact | _area_of_value(voxels, value, seeds, foreground, spacing_mm)
    if not exact.any():
        return RefinedArea(proposal, nothing, DecidedBy.NETWORK)
    kept = np.ones(n_parts + 1, bool)
    kept[[0, *parts]] = False
    mask = exact | kept[labelled]
    return RefinedArea(mask, exact, DecidedBy.NATIVE_EVIDENCE, tuple(dict.fromkeys(parts.values())))


def _fill_of_parts(
    voxels: NDArray[np.float32], labelled: NDArray[np.int32], n_parts: int, *, smallest: float
) -> dict[int, float]:
    """The frequent value of each part of the proposal that has one, largest part first."""
    sizes = np.bincount(labelled.ravel(), minlength=n_parts + 1)
    sizes[0] = 0
    found = {}
    for part in np.argsort(sizes)[::-1]:
        if sizes[part] < max(smallest, 1):
            break
        values, counts = np.unique(voxels[labelled == part], return_counts=True)
        best = int(counts.argmax())
        if counts[best] >= FILL_SHARE * sizes[part]:
            found[int(part)] = float(values[best])
    return found


def _area_of_value(
    voxels: NDArray[np.float32], value: float, seeds: Mask, foreground: Mask, spacing_mm: Spacing
) -> Mask:
    """Voxels of one value, close together, that belong to the seeds."""
    equal = voxels == np.float32(value)
    dense = equal & (neighbour_count(equal) >= DENSE_COUNT)
    if not (dense & seeds).any():
        return np.zeros(voxels.shape, bool)
    grid = coarse_grid(voxels.shape, spacing_mm)
    if _is_scanner_air(dense, seeds, foreground, grid):
        size_mm = float(np.count_nonzero(seeds) * np.prod(spacing_mm)) ** (1 / 3)
        reach_mm = min(REACH_MM, REACH_OF_SIZE * size_mm)
        dense &= grid.spread(_near(grid.reduce(seeds) > 0, grid, reach_mm))
        return _close_to_edge(_touching(dense, seeds), equal)
    smallest = ISLAND_ML / (float(np.prod(spacing_mm)) / 1000.0)
    return _close_to_edge(_touching(dense, seeds, smallest_island=smallest), equal)


def _is_scanner_air(dense: Mask, seeds: Mask, foreground: Mask, grid: CoarseGrid) -> bool:
    """Whether the air on the far side of the head, where no tool works, holds the value too."""
    body = grid.reduce(foreground) > 0.5
    if not body.any():
        return True
    area = grid.reduce(seeds)
    places = np.stack(np.meshgrid(*(np.arange(size) for size in body.shape), indexing="ij"))
    spacing = np.array(grid.spacing_mm)
    centre = np.array([axis[body].mean() for axis in places])
    towards = (np.array([(axis * area).sum() / area.sum() for axis in places]) - centre) * spacing**2
    ahead = sum((places[axis] - centre[axis]) * towards[axis] for axis in range(3))
    height = ndimage.distance_transform_edt(~body, sampling=grid.spacing_mm)
    shell = (height > SHELL_MM[0]) & (height < SHELL_MM[1]) & (ahead < 0)
    if not shell.any():
        return True
    return float(grid.reduce(dense)[shell].mean()) > SCANNER_SHARE


def _near(mask: Mask, grid: CoarseGrid, radius_mm: float) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm) <= radius_mm)


def _touching(candidates: Mask, seeds: Mask, *, smallest_island: float | None = None) -> Mask:
    """Connected parts that meet a seed, and with ``smallest_island`` all others of at least so many voxels."""
    labelled, n_parts = ndimage.label(candidates, SIX_NEIGHBOURS)
    kept = np.zeros(n_parts + 1, bool)
    kept[labelled[seeds]] = True
    if smallest_island is not None:
        kept |= np.bincount(labelled.ravel(), minlength=n_parts + 1) >= smallest_island
    kept[0] = False
    return np.asarray(kept[labelled])


def _close_to_edge(area: Mask, equal: Mask) -> Mask:
    """The area and the equal voxels beside it, which its corners lose to the density rule."""
    return equal & (neighbour_count(area) > 0)
