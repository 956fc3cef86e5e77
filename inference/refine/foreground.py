"""Refine the body's surface on the source grid: about half-way between skin and the adjacent air.

The network's contour is accurate to a few millimetres; beyond that distance on both sides it is trusted. In between, a
voxel is body if its value is above a local level between air and tissue, the lower the darker the skin is. Dark voxels
that are enclosed in an axial plane (bone, nostrils, lungs that the network left out) count as body, so that the body
stays one solid.

A coarse network easily misses a thin bright scalp outside dark bone. In MR nothing else near the body is bright, so the
contour first grows to the scalp. In CT the bright object may be a couch, so it does not grow; the parts of a couch or a
head holder that a coarse network included are wide thin plates, unlike any part of a body, and are removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.refine.grids import (
    SIX_NEIGHBOURS,
    CoarseGrid,
    DecidedBy,
    Field,
    Mask,
    Spacing,
    chosen_parts,
    coarse_grid,
    largest_part,
    neighbour_count,
    part_sizes,
    signed_distance_mm,
)

INNER_MM = 3.0  # all voxels deeper than this below the network's contour are body
OUTER_MM = 3.0  # no voxel higher than this above it is body
TISSUE_DEPTHS_MM = (1.0, 6.0)  # skin and fat; deeper voxels may be bone, higher ones are partly air
AIR_HEIGHT_MM = 4.0  # voxels higher than this above the contour are air
TISSUE_SIGMA_MM = 7.0
AIR_SIGMA_MM = 14.0
BRIGHT_SHARE = 0.15  # of the step from air to tissue; darker voxels are bone or a cavity and not measured as tissue
GROWTH_MM = 9.0  # bright voxels up to this height above the contour are scalp
BRIDGE_MM = 6.0  # dark bone between scalp and contour is at most twice as thick as this
PLATE_MM = 10.0  # couches, holders and blankets are thinner than this; ears are too,
PLATE_ML = 20.0  # but they are smaller than this
EDGE_BAND_MM = 6.0  # around the contour, in which the body's edge is examined
ONE_VALUE_SHARE = 0.98  # of the air with one value, from which that value was written by software
HARD_SHARE = 0.6  # of the step from air to the body's median, from which an edge voxel is tissue and not a fading edge
HARD_EDGE_SHARE = 0.35  # of the edge; 0.0 to 0.1 in heads with zeroed air, 0.4 to 0.6 around stripped brains
HALF_WAY_HU = -500.0  # between air (-1000) and skin (about 0)
CUT_EDGE_VOXELS = 2  # between body and cut: dark voxels of the body that the half-way rule takes for air
# Where the surface lies between air (0) and the tissue below it (1). It is somewhat below half-way to the skin, which
# is often darker than that tissue: half-way to the tissue, its outer part is left out (0091).
SKIN_SHARE = 0.45  # of the step from air to skin
SKIN_MIXED = 0.15  # share of tissue below the skin in the voxels in which skin is measured, for it is thin
SURFACE_SHARES = (0.15, 0.42)  # lowest and highest share of the step from air to tissue
SKIN_MM = 2.0  # largest voxel side of the grid on which skin is measured
SKIN_NOISE, SKIN_FROM = 5.0, 0.15  # a voxel above both is not air: deviations of air; share of the step
SKIN_DEPTHS_MM = (-4.0, 6.0)  # around the contour, where the outermost voxel that is not air is searched
# Of a voxel's block of 27: fewer than this share are a speck, more than the other one surround a hole.
SPECK_SHARE, HOLE_SHARE = 1 / 3, 2 / 3
LEAST_STEP = 0.15  # of the volume's range of values, below which the contrast of body and air is too low to refine
LEVEL_FACTOR = 2  # coarse voxels per sample of the levels, which vary over a centimetre
THICKNESS_RATIO = 1.5  # there is no smoothing along axes whose spacing exceeds the finest by more than this factor


@dataclass(frozen=True, slots=True, eq=False)
class RefinedBody:
    """The refined mask, (slice, row, column), and what determined its contour."""

    mask: Mask
    decided_by: DecidedBy


def refine_foreground(
    voxels: NDArray[np.float32],
    contour: Mask,
    removed: Mask,
    spacing_mm: Spacing,
    *,
    anonymized: Mask | None = None,
    fill_value: float | None = None,
    is_ct: bool = False,
) -> RefinedBody:
    """Move the network's contour to the half-way surface; next to an exact cut the body ends where the cut begins.

    Parameters
    ----------
    voxels
        (slice, row, column) values with the first axis towards the head.
    contour
        The body of the network, in the same shape.
    removed
        Voxels that a tool certainly wrote, in the same shape; they count neither as body nor as air.
    spacing_mm
        Along the same axes.
    anonymized
        The whole anonymised area, proven or not; the contour does not grow into it. None for ``removed``.
    fill_value
        The value that a tool wrote into ``removed``; None if that is no single value.
    is_ct
        Whether this is a CT. If its values look like Hounsfield units, the half-way level is -500 HU and not measured.
    """
    grid = coarse_grid(voxels.shape, spacing_mm)
    above = grid.coarser(LEVEL_FACTOR)
    blocks = above.over(grid)
    values, is_removed = grid.reduce(voxels), grid.reduce(removed) > 0
    is_body = grid.reduce(contour) > 0.5
    if is_ct:
        is_body = _without_plates(is_body, grid.spacing_mm)
    depth_mm = signed_distance_mm(is_body, grid.spacing_mm)
    levels = _surface_levels(values, depth_mm, is_removed, blocks, is_ct=is_ct)
    if levels is not None and not is_ct:
        kept_out = is_removed if anonymized is None else grid.reduce(anonymized) > 0
        is_bright = values > np.stack([level for (level,) in blocks.planes(levels)])
        is_body = _with_scalp(is_body, is_bright & ~kept_out, depth_mm, grid.spacing_mm) & (is_body | ~kept_out)
        depth_mm = signed_distance_mm(is_body, grid.spacing_mm)
        share = _surface_share(voxels, grid.spread(is_body), removed, spacing_mm)
        levels = _surface_levels(values, depth_mm, is_removed, blocks, is_ct=is_ct, share=share)
    if levels is None:
        return RefinedBody(contour & ~removed, DecidedBy.NETWORK)
    cut_out_at = _value_around_cut_out_body(voxels, depth_mm, removed, grid)
    if cut_out_at is not None:
        levels = np.full_like(levels, cut_out_at)
    body = np.empty(voxels.shape, bool)
    planes = zip(grid.planes(depth_mm), above.planes(levels), strict=True)
    for index, ((depth,), (level,)) in enumerate(planes):
        body[index] = (depth > INNER_MM) | (depth > -OUTER_MM) & (voxels[index] > level)
    body &= ~removed
    axes = tuple(axis for axis in range(3) if spacing_mm[axis] <= THICKNESS_RATIO * min(spacing_mm))
    body = _without_specks(body, axes)
    if fill_value is not None:
        body |= contour & _dark_at_cut(voxels, body, removed, np.float32(fill_value))
    for index in range(voxels.shape[0]):
        body[index] |= _holes(body[index])  # plane by plane, because lungs are open if the scan ends in the chest
    body &= ~removed
    return RefinedBody(largest_part(body), DecidedBy.NATIVE_EVIDENCE)


def _without_specks(body: Mask, axes: tuple[int, ...]) -> Mask:
    """Return the mask without single voxels and holes; a majority would take off every edge and thin part."""
    count, size = neighbour_count(body, axes), 3 ** len(axes)
    return np.asarray(body & (count > SPECK_SHARE * size) | (count > HOLE_SHARE * size))


def _dark_at_cut(voxels: Field, body: Mask, removed: Mask, fill_value: np.float32) -> Mask:
    """Return the voxels between body and cut that the tool left as they were: dark bone and sinuses.

    The half-way rule takes them for air, because the cut looks like air to it.
    """
    between = np.ones(voxels.shape, bool)
    for mask in (body, removed):
        near = mask
        for _ in range(CUT_EDGE_VOXELS):
            near = neighbour_count(near) > 0
        between &= near
    return np.asarray(between & ~removed & (voxels != fill_value))


def _value_around_cut_out_body(voxels: Field, depth_mm: Field, removed: Mask, grid: CoarseGrid) -> float | None:
    """Return the value around a body that was cut out of its scan, as by skull stripping; None for other scans.

    In such a scan every voxel with another value is body, even a dark one, because there is no skin that fades.
    """
    near_edge = grid.spread(np.abs(depth_mm) < EDGE_BAND_MM) & ~removed
    air = voxels[grid.spread(depth_mm < -AIR_HEIGHT_MM) & ~removed]
    if not air.size:
        return None
    value = float(np.median(air))
    if float(np.mean(air == np.float32(value))) < ONE_VALUE_SHARE:
        return None
    is_value = voxels == np.float32(value)
    edge = voxels[ndimage.binary_dilation(is_value, SIX_NEIGHBOURS) & ~is_value & near_edge]
    inside = voxels[grid.spread(depth_mm > 0) & ~is_value]
    if not edge.size or not inside.size or float(np.median(inside)) <= value:
        return None
    is_hard = edge - value > HARD_SHARE * (float(np.median(inside)) - value)
    return value if float(is_hard.mean()) > HARD_EDGE_SHARE else None


def _without_plates(is_body: Mask, spacing_mm: Spacing) -> Mask:
    """Return the contour without wide parts thinner than a limb; the mask is continued beyond the array's edge."""
    radius_mm = PLATE_MM / 2
    depth_mm = ndimage.distance_transform_edt(np.pad(is_body, 1, mode="edge"), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    core = depth_mm > radius_mm
    if not core.any():
        return is_body
    beyond_mm = ndimage.distance_transform_edt(~core, sampling=spacing_mm)
    labelled, n_parts = ndimage.label(is_body & (beyond_mm > radius_mm + max(spacing_mm)), SIX_NEIGHBOURS)
    is_plate = part_sizes(labelled, n_parts) * np.prod(spacing_mm) / 1000.0 >= PLATE_ML
    return is_body & ~chosen_parts(labelled, is_plate)


def _with_scalp(is_body: Mask, is_bright: Mask, depth_mm: Field, spacing_mm: Spacing) -> Mask:
    """Return the contour with nearby bright voxels and the bone in between added, without threads and specks."""
    is_near = depth_mm > -GROWTH_MM
    margins = [int(np.ceil(BRIDGE_MM / step)) + 1 for step in spacing_mm]
    padded = np.pad(is_body | is_bright & is_near, [(margin, margin) for margin in margins], mode="edge")
    dilated = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= BRIDGE_MM
    closed = ndimage.distance_transform_edt(dilated, sampling=spacing_mm) > BRIDGE_MM
    closed = closed[tuple(slice(margin, -margin) for margin in margins)] & is_near
    return np.asarray(ndimage.binary_opening(closed | is_body) | is_body)


def _surface_share(voxels: Field, contour: Mask, removed: Mask, spacing_mm: Spacing) -> float:
    """Return where the surface lies between air (0) and the tissue below it (1), from how bright the skin is.

    The outermost voxels that are not air are partly air; the skin is measured in the voxels below these.
    """
    lowest, highest = SURFACE_SHARES
    grid = coarse_grid(voxels.shape, spacing_mm, coarse_mm=SKIN_MM)
    values, is_free = grid.reduce(voxels), grid.reduce(removed) == 0
    depth_mm = signed_distance_mm(grid.reduce(contour) > 0.5, grid.spacing_mm)
    outside = values[(depth_mm < -AIR_HEIGHT_MM) & is_free]
    inside = values[(depth_mm > TISSUE_DEPTHS_MM[0]) & (depth_mm < TISSUE_DEPTHS_MM[1]) & is_free]
    if not outside.size or not inside.size:
        return highest
    air, tissue = float(np.median(outside)), float(np.median(inside))
    deviation = 1.4826 * float(np.median(np.abs(outside - air)))
    is_found = values > air + max(SKIN_NOISE * deviation, SKIN_FROM * (tissue - air))
    deep = depth_mm > SKIN_DEPTHS_MM[1]
    found = ndimage.binary_opening(deep | is_found & (depth_mm > SKIN_DEPTHS_MM[0])) | deep
    below = ndimage.binary_erosion(ndimage.binary_fill_holes(found), border_value=1)
    is_second = below & ~ndimage.binary_erosion(below, border_value=1)
    skin = values[is_second & (np.abs(depth_mm) < SKIN_DEPTHS_MM[1]) & is_free]
    if not skin.size or tissue <= air:
        return highest
    measured = (float(np.median(skin)) - air) / (tissue - air)
    return float(np.clip(SKIN_SHARE * (measured - SKIN_MIXED) / (1 - SKIN_MIXED), lowest, highest))


def _surface_levels(
    values: Field,
    depth_mm: Field,
    removed: Mask,
    blocks: CoarseGrid,
    *,
    is_ct: bool,
    share: float = SURFACE_SHARES[1],
) -> Field | None:
    """Return the level above which a voxel is tissue, on the grid of blocks; None if body and air do not differ."""
    inside = (depth_mm > TISSUE_DEPTHS_MM[0]) & (depth_mm < TISSUE_DEPTHS_MM[1]) & ~removed
    outside = (depth_mm < -AIR_HEIGHT_MM) & ~removed
    if not inside.any() or not outside.any():
        return None
    tissue, air = float(np.median(values[inside])), float(np.median(values[outside]))
    if is_ct and air < HALF_WAY_HU < tissue:
        return np.full(blocks.coarse_shape, HALF_WAY_HU, np.float32)
    low, high = np.percentile(values, [1.0, 99.0])
    if tissue <= air or tissue - air < LEAST_STEP * (high - low):
        return None
    bright = inside & (values > air + BRIGHT_SHARE * (tissue - air))
    tissue_level = _local_mean(values, bright, blocks, TISSUE_SIGMA_MM)
    air_level = _local_mean(values, outside, blocks, AIR_SIGMA_MM)
    return np.asarray(air_level + share * (tissue_level - air_level), dtype=np.float32)


def _local_mean(values: Field, where: Mask, blocks: CoarseGrid, sigma_mm: float) -> Field:
    """Return the local mean of the chosen voxels on a grid of blocks; far from all of them, their overall mean."""
    sigma = [sigma_mm / step for step in blocks.spacing_mm]
    faint = np.float32(1e-4)
    weight = ndimage.gaussian_filter(blocks.reduce(where), sigma) + faint
    total = ndimage.gaussian_filter(blocks.reduce(np.where(where, values, np.float32(0))), sigma)
    return np.asarray((total + faint * values[where].mean(dtype=np.float64)) / weight, dtype=np.float32)


def _holes(plane: Mask) -> Mask:
    """Return the holes of a plane: background that is not connected to its edge."""
    labelled, n_parts = ndimage.label(~plane)
    outside = np.zeros(n_parts + 1, bool)
    for edge in (labelled[0], labelled[-1], labelled[:, 0], labelled[:, -1]):
        outside[edge] = True
    outside[0] = True
    return np.asarray(~outside[labelled])
