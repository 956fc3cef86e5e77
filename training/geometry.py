"""Resample a scan to a random grid: rotated, scaled, mirrored, and with another voxel size, as from another scanner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from training.cohort import Member

AIR_MARGINS_MM = (8.0, 32.0)
MAX_VOXELS = 2_600_000


def draw_grid(member: Member, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw a grid over the member; return the (4, 4) map from new to old index and the shape (slice, row, column)."""
    spacing = np.linalg.norm(member.affine[:3, :3], axis=0)
    shape = np.array(member.voxels.shape)
    low, high = np.zeros(3), shape * spacing
    if member.is_labelmap:  # label maps are cropped to the head: add air, but none below the neck
        margins = rng.uniform(*AIR_MARGINS_MM, (2, 3))
        low, high = low - margins[0], high + margins[1]
        low[0] = rng.uniform(-10.0, 25.0)
    new_spacing = _draw_spacing(spacing, rng, is_labelmap=member.is_labelmap)
    scale = np.clip(rng.normal(1.0, 0.07, 3) * rng.normal(1.0, 0.05), 0.8, 1.25)
    degrees = rng.normal(0, 6.0, 3) if rng.random() < 0.8 else rng.normal(0, 16.0, 3)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(1 / scale)
    if rng.random() < 0.5:
        turn = turn @ np.diag([1.0, 1.0, -1.0])
    extent = (high - low) * scale
    new_shape = np.maximum(np.round(extent / new_spacing), 4).astype(np.int64)
    excess = float(np.prod(new_shape)) / MAX_VOXELS
    if excess > 1:
        new_spacing = new_spacing * excess ** (1 / 3)
        new_shape = np.maximum(np.round(extent / new_spacing), 4).astype(np.int64)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(1 / spacing) @ turn @ np.diag(new_spacing)
    centre_old = ((low + high) / 2) / spacing - 0.5
    matrix[:3, 3] = centre_old - matrix[:3, :3] @ ((new_shape - 1) / 2)
    return matrix, new_shape


def spacing_after(member: Member, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the voxel size of a drawn grid along (slice, row, column), in mm of the member's anatomy."""
    return np.asarray(np.linalg.norm((member.affine @ matrix)[:3, :3], axis=0))


def _draw_spacing(spacing: NDArray[np.float64], rng: np.random.Generator, *, is_labelmap: bool) -> NDArray[np.float64]:
    if is_labelmap:
        fine = rng.uniform(1.3, 2.4)
        if rng.random() < 0.3:  # thick slices in any plane
            thick = np.full(3, rng.uniform(1.2, 1.8))
            thick[rng.integers(3)] = rng.uniform(3.0, 6.0)
            return thick
        return np.full(3, fine) * rng.uniform(0.9, 1.1, 3)
    if rng.random() < 0.15:
        thick = spacing.copy()
        thick[rng.integers(3)] = max(rng.uniform(3.0, 5.0), float(thick.max()))
        return thick
    return np.asarray(spacing * rng.uniform(0.85, 1.3))


def resample(
    values: NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.bool_],
    matrix: NDArray[np.float64],
    shape: NDArray[np.int64],
    *,
    order: int,
    outside: str = "nearest",
) -> NDArray[np.float32]:
    """Return values (slice, row, column) on a drawn grid.

    Outside the old grid the edge is continued, or zero is used with ``outside="constant"``.
    """
    return np.asarray(
        ndimage.affine_transform(
            values,
            matrix[:3, :3],
            matrix[:3, 3],
            tuple(int(size) for size in shape),
            output=np.float32 if order else values.dtype,
            order=order,
            mode=outside,
            prefilter=False,
        )
    )
