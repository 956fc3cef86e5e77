"""Refine the anonymised area on the source grid, exact to the voxel where a tool wrote one value.

The network's proposal says where to look. If enough of it holds one exact value, that value is the tool's fill, and the
area consists of all dense voxels with that value that are connected to the proposal. If no value is frequent enough
(noise, or a fill that was resampled), the frequencies of values inside and outside the proposal determine the edge.
Parts that neither method confirms are dropped.

How far the area extends into the air depends on the scan. If the scan's own air is noise, every voxel with the fill
value that is connected to the cut was written by the tool. If the air already had that value, the extent cannot be seen
in it, and the area stays near the proposal; a small proposal with no cut tissue next to it is air.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.cut_surfaces import cut_surfaces
from inference.refine.grids import (
    SIX_NEIGHBOURS,
    CoarseGrid,
    DecidedBy,
    Mask,
    Spacing,
    chosen_parts,
    coarse_grid,
    is_far_side,
    neighbour_count,
    part_sizes,
    parts_touching,
)
from inference.refine.noise_fill import WHITE_BELOW, neighbour_correlation, outline_noise_fill
from inference.refine.proposals import LARGE_MM, bordering_tissue, deep_inside, without_tissue

FILL_SHARE = 0.2  # of a part of the proposal, from which a value is frequent enough to be a tool's fill
DOMINANCE = 3.0  # times as frequent as the next value; smooth air in whole numbers has several equally frequent ones
# Deep inside a constant fill 0.97 to 1.0 of the voxels held it (0.93 where the network had painted some air as well),
# inside noise like the air of scans whose air is mostly zero 0.86 to 0.88.
CONSTANT_FROM = 0.91
DENSE_COUNT = 15  # of 27, so more than 0.55: voxels that have the value by chance are isolated
# If the scan's own air has the fill value, that value proves nothing in open air, and the area may only reach this far
# from the proposal. 30 mm was best on really defaced heads; a small proposal may be a false one at a dark mouth.
REACH_MM = (3.0, 30.0)
SMALL_REACH_MM = 5.0  # from a small proposal with cut tissue next to it: eyes, a thin layer
BARED_REACH_MM = 15.0  # from tissue that was cut away from the proposal: ears
HOLLOW_MM = 12.0  # half the width of a hollow that is recognised as one
# Times the size of a small proposal; noise that differs from air and tissue is stronger evidence.
LARGEST_GROWTH, LARGEST_NOISE_GROWTH = 10.0, 30.0
REACH_SIZES_MM = (LARGE_MM, 95.0)  # cube root of the volume (to 857 mL) for the least and the most reach
# Around a sharp cut, the first ring of tissue differs from the fill about as much as the third (ratio 0.65 to 1.1 in
# simulated heads); if a tool or a resampling blended the edge, it differs much less (0.1 to 0.35).
SOFT_RATIO, SECOND_RING_RATIO = 0.5, 0.8
PART_ML = 0.3  # smaller parts of the proposal are no evidence by themselves
NOISE_ML = 5.0  # smallest proposal that is refined without a fill value
SHELL_MM = (3.0, 15.0)  # height above the head of the air in which the scanner's own values are measured
SCANNER_SHARE = 0.2  # of that air, from which the fill value counts as the scanner's own
AIR_PERCENTILES = (5.0, 95.0)  # of the other values there; a value outside them does not belong to the air
CONSTANT_SHARE = 0.35  # of equal neighbours there, from which the scan's own air is as constant as a fill
ISLAND_ML = 1.0  # smallest part with the fill value that is kept away from the proposal: ears, a neck slab


@dataclass(frozen=True, slots=True, eq=False)
class RefinedArea:
    """The refined mask and the evidence for it.

    Attributes
    ----------
    mask
        (slice, row, column) on the source grid.
    shown
        The part of ``mask`` for which stored values prove that a tool wrote it.
    fill_value
        The stored value that was identified as the tool's fill; None if there is none.
    """

    mask: Mask
    shown: Mask
    decided_by: DecidedBy
    fill_value: float | None = None


def refine_anonymized(
    voxels: NDArray[np.float32], proposal: Mask, foreground: Mask, spacing_mm: Spacing, *, is_ct: bool = False
) -> RefinedArea:
    """Replace the proposal's contour by that of voxels with the fill value, part by part.

    Parameters
    ----------
    voxels
        (slice, row, column) stored or rescaled values, not normalised or resampled, so that equal values were written
        as equal.
    proposal
        The anonymised area of the network, in the same shape.
    foreground
        The body of the other network, in the same shape; only its approximate position is used.
    spacing_mm
        Along the same axes.
    is_ct
        Whether this is a CT, in which airways and sinuses have the value of air too.
    """
    if not proposal.any():
        return RefinedArea(proposal, np.zeros(voxels.shape, bool), DecidedBy.NETWORK)
    equal = area_of_equal_values(voxels, proposal, foreground, spacing_mm, is_ct=is_ct)
    if equal is None:
        return _refine_noise(voxels, proposal, foreground, spacing_mm)
    rest = _refine_noise(voxels, proposal & ~equal.seeds, foreground, spacing_mm)
    if not equal.mask.any():
        return RefinedArea(rest.mask, rest.shown, DecidedBy.NATIVE_EVIDENCE)
    return RefinedArea(equal.mask | rest.mask, equal.mask | rest.shown, DecidedBy.NATIVE_EVIDENCE, equal.value)


@dataclass(frozen=True, slots=True, eq=False)
class EqualValues:
    """The voxels that hold the value that a tool wrote.

    Attributes
    ----------
    mask
        (slice, row, column); empty if the value turned out to be the scanner's own air.
    seeds
        The parts of the proposal that have this value.
    """

    mask: Mask
    seeds: Mask
    value: float


def area_of_equal_values(
    voxels: NDArray[np.float32], proposal: Mask, foreground: Mask, spacing_mm: Spacing, *, is_ct: bool
) -> EqualValues | None:
    """Return the area of a constant fill that a proposal belongs to, exact to the voxel.

    The parameters are those of ``refine_anonymized``. None if no part of the proposal has a fill value, or if no voxels
    with it lie close together.
    """
    labelled, n_parts = ndimage.label(proposal, SIX_NEIGHBOURS)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    core = deep_inside(proposal, spacing_mm)
    parts = _fill_of_parts(voxels, labelled, n_parts, core, smallest=PART_ML / voxel_ml)
    if not parts:
        return None
    value = next(iter(parts.values()))  # of the largest part that has one: a tool writes one value
    is_proven = np.zeros(n_parts + 1, bool)
    is_proven[[part for part, fill in parts.items() if fill == value]] = True
    seeds = chosen_parts(labelled, is_proven)
    del labelled  # four bytes a voxel
    exact = _area_of_value(voxels, value, seeds, foreground, spacing_mm, is_ct=is_ct)
    if exact is not None and not exact.any():
        return None
    return EqualValues(np.zeros(voxels.shape, bool) if exact is None else exact, seeds, value)


def _refine_noise(voxels: NDArray[np.float32], proposal: Mask, foreground: Mask, spacing_mm: Spacing) -> RefinedArea:
    """Return the contour where the values change; empty if the evidence is inconclusive or the growth implausible."""
    if not proposal.any():
        return RefinedArea(proposal, proposal, DecidedBy.NETWORK)
    proposal = bordering_tissue(voxels, proposal, foreground, spacing_mm)
    if proposal.any():
        proposal = without_tissue(voxels, proposal, foreground, spacing_mm)
    area, voxel_ml = None, float(np.prod(spacing_mm)) / 1000.0
    n_proposed = np.count_nonzero(proposal)
    if n_proposed * voxel_ml >= NOISE_ML:
        area = outline_noise_fill(voxels, proposal, foreground, spacing_mm)
    if area is None or np.count_nonzero(area) > LARGEST_NOISE_GROWTH * n_proposed:
        area = np.zeros(voxels.shape, bool)
    return RefinedArea(area, area, DecidedBy.VALUE_STATISTICS)


def _fill_of_parts(
    voxels: NDArray[np.float32], labelled: NDArray[np.int32], n_parts: int, core: Mask, *, smallest: float
) -> dict[int, float]:
    """Return the fill value of each part of the proposal that has one, largest part first.

    A part is noise and has no fill value if other values are scattered all over its inside, not clustered as in tissue.
    """
    sizes = part_sizes(labelled, n_parts)
    boxes = ndimage.find_objects(labelled)
    found = {}
    for part in np.argsort(sizes)[::-1]:
        if sizes[part] < max(smallest, 1):
            break
        box = boxes[part - 1]
        values, counts = np.unique(voxels[box][labelled[box] == part], return_counts=True)
        order = np.argsort(counts)[::-1]
        next_count = counts[order[1]] if counts.size > 1 else 0
        if counts[order[0]] < max(FILL_SHARE * sizes[part], DOMINANCE * next_count):
            continue
        value = float(values[order[0]])
        deep = core[box] & (labelled[box] == part)
        is_constant = not deep.any() or float(np.mean(voxels[box][deep] == np.float32(value))) >= CONSTANT_FROM
        if is_constant or neighbour_correlation(voxels[box], deep) > WHITE_BELOW:
            found[int(part)] = value
    return found


def _area_of_value(
    voxels: NDArray[np.float32], value: float, seeds: Mask, foreground: Mask, spacing_mm: Spacing, *, is_ct: bool
) -> Mask | None:
    """Return the dense voxels with one value that belong to the seeds; None if they are just the scanner's air."""
    equal = voxels == np.float32(value)
    dense = equal & (neighbour_count(equal) >= DENSE_COUNT)
    if not (dense & seeds).any():
        return np.zeros(voxels.shape, bool)
    grid = coarse_grid(voxels.shape, spacing_mm)
    size_mm = float(np.count_nonzero(seeds) * np.prod(spacing_mm)) ** (1 / 3)
    is_small = size_mm < REACH_SIZES_MM[0]
    area = None
    if not _is_scanner_air(value, dense, voxels, seeds, foreground, grid):
        smallest_island = ISLAND_ML / (float(np.prod(spacing_mm)) / 1000.0)
        area = _touching(dense, seeds, smallest_island=smallest_island)
        if is_small and np.count_nonzero(area) > LARGEST_GROWTH * np.count_nonzero(seeds):
            area = None  # padding or a masked background: too large a growth for so small a proposal
    if area is None:
        seeds = bordering_tissue(voxels, seeds, foreground, spacing_mm, equal=equal, is_ct=is_ct)
        if not seeds.any():
            return None
        size_mm = float(np.count_nonzero(seeds) * np.prod(spacing_mm)) ** (1 / 3)
        is_small = size_mm < REACH_SIZES_MM[0]
        reach_mm = SMALL_REACH_MM if is_small else float(np.interp(size_mm, REACH_SIZES_MM, REACH_MM))
        reached = _near(grid.reduce(seeds) > 0, grid, reach_mm)
        if is_small:  # grow into the hollow that the tool made, not along the skin
            reached &= _closed(grid.reduce(foreground) > 0.5, grid, HOLLOW_MM)
        else:
            bared = cut_surfaces(voxels, value, dense, seeds, foreground, grid)
            reached |= _near(bared, grid, BARED_REACH_MM)
            seeds = seeds | grid.spread(bared) & dense
        area = parts_touching(dense & (grid.spread(reached) | seeds), seeds)
    area = _close_to_edge(area, equal)
    return area | _soft_edge(voxels, value, area, foreground | seeds)


