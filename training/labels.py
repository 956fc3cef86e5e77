"""Foreground labels by a careful classical method: the body as one solid, its surface half-way between skin and air.

The surface is where intensity is half-way between the tissue and the air beside it, measured locally, so that a coil's
fall-off does not move it. Cavities (airways, sinuses, lungs, mouth) are closed by morphology, but what closing adds is
taken only a few millimetres inside. The method is right where the signal is good; volumes where it
is not are left out by name after looking at contact sheets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.atlas import otsu
from training.inventory import Scan

CLOSING_MM = 9.0
SURFACE_MM = 5.0  # what closing adds nearer than this to the closed surface is air: eye sockets, chin, ears
LOCAL_MM = 7.0
TABLE_MM = 5.0
BONE_MM = 6.0
SOFT_TISSUE_AIR_HU = -500.0  # half-way between air (-1000) and skin (about 0)


def label_foreground(scan: Scan, *, is_ct: bool = False) -> NDArray[np.bool_]:
    """The body as one solid on the scan's grid."""
    spacing = scan.spacing_mm
    values = ndimage.gaussian_filter(scan.voxels, 0.6 / spacing)
    rough = _rough_body(values, spacing, is_ct=is_ct)
    if not is_ct:
        rough = _half_way(scan.voxels, rough, spacing)
    return solid(rough, spacing, fill_axes=(0,) if is_ct else (0, 1, 2))


def _rough_body(values: NDArray[np.float32], spacing: NDArray[np.float64], *, is_ct: bool) -> NDArray[np.bool_]:
    """Bright voxels, without what hangs on by a thread (table, coil, ghosts)."""
    has_hounsfield = is_ct and float(values.min()) < -500.0
    threshold = SOFT_TISSUE_AIR_HU if has_hounsfield else (0.6 if is_ct else 0.5) * otsu(values)
    bright = values > threshold
    if is_ct:
        core = largest_part(erode(bright, TABLE_MM, spacing))
        return bright & dilate(core, TABLE_MM + 3.0, spacing)
    # The scalp is thin and lies beyond dark bone: close before opening, or it is lost with the ghosts.
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
    """Largest part with its cavities filled, open ones too, without bridging the outside's concavities.

    Parameters
    ----------
    fill_axes
        Array axes across which each plane's holes are filled too: airways that leave the field of view.
    """
    tissue = tissue & largest_part(close(tissue, BONE_MM, spacing))  # dark bone may part the scalp from the rest
    filled = fill_holes(close(tissue, CLOSING_MM, spacing))
    for axis in fill_axes:
        filled = fill_holes(filled, plane_axis=axis)
    body = tissue | erode(filled, SURFACE_MM, spacing)
    body = fill_holes(fill_holes(close(body, 2.5, spacing)), plane_axis=0)
    return largest_part(open_(body, 2.0, spacing))


def fill_holes(mask: NDArray[np.bool_], *, plane_axis: int | None = None) -> NDArray[np.bool_]:
    """Fill what the array's edge cannot reach: in 3D, or in each plane across ``plane_axis`` by itself."""
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
    """The largest connected component; all False stays so."""
    labelled, n_parts = ndimage.label(mask)
    if n_parts < 2:
        return mask
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    return np.asarray(labelled == sizes.argmax())


def dilate(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Dilation by a ball."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius_mm)


def erode(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Erosion by a ball; the edge of the array is no surface."""
    if mask.all():
        return mask
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing) > radius_mm)


def close(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Closing by a ball, with the array continued at its edges."""
    margin = (np.ceil(radius_mm / spacing) + 1).astype(int)
    padded = np.pad(mask, [(m, m) for m in margin], mode="edge")
    closed = erode(dilate(padded, radius_mm, spacing), radius_mm, spacing)
    return closed[tuple(slice(m, s - m) for m, s in zip(margin, padded.shape, strict=True))]


def open_(mask: NDArray[np.bool_], radius_mm: float, spacing: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Opening by a ball."""
    return dilate(erode(mask, radius_mm, spacing), radius_mm, spacing)
