"""Find cuts away from the proposal: surfaces where bright tissue directly meets the tool's fill value.

If a scanner sets air to one value, the body's surface fades over a voxel or two before that air. A cut exposes bright
tissue from inside the body. Padding around the scan exposes it too, but lies outside the box of all other values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.grids import CoarseGrid, Mask, chosen_parts, is_far_side, neighbours_along
from inference.refine.proposals import BRIGHT_SHARE

SIGMA_MM = 5.0  # over which shares of a surface are averaged
# In 23 cases of four defaced val heads, all 38 patches above these limits were real cuts. 16 untouched cases had one
# such patch, of 2 cm2, apart from those with a padded field of view or with air zeroed up to the skin.
BARED_SHARE = 0.5  # of the voxels next to the value: share of bright ones
LEAST_SURFACE = 0.03  # share of voxels next to the value
PATCH_CM2 = 2.0  # smallest patch of a surface
LARGEST_FAR_SHARE = 0.1  # of the surface on the far side of the head, where no tool works
ALL_NEIGHBOURS = ndimage.generate_binary_structure(3, 3)


def cut_surfaces(
    voxels: NDArray[np.float32], value: float, dense: Mask, seeds: Mask, body: Mask, grid: CoarseGrid
) -> Mask:
    """Return the coarse voxels of all surfaces where a value meets bright tissue.

    Empty if it does so on the far side of the head too, where no tool works.

    Parameters
    ----------
    voxels, body
        (slice, row, column) on the source grid.
    dense
        Voxels with the value that lie close together, in the same shape.
    seeds
        Voxels of a proven cut, in the same shape.
    grid
        Blocks of the source grid; the result has its coarse shape.
    """
    nothing = np.zeros(grid.coarse_shape, bool)
    coarse_body = grid.reduce(body) > 0.5
    if not coarse_body.any():
        return nothing
    tissue = float(np.median(voxels[::2, ::2, ::2][body[::2, ::2, ::2]])) if body[::2, ::2, ::2].any() else value
    fill, bright = np.float32(value), np.float32(BRIGHT_SHARE * abs(tissue - value))
    is_other = voxels != fill
    scanned = _box_of(is_other)
    touching = grid.reduce(_facing(dense, is_other, scanned))
    del is_other
    bared = grid.reduce(_facing(dense, (voxels > fill + bright) | (voxels < fill - bright), scanned))
    sigma = [SIGMA_MM / step for step in grid.spacing_mm]
    around, bared_around = (ndimage.gaussian_filter(share, sigma) for share in (touching, bared))
    is_cut = (around > LEAST_SURFACE) & (bared_around > BARED_SHARE * around) & (bared > 0)
    is_far = is_far_side(coarse_body, grid.reduce(seeds) > 0, grid)
    far_surface = touching[is_far].sum()
    if touching[is_far & is_cut].sum() > LARGEST_FAR_SHARE * far_surface:
        return nothing
    labelled, n_parts = ndimage.label(is_cut, ALL_NEIGHBOURS)
    voxel_cm2 = float(np.prod(grid.spacing_mm) / np.prod(grid.block)) ** (2 / 3) / 100.0
    areas_cm2 = np.bincount(labelled.ravel(), weights=bared.ravel(), minlength=n_parts + 1)
    areas_cm2 *= float(np.prod(grid.block)) * voxel_cm2
    areas_cm2[0] = 0.0
    return chosen_parts(labelled, areas_cm2 >= PATCH_CM2)


def _facing(area: Mask, others: Mask, within: tuple[slice, ...]) -> Mask:
    """Return the voxels of an area within a box that share a face with a voxel of ``others`` in it."""
    facing = np.zeros(area.shape, bool)
    part, area, others = facing[within], area[within], others[within]
    for axis in range(3):
        lower, upper = neighbours_along(axis)
        part[lower] |= area[lower] & others[upper]
        part[upper] |= area[upper] & others[lower]
    return facing


def _box_of(mask: Mask) -> tuple[slice, ...]:
    boxes = ndimage.find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else (slice(0),) * mask.ndim