def _is_scanner_air(
    value: float, dense: Mask, voxels: NDArray[np.float32], seeds: Mask, foreground: Mask, grid: CoarseGrid
) -> bool:
    """Whether air on the far side of the head, where no tool works, has the value too, or is as constant as a fill."""
    body = grid.reduce(foreground) > 0.5
    if not body.any():
        return True
    height = ndimage.distance_transform_edt(~body, sampling=grid.spacing_mm)
    shell = (height > SHELL_MM[0]) & (height < SHELL_MM[1]) & is_far_side(body, grid.reduce(seeds) > 0, grid)
    if not shell.any():
        return True
    if float(grid.reduce(dense)[shell].mean()) > SCANNER_SHARE:
        return True
    air = voxels[grid.spread(shell)]
    others = air[air != np.float32(value)]
    if not others.size:
        return True
    lowest, highest = np.percentile(others, AIR_PERCENTILES)
    if not lowest <= value <= highest:
        return False
    is_equal = np.zeros(voxels.shape, bool)
    np.equal(voxels[..., 1:], voxels[..., :-1], out=is_equal[..., 1:])
    return float(grid.reduce(is_equal)[shell].mean()) > CONSTANT_SHARE


def _near(mask: Mask, grid: CoarseGrid, radius_mm: float) -> Mask:
    if not mask.any():  # scipy would return distances to a corner of the array
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm) <= radius_mm)


