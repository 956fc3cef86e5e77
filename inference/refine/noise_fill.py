"""Find areas that a tool filled with noise: no value repeats, but values are distributed unlike tissue and air.

The proposal's core shows which values the tool wrote; the far side of the head, where no tool works, shows the values
of tissue and air. The log ratio of a value's frequencies is the evidence of each voxel for being filled. Single voxels
are inconclusive. Smoothed over some millimetres, the evidence finds everything connected to the core, even far into the
air; smoothed over one millimetre, it finds the edge. Noise with the values of the scan's own air has an edge towards
tissue only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.grids import (
    SIX_NEIGHBOURS,
    CoarseGrid,
    Field,
    Mask,
    Spacing,
    chosen_parts,
    coarse_grid,
    is_far_side,
    neighbours_along,
    part_sizes,
    signed_distance_mm,
)

CORE_MM, CORE_SHARE = 3.0, 0.6  # depth of the core, in mm and as a share of a thin layer's greatest depth
TISSUE_MM, AIR_MM = 3.0, 6.0  # depth of tissue and height of air from the body's surface
# Largest correlation of noise. Noise has 0.0 to 0.2, more if the proposal includes tissue; fading tissue that was
# mistaken for noise has 0.3 to 0.5.
WHITE_BELOW = 0.28
LEAST_VALUES, MOST_VALUES = 50, 2_000_000  # size of each sample
N_BINS = 32
LARGEST_EVIDENCE = 4.0  # of one voxel, as a natural logarithm
# If noise differs from tissue and air (seven val heads, contours wrong by a voxel of 3 mm), this evidence is exceeded
# in nearly the whole core, in 0 to 1 % of the air, and in 0 to 17 % of the tissue, in threads that an opening removes.
SURE_EVIDENCE, SURE_SIGMA_MM, SURE_WIDTH_MM = 0.7, 2.0, 16.0
LEAST_CORE_SHARE, LARGEST_AIR_SHARE, LARGEST_TISSUE_SHARE = 0.8, 0.03, 0.3
ISLAND_ML = 10.0  # smallest certain noise away from the proposal; found: ears of 15 to 23 mL, and 8 mL of air
BAND_MM = 6.0  # around the contour, in which the edge is searched
EDGE_SIGMA_MM = 1.0
# Mean Dice of ten val heads with such contours: 0.965 to 0.984 with 0.3 to 0.5 per mm and 1 mm of smoothing; 0.980 with
# less weight on the contour or twice the smoothing.
CONTOUR_WEIGHT = 0.4  # per mm


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """For each bin of values, the log ratio of its frequency in the fill to that in tissue, and to that in air."""

    bounds: NDArray[np.float32]
    over_tissue: Field
    over_air: Field

    @property
    def over_both(self) -> Field:
        """The smaller of both, by bin."""
        return np.minimum(self.over_tissue, self.over_air)

    def of(self, voxels: Field, by_bin: Field) -> Field:
        """Return the evidence of each voxel, from a table by bin."""
        return by_bin[np.searchsorted(self.bounds, voxels, side="right")]


def outline_noise_fill(voxels: NDArray[np.float32], proposal: Mask, body: Mask, spacing_mm: Spacing) -> Mask | None:
    """Return the whole area of noise that a proposal belongs to.

    Correlated values may be noise that was resampled; they are accepted only if they differ from tissue and from air.

    Parameters
    ----------
    voxels, proposal, body
        (slice, row, column); the body may include the area.
    spacing_mm
        Along the same axes.

    Returns
    -------
    Mask or None
        In the same shape; None if the proposal is not noise, or if there is too little tissue to compare with.
    """
    grid = coarse_grid(voxels.shape, spacing_mm)
    inside, tissue = grid.reduce(proposal) > 0.5, grid.reduce(body) > 0.5
    if not inside.any() or not tissue.any():
        return None
    depth_mm = signed_distance_mm(inside, grid.spacing_mm)
    core = depth_mm > min(CORE_MM, CORE_SHARE * float(depth_mm.max()))
    body_depth_mm = signed_distance_mm(tissue, grid.spacing_mm)
    is_far = is_far_side(tissue, inside, grid)
    places = core, is_far & (body_depth_mm > TISSUE_MM), is_far & (body_depth_mm < -AIR_MM)
    fill, in_tissue, in_air = (_sample(voxels[grid.spread(place)]) for place in places)
    if min(fill.size, in_tissue.size) < LEAST_VALUES:
        return None
    has_air = in_air.size >= LEAST_VALUES  # the field of view may end at the skin
    evidence = _compare(fill, in_tissue, in_air if has_air else in_tissue)
    whole = _grow(_block_means(voxels, evidence, grid), places, inside, grid) if has_air else None
    if whole is None:
        is_white = neighbour_correlation(voxels, grid.spread(core)) <= WHITE_BELOW
        return _move_edge(voxels, proposal, evidence, evidence.over_tissue, grid, spacing_mm) if is_white else None
    beyond = grid.spread(whole & (depth_mm < -BAND_MM))  # near the proposal, its own contour is the better start
    return _move_edge(voxels, proposal | beyond, evidence, evidence.over_both, grid, spacing_mm)


def neighbour_correlation(voxels: Field, core: Mask) -> float:
    """Return how often neighbours in an area are on the same side of its median, from 0 (by chance) to 1 (always).

    Tissue is correlated from voxel to voxel, also where its signal fades; noise that a tool wrote is not, and a little
    tissue among it changes the result little.

    Parameters
    ----------
    voxels, core
        (slice, row, column); the values, and the area.

    Returns
    -------
    float
        Mean over the axes; 0 if there are too few pairs.
    """
    if not core.any():
        return 0.0
    median = np.float32(np.median(_sample(voxels[core])))
    found = []
    for axis in range(3):
        lower, upper = neighbours_along(axis)
        both = core[lower] & core[upper]
        first, second = _sample(voxels[lower][both]), _sample(voxels[upper][both])
        if first.size >= LEAST_VALUES:
            found.append(float(np.mean(np.sign(first - median) * np.sign(second - median))))
    return float(np.mean(found)) if found else 0.0


def _sample(values: Field) -> Field:
    """Return evenly spaced values, at most about ``MOST_VALUES``."""
    return values[:: max(1, values.size // MOST_VALUES)]


def _compare(fill: Field, tissue: Field, air: Field) -> _Evidence:
    """Compare how often values occur in the three samples."""
    least = min(fill.size, tissue.size, air.size)
    pooled = np.concatenate([sample[:: sample.size // least] for sample in (fill, tissue, air)])
    bounds = np.unique(np.quantile(pooled, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    filled, in_tissue, in_air = (_shares(sample, bounds) for sample in (fill, tissue, air))
    return _Evidence(bounds, _log_ratio(filled, in_tissue), _log_ratio(filled, in_air))


def _shares(values: Field, bounds: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the smoothed share of values in each bin between the bounds; no share is zero."""
    counts = np.bincount(np.searchsorted(bounds, values, side="right"), minlength=bounds.size + 1).astype(np.float64)
    counts = ndimage.gaussian_filter(counts, 0.7, mode="nearest") + 1.0 + 0.001 * values.size / counts.size
    return np.asarray(counts / counts.sum())


