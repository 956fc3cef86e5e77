"""Join the area that the judge found with equal values, which show a constant fill to the voxel.

The judge works on any fill but its edge may be wrong by a voxel. If the parts that it found hold one value, the voxels
with that value replace its edge there. What lies farther from them stays as the judge found it: some tools write zeros
in front of a face and another face next to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.anonymized import RefinedArea, area_of_equal_values
from inference.refine.grids import SIX_NEIGHBOURS, DecidedBy, Mask, Spacing, chosen_parts, neighbour_count, part_sizes

LEAST_ML = 0.5  # smaller parts are no evidence
EDGE_VOXELS = 2  # from a constant fill: the judge's edge may be wrong by so much


@dataclass(frozen=True, slots=True, eq=False)
class JudgedArea:
    """What the judge found, as masks (slice, row, column) on the source grid.

    Attributes
    ----------
    removed
        Filled by a tool, so that nothing of the body is left.
    altered
        Smoothed or replaced, and still body.
    """

    removed: Mask
    altered: Mask


def join_with_equal_values(
    voxels: NDArray[np.float32], judged: JudgedArea, body: Mask, spacing_mm: Spacing, *, is_ct: bool
) -> RefinedArea:
    """Return the judge's area, exact to the voxel where a tool wrote one value.

    Parameters
    ----------
    voxels, body
        (slice, row, column) stored values, and the body of the other network, in the shape of the masks.
    spacing_mm
        Along the same axes.
    """
    least_voxels = LEAST_ML / (float(np.prod(spacing_mm)) / 1000.0)
    found = _large_parts(judged.removed | judged.altered, least_voxels)
    if not found.any():
        return RefinedArea(found, found, DecidedBy.NETWORK)
    equal = area_of_equal_values(voxels, found, body, spacing_mm, is_ct=is_ct)
    if equal is None:
        return RefinedArea(found, found & ~judged.altered, DecidedBy.JUDGE)
    if not equal.mask.any():
        rest = found & ~equal.seeds
        return RefinedArea(rest, rest & ~judged.altered, DecidedBy.JUDGE)
    rest = _beyond(equal.mask, found, least_voxels)
    shown = equal.mask | rest & ~judged.altered
    return RefinedArea(equal.mask | rest, shown, DecidedBy.NATIVE_EVIDENCE, equal.value)


def _beyond(exact: Mask, found: Mask, least_voxels: float) -> Mask:
    """Return the parts of ``found`` outside an exact area that are more than a wrong edge around it."""
    rest, near = found & ~exact, exact
    for _ in range(EDGE_VOXELS):
        near = neighbour_count(near) > 0
    far = _large_parts(rest & ~near, least_voxels)
    labelled, n_parts = ndimage.label(rest, SIX_NEIGHBOURS)
    is_kept = np.zeros(n_parts + 1, bool)
    is_kept[labelled[far]] = True
    return chosen_parts(labelled, is_kept)


def _large_parts(mask: Mask, least_voxels: float) -> Mask:
    labelled, n_parts = ndimage.label(mask, SIX_NEIGHBOURS)
    is_kept = part_sizes(labelled, n_parts) >= max(least_voxels, 1)
    is_kept[0] = False
    return chosen_parts(labelled, is_kept)