def _closed(mask: Mask, grid: CoarseGrid, radius_mm: float) -> Mask:
    """Return the closing by a ball; the mask is empty beyond the array's edge."""
    return np.asarray(
        ndimage.distance_transform_edt(_near(mask, grid, radius_mm), sampling=grid.spacing_mm) > radius_mm
    )


def _touching(candidates: Mask, seeds: Mask, *, smallest_island: float) -> Mask:
    """Return the connected parts that touch a seed, and others of at least ``smallest_island`` voxels."""
    labelled, n_parts = ndimage.label(candidates, SIX_NEIGHBOURS)
    kept = np.zeros(n_parts + 1, bool)
    kept[labelled[seeds]] = True
    kept |= part_sizes(labelled, n_parts) >= smallest_island
    kept[0] = False
    return chosen_parts(labelled, kept)


def _soft_edge(voxels: NDArray[np.float32], value: float, area: Mask, head: Mask) -> Mask:
    """Return the rings of the head around the area in which fill and tissue are blended; empty around a sharp cut."""
    rings, reached = [], area
    for _ in range(3):
        grown = neighbour_count(reached) > 0
        rings.append(grown & ~reached & head)
        reached = grown
    if not all(ring.any() for ring in rings):
        return np.zeros(area.shape, bool)
    first, second, third = (float(np.median(np.abs(voxels[ring] - np.float32(value)))) for ring in rings)
    if first >= SOFT_RATIO * third:
        return np.zeros(area.shape, bool)
    return rings[0] | rings[1] if second < SECOND_RING_RATIO * third else rings[0]


def _close_to_edge(area: Mask, equal: Mask) -> Mask:
    """Return the area and the voxels of equal value next to it, which the density rule removes at corners."""
    return equal & (neighbour_count(area) > 0)
