"""Label the foreground by a classical method: the body as one solid, its surface half-way between tissue and air.

The surface is where the intensity is half-way between tissue and adjacent air, both measured locally so that a coil's
fall-off does not move it. Cavities (airways, sinuses, lungs, mouth) are closed by morphology; voxels added by closing
are kept only some millimetres below the surface. The method needs good signal; volumes in which it fails were found on
contact sheets and are excluded by name in ``training.cohort``. All masks are (slice, row, column), spacings are in mm
along the same axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.atlas import otsu
from training.inventory import Scan

CLOSING_MM = 9.0
SURFACE_MM = 5.0  # voxels added by closing nearer than this to the closed surface are air: eye sockets, chin, ears
LOCAL_MM = 7.0
TABLE_MM = 5.0
BONE_MM = 6.0
SOFT_TISSUE_AIR_HU = -500.0  # half-way between air (-1000) and skin (about 0)


def label_foreground(scan: Scan, *, is_ct: bool = False) -> NDArray[np.bool_]:
    """Return the body as one solid, a mask (slice, row, column) on the scan's grid."""
    spacing = scan.spacing_mm
    values = ndimage.gaussian_filter(scan.voxels, 0.6 / spacing)
    rough = _rough_body(values, spacing, is_ct=is_ct)
    if not is_ct:
        rough = _half_way(scan.voxels, rough, spacing)
    return solid(rough, spacing, fill_axes=(0,) if is_ct else (0, 1, 2))


def _rough_body(values: NDArray[np.float32], spacing: NDArray[np.float64], *, is_ct: bool) -> NDArray[np.bool_]:
    """Return the bright voxels without weakly connected parts (table, coil, ghosts)."""
    has_hounsfield = is_ct and float(values.min()) < -500.0
    threshold = SOFT_TISSUE_AIR_HU if has_hounsfield else (0.6 if is_ct else 0.5) * otsu(values)
    bright = values > threshold
    if is_ct:
        core = largest_part(erode(bright, TABLE_MM, spacing))
        return bright & dilate(core, TABLE_MM + 3.0, spacing)
    # The scalp is thin and outside dark bone: close before opening, or it is removed together with the ghosts.
    core = largest_part(open_(fill_holes(close(bright, BONE_MM, spacing)), 3.0, spacing))
    return bright & dilate(core, 3.0, spacing)


def _half_way(voxels: NDArray[np.float32], rough: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Move the surface to half the local step between tissue and air."""
    closed = close(rough, CLOSING_MM, spacing)
    body = fill_holes(closed)
    sigma = LOCAL_MM / spacing
    tissue = _local_mean(voxels, erode(rough, 2.0, spacing), sigma)
    air = _local_mean(voxels, ~dilate(body, 3.0, spacing), 2 * sigma)
    near = dilate(body, 3.0, spacing)
    return near & (voxels > (tissue + air) / 2) | erode(rough, SURFACE_MM, spacing)


def _local_mean(
    voxels: NDArray[np.float32], where: NDArray[np.bool_], sigma: NDArray[np.float64]
) -> NDArray[np.float32]:
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma) + 1e-4
    fallback = float(voxels[where].mean()) if where.any() else 0.0
    total = ndimage.gaussian_filter(np.where(where, voxels, 0).astype(np.float32), sigma)
    return np.asarray((total + 1e-4 * fallback) / weight, dtype=np.float32)


def solid(
    tissue: NDArray[np.bool_], spacing: NDArray[np.float64], *, fill_axes: tuple[int, ...] = (0, 1, 2)
) -> NDArray[np.bool_]:
    """Return the largest part with closed and open cavities filled, but without filling concavities of the surface.

    Parameters
    ----------
    tissue
        Mask (slice, row, column).
    fill_axes
        Axes perpendicular to which holes are also filled plane by plane, for airways that leave the field of view.
    """
    tissue = tissue & largest_part(close(tissue, BONE_MM, spacing))  # dark bone may separate the scalp from the rest
    filled = fill_holes(close(tissue, CLOSING_MM, spacing))
    for axis in fill_axes:
        filled = fill_holes(filled, plane_axis=axis)
    body = tissue | erode(filled, SURFACE_MM, spacing)
    body = fill_holes(fill_holes(close(body, 2.5, spacing)), plane_axis=0)
    return largest_part(open_(body, 2.0, spacing))


def fill_holes(mask: NDArray[np.bool_], *, plane_axis: int | None = None) -> NDArray[np.bool_]:
    """Fill background that is not connected to the array's edge, in 3D or in each plane along ``plane_axis``."""
    structure = ndimage.generate_binary_structure(3, 1)
    if plane_axis is not None:
        structure = structure.copy()
        np.moveaxis(structure, plane_axis, 0)[[0, 2]] = False
    labelled, n_parts = ndimage.label(~mask, structure)
    outside = np.zeros(n_parts + 1, bool)
    for axis in range(3):
        if axis != plane_axis:
            faces = np.moveaxis(labelled, axis, 0)
            outside[faces[0]] = True
            outside[faces[-1]] = True
    return np.asarray(mask | ~outside[labelled], dtype=bool)


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected component; an empty mask stays empty."""
    labelled, n_parts = ndimage.label(mask)
    if n_parts < 2:
        return mask
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    return np.asarray(labelled == sizes.argmax())


def dilate(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the dilation by a ball."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius_mm)


def erode(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the erosion by a ball; the edge of the array is not a surface."""
    if mask.all():
        return mask
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing) > radius_mm)


def close(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the closing by a ball, with the mask continued at the array's edges."""
    margin = (np.ceil(radius_mm / spacing) + 1).astype(int)
    padded = np.pad(mask, [(m, m) for m in margin], mode="edge")
    closed = erode(dilate(padded, radius_mm, spacing), radius_mm, spacing)
    return closed[tuple(slice(m, s - m) for m, s in zip(margin, padded.shape, strict=True))]


def open_(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the opening by a ball."""
    return dilate(erode(mask, radius_mm, spacing), radius_mm, spacing)
