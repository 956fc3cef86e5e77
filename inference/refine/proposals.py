"""Drop parts of the network's proposal that are only air or continuous tissue.

Each connected part is judged on its own, by its values and those directly adjacent to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.grids import (
    SIX_NEIGHBOURS,
    Mask,
    Spacing,
    chosen_parts,
    coarse_grid,
    part_sizes,
    signed_distance_mm,
)
from inference.refine.noise_fill import CORE_MM, neighbour_correlation

LARGE_MM = 65.0  # cube root of 275 mL; no air that was mistaken for a cut was that large
# A cut exposes tissue, so bright voxels are directly adjacent to the fill. If a scanner set dark voxels to zero, the
# body's edge fades before them. In heads with zeroed air, false proposals touched 0 to 4 cm2 of bright tissue, small
# true ones 18. The smaller area is enough if the part lies in the body, as around an eye, or if there is a large part.
CUT_SURFACE_CM2, SMALL_SURFACE_CM2 = 6.0, 0.75
WHOLE_HEAD_MM = 40.0  # thinner stacks need less surface, in proportion
INSIDE_SHARE = 0.15  # of a part in the body, from which the part counts as inside
BRIGHT_EDGE_SHARE = 0.3  # of the voxels adjacent to a part; 0.34 and more in true parts, mostly 0 in false ones
BRIGHT_SHARE = 0.6  # of the step from the fill to the body's median
# Correlations of neighbours that no fill reaches, absolute and as a share of the body's; a noisy fill in a scan that
# was smoothed afterwards is correlated too, but less than its tissue.
TISSUE_FROM, TISSUE_SHARE = 0.33, 0.6


def bordering_tissue(
    voxels: NDArray[np.float32],
    proposal: Mask,
    body: Mask,
    spacing_mm: Spacing,
    *,
    equal: Mask | None = None,
    is_ct: bool = False,
) -> Mask:
    """Return the proposal without small parts that are only air.

    Parameters
    ----------
    voxels, proposal, body
        (slice, row, column).
    spacing_mm
        Along the same axes.
    equal
        Voxels with the fill value, in the same shape. None if there is no such value; the edge is unknown then, and a
        small area of bright tissue is enough.
    is_ct
        Whether this is a CT, in which a part inside the body may be an airway.
    """
    if not body.any():
        return proposal
    labelled, n_parts = ndimage.label(proposal, SIX_NEIGHBOURS)
    sizes_mm = np.cbrt(part_sizes(labelled, n_parts) * float(np.prod(spacing_mm)))
    is_large = sizes_mm >= LARGE_MM
    is_kept = is_large.copy()
    tissue = float(np.median(voxels[::2, ::2, ::2][body[::2, ::2, ::2]])) if body[::2, ::2, ::2].any() else 0.0
    thickness_mm = min(size * step for size, step in zip(voxels.shape, spacing_mm, strict=True))
    thin = min(1.0, thickness_mm / WHOLE_HEAD_MM)  # a stack of few slices shows only a part of a cut
    voxel_cm2 = float(np.prod(spacing_mm)) ** (2 / 3) / 100.0
    for part, box in enumerate(ndimage.find_objects(labelled), start=1):
        if is_kept[part]:
            continue
        around = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        own = labelled[around] == part
        others = ~own
        if equal is not None:
            own, others = own & equal[around], others & ~equal[around]
        if not own.any():
            continue
        adjacent = voxels[around][ndimage.binary_dilation(own, SIX_NEIGHBOURS) & others]
        filled = float(np.median(voxels[around][own]))
        n_bright = np.count_nonzero(np.abs(adjacent - filled) > BRIGHT_SHARE * abs(tissue - filled))
        is_inside = not is_ct and float(body[around][own].mean()) >= INSIDE_SHARE
        is_hinted = is_inside or equal is None or bool(is_large.any())
        enough_cm2 = SMALL_SURFACE_CM2 if is_hinted else CUT_SURFACE_CM2
        enough_share = 0.0 if equal is None else BRIGHT_EDGE_SHARE
        is_kept[part] = n_bright * voxel_cm2 >= enough_cm2 * thin and n_bright >= enough_share * adjacent.size
    return chosen_parts(labelled, is_kept)


def without_tissue(voxels: NDArray[np.float32], proposal: Mask, body: Mask, spacing_mm: Spacing) -> Mask:
    """Return the proposal without parts whose neighbouring voxels are as correlated as tissue and unlike any fill.

    All masks are (slice, row, column) in the shape of ``voxels``.
    """
    labelled, n_parts = ndimage.label(proposal, SIX_NEIGHBOURS)
    core = deep_inside(proposal, spacing_mm)
    correlations = np.zeros(n_parts + 1)
    for part, box in enumerate(ndimage.find_objects(labelled), start=1):
        correlations[part] = neighbour_correlation(voxels[box], core[box] & (labelled[box] == part))
    if correlations.max() <= TISSUE_FROM:
        return proposal
    usual = neighbour_correlation(voxels, deep_inside(body & ~proposal, spacing_mm))
    is_kept = correlations <= max(TISSUE_FROM, TISSUE_SHARE * usual)
    is_kept[0] = False
    return chosen_parts(labelled, is_kept)


def deep_inside(mask: Mask, spacing_mm: Spacing) -> Mask:
    """Return the part of a mask deeper than ``CORE_MM``, which is right even if the contour is wrong by some mm."""
    grid = coarse_grid(mask.shape, spacing_mm)
    return grid.spread(signed_distance_mm(grid.reduce(mask) > 0.5, grid.spacing_mm) > CORE_MM)