def _log_ratio(shares: NDArray[np.float64], others: NDArray[np.float64]) -> Field:
    ratio = np.log(shares / others).clip(-LARGEST_EVIDENCE, LARGEST_EVIDENCE)
    return np.asarray(ratio, dtype=np.float32)


def _block_means(voxels: Field, evidence: _Evidence, grid: CoarseGrid) -> Field:
    """Return the smoothed mean evidence of the coarse voxels: the smaller of that over tissue and that over air."""
    step = grid.block[0]
    means = np.empty((2, *grid.coarse_shape), np.float32)
    for index in range(grid.coarse_shape[0]):
        slab = voxels[index * step : (index + 1) * step]
        blocks = CoarseGrid((slab.shape[0], *grid.shape[1:]), grid.block, grid.spacing_mm)
        for mean, by_bin in zip(means, (evidence.over_tissue, evidence.over_air), strict=True):
            mean[index] = blocks.reduce(evidence.of(slab, by_bin))[0]
    sigma = [SURE_SIGMA_MM / step for step in grid.spacing_mm]
    over_tissue, over_air = (ndimage.gaussian_filter(mean, sigma) for mean in means)
    return np.asarray(np.minimum(over_tissue, over_air))


def _grow(means: Field, places: tuple[Mask, Mask, Mask], inside: Mask, grid: CoarseGrid) -> Mask | None:
    """Return wide regions of high evidence that touch the proposal or exceed ``ISLAND_ML``.

    None if the evidence does not separate the core from tissue and air.
    """
    is_sure = means > SURE_EVIDENCE
    core, tissue, air = (float(is_sure[place].mean()) for place in places)
    if core < LEAST_CORE_SHARE or tissue > LARGEST_TISSUE_SHARE or air > LARGEST_AIR_SHARE:
        return None
    depth_mm = signed_distance_mm(is_sure, grid.spacing_mm)
    middle = depth_mm > SURE_WIDTH_MM / 2
    wide = is_sure & (signed_distance_mm(middle, grid.spacing_mm) > -SURE_WIDTH_MM / 2)
    labelled, n_parts = ndimage.label(wide | inside, SIX_NEIGHBOURS)
    is_met = part_sizes(labelled, n_parts) * float(np.prod(grid.spacing_mm)) / 1000.0 >= ISLAND_ML
    is_met[labelled[inside]] = True
    is_met[0] = False
    return chosen_parts(labelled, is_met)


def _move_edge(
    voxels: Field, area: Mask, evidence: _Evidence, by_bin: Field, grid: CoarseGrid, spacing_mm: Spacing
) -> Mask:
    """Move the contour to where the evidence changes sign; evidence counts less the farther it is from the contour."""
    depth_mm = signed_distance_mm(grid.reduce(area) > 0.5, grid.spacing_mm)
    window = _window(depth_mm > -BAND_MM, grid)
    values = voxels[window]
    shown = np.empty(values.shape, np.float32)
    for index, plane in enumerate(values):
        shown[index] = evidence.of(plane, by_bin)
    ndimage.gaussian_filter(shown, [EDGE_SIGMA_MM / step for step in spacing_mm], output=shown)
    moved = np.zeros(area.shape, bool)
    first = window[0].start
    for index, (depth,) in enumerate(grid.planes(depth_mm)):
        if 0 <= index - first < values.shape[0]:
            near = depth[window[1:]]
            is_written = shown[index - first] + CONTOUR_WEIGHT * near > 0
            moved[index][window[1:]] = (near > BAND_MM) | (near > -BAND_MM) & is_written
    return moved


def _window(blocks: Mask, grid: CoarseGrid) -> tuple[slice, slice, slice]:
    """Return the box of source voxels around a mask on the coarse grid."""
    (box,) = ndimage.find_objects(blocks.view(np.uint8))
    first, second, third = (
        slice(part.start * step, min(size, part.stop * step))
        for part, step, size in zip(box, grid.block, grid.shape, strict=True)
    )
    return first, second, third
