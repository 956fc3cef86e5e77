"""Refine areas of blurred or pixelated tissue, whose values are smoother than those of the rest of the body.

In a scan, the second difference along an axis (turn) is about as large as the first difference (step). Where a tool
averaged values, the second difference is small. This holds at any contrast and noise level; if a whole scan is smooth,
the comparison with the rest of the body decides. So a proposal is kept only where its values are smoother than the
body's, and its edge is placed where this ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.grids import (
    SIX_NEIGHBOURS,
    CoarseGrid,
    Field,
    Mask,
    Spacing,
    coarse_grid,
    neighbours_along,
    part_sizes,
    signed_distance_mm,
)

# Ratio of turns to steps inside a proposal, relative to the body's: blurred heads 0.39 to 0.49, pixelated 0.63, false
# proposals on untouched heads 0.99 to 1.16 (four val heads under six conditions each).
SMOOTH_BELOW = 0.8
LARGEST_RATIO = 4.0  # of turns to steps in one voxel, whose steps may be close to zero
SIGMA_MM = 2.5  # four val heads: 0.86 to 0.95 in the head; 0.93 with 1.8 mm
CORE_MM, TISSUE_MM = 3.0, 2.0  # depth below the proposal's and the body's surface from which values are compared
NEARBY_MM = (6.0, 60.0)  # distance from the proposal of the body to compare with
BAND_MM = 8.0  # around the contour, in which the edge is searched
CONTOUR_WEIGHT = 0.03  # per mm from the contour, in units of the difference between blurred and other tissue
PART_ML = 1.0  # smaller proposals are inconclusive


def refine_blurred(voxels: NDArray[np.float32], proposal: Mask, body: Mask, spacing_mm: Spacing) -> Mask:
    """Keep the parts of a proposal that are smoother than the body around them, and move their edge to where this ends.

    Parameters
    ----------
    voxels, proposal, body
        (slice, row, column); the body includes the proposal.
    spacing_mm
        Along the same axes.

    Returns
    -------
    Mask
        In the same shape; empty if no part is confirmed.
    """
    found = np.zeros(proposal.shape, bool)
    if not proposal.any():
        return found
    window = _window(proposal, spacing_mm)
    voxels = voxels[window]
    grid = coarse_grid(voxels.shape, spacing_mm)
    parts, n_parts = ndimage.label(grid.reduce(proposal[window]) > 0.5, SIX_NEIGHBOURS)
    is_large = part_sizes(parts, n_parts) * float(np.prod(grid.spacing_mm)) / 1000.0 >= PART_ML
    if not is_large.any():
        return found
    is_tissue = signed_distance_mm(grid.reduce(body[window]) > 0.5, grid.spacing_mm) > TISSUE_MM
    depth_mm = signed_distance_mm(parts > 0, grid.spacing_mm)
    turns = ndimage.gaussian_filter(_block_means(voxels, grid), [SIGMA_MM / step for step in grid.spacing_mm])
    nearby, core = turns[is_tissue & (depth_mm < -NEARBY_MM[0])], is_tissue & (depth_mm > CORE_MM)
    if not nearby.size:
        return found
    usual = float(np.median(nearby))
    is_smooth = np.zeros(n_parts + 1, bool)
    for part in np.flatnonzero(is_large):
        inside = turns[core & (parts == part)]
        is_smooth[part] = inside.size > 0 and float(np.median(inside)) < SMOOTH_BELOW * usual
    kept = is_smooth[parts]
    if not kept.any():
        return found
    smooth = float(np.median(turns[core & kept]))
    evidence = ((smooth + usual) / 2 - turns) / (usual - smooth)
    depth_mm = signed_distance_mm(kept, grid.spacing_mm)
    fields = grid.planes(evidence, depth_mm)
    for plane, tissue, (shown, depth) in zip(found[window], body[window], fields, strict=True):
        is_shown = (depth > BAND_MM) | (depth > -BAND_MM) & (shown + CONTOUR_WEIGHT * depth > 0)
        plane[...] = is_shown & (tissue | (depth > 0))  # constant air is smooth too
    return found


def _block_means(voxels: Field, grid: CoarseGrid) -> Field:
    """Return the mean of ``turns_per_step`` in each block, computed layer by layer."""
    step, n_planes = grid.block[0], voxels.shape[0]
    means = np.empty(grid.coarse_shape, np.float32)
    for index in range(grid.coarse_shape[0]):
        first, last = index * step, min((index + 1) * step, n_planes)
        around = max(0, first - 1)
        turns = turns_per_step(voxels[around : last + 1])[first - around : last - around]
        means[index] = CoarseGrid(turns.shape, grid.block, grid.spacing_mm).reduce(turns)[0]
    return means


def turns_per_step(voxels: Field) -> Field:
    """Return the ratio of turns to steps at each voxel of a (slice, row, column) array; 0 where all values are equal.

    The turn is the median over the axes of the absolute second difference, the step the mean absolute difference to the
    face neighbours. The ratio is limited to ``LARGEST_RATIO``.
    """
    steps = np.zeros(voxels.shape, np.float32)
    turns = []
    for axis, size in enumerate(voxels.shape):
        if size < 3:
            continue
        lower, middle, upper = (
            tuple(part if other == axis else slice(None) for other in range(3))
            for part in (slice(None, -2), slice(1, -1), slice(2, None))
        )
        turn = np.zeros(voxels.shape, np.float32)
        turn[middle] = np.abs(voxels[lower] - 2 * voxels[middle] + voxels[upper])
        turns.append(turn)
        step = np.abs(np.diff(voxels, axis=axis))
        for side in neighbours_along(axis):
            steps[side] += step
    if not turns:
        return steps
    steps /= 2 * len(turns)
    turn = np.median(turns, axis=0)
    ratio = np.divide(turn, steps, out=np.zeros_like(steps), where=steps > 0)
    return np.minimum(ratio, LARGEST_RATIO, out=ratio)


def _window(mask: Mask, spacing_mm: Spacing) -> tuple[slice, ...]:
    """Return the box around a mask, with a margin for the body to compare with."""
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    margins = [int(np.ceil(NEARBY_MM[1] / step)) for step in spacing_mm]
    return tuple(
        slice(max(0, part.start - margin), part.stop + margin) for part, margin in zip(box, margins, strict=True)
    )
