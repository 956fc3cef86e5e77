"""A synthetic CT of a chest and upper abdomen with arms, on a table."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

N_SLICES, N_ROWS, N_COLUMNS = 70, 200, 256
SPACING_MM = (5.0, 2.0, 2.0)
AIR_HU, LUNG_HU, FAT_HU, MUSCLE_HU, ORGAN_HU, BLOOD_HU = -1000.0, -850.0, -100.0, 55.0, 60.0, 45.0
BONE_HU, MARROW_HU, TABLE_HU, FOAM_HU = 700.0, 250.0, 180.0, -880.0
NOISE_HU = 14.0
LOWEST_HU = -1024.0

Field = NDArray[np.float32]


def render_body(*, seed: int) -> hd.Volume:
    """Return a CT in Hounsfield units; axes: slices head to feet, rows front to back, columns right to left."""
    z, y, x = _grid()
    voxels = np.full((N_SLICES, N_ROWS, N_COLUMNS), AIR_HU, dtype=np.float32)
    _put_table(voxels, x, y)
    _put_arms(voxels, x, y, z)
    _put_trunk(voxels, x, y, z)
    _put_organs(voxels, x, y, z)
    _put_skeleton(voxels, x, y, z)
    rng = np.random.default_rng(seed)
    voxels = ndimage.gaussian_filter(voxels, (0.3, 0.6, 0.6))
    noise = ndimage.gaussian_filter(rng.standard_normal(voxels.shape, dtype=np.float32), (0.0, 0.7, 0.7))
    voxels += NOISE_HU * noise / noise.std()
    affine = np.array(
        [
            [0.0, 0.0, SPACING_MM[2], float(x.min())],
            [0.0, SPACING_MM[1], 0.0, float(y.min())],
            [-SPACING_MM[0], 0.0, 0.0, float(z.max())],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    return hd.Volume(np.rint(np.maximum(voxels, LOWEST_HU)), affine, coordinate_system="PATIENT")


def _grid() -> tuple[Field, Field, Field]:
    """Return LPS mm of slices, rows and columns, ready to broadcast; the middle of the trunk is near the origin."""
    z = SPACING_MM[0] * (N_SLICES / 2.0 - np.arange(N_SLICES, dtype=np.float32))
    y = SPACING_MM[1] * (np.arange(N_ROWS, dtype=np.float32) - N_ROWS / 2.0)
    x = SPACING_MM[2] * (np.arange(N_COLUMNS, dtype=np.float32) - N_COLUMNS / 2.0)
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _oval(x: Field, y: Field, centre: tuple[float, float], radii: tuple[float | Field, float | Field]) -> Field:
    """Return values below 1 inside a rounded box, the shape of a trunk in cross-section."""
    sum_of_powers = np.abs((x - centre[0]) / radii[0]) ** 2.4 + np.abs((y - centre[1]) / radii[1]) ** 2.4
    return np.asarray(sum_of_powers, dtype=np.float32)


def _ball(
    x: Field, y: Field, z: Field, centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Return the mask of an ellipsoid; x, y, z in LPS mm."""
    distance = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2
    return np.asarray(distance < 1.0)


def _put_table(voxels: Field, x: Field, y: Field) -> None:
    """Draw a curved carbon plate with a foam core, 6 mm below the back."""
    depth_mm = y - (128.0 - x**2 / 900.0)
    on_table = (np.abs(x) < 215.0) & (depth_mm > 0.0) & (depth_mm < 26.0)
    is_shell = (depth_mm < 4.0) | (depth_mm > 22.0)
    voxels[:, on_table[0]] = FOAM_HU
    voxels[:, (on_table & is_shell)[0]] = TABLE_HU


def _put_arms(voxels: Field, x: Field, y: Field, z: Field) -> None:
    for side in (-1.0, 1.0):
        distance = np.hypot(x - side * (188.0 + 0.03 * z), y - 20.0) + 0.0 * z
        for radius_mm, value in ((37.0, FAT_HU), (31.0, MUSCLE_HU), (11.0, BONE_HU), (6.0, MARROW_HU)):
            voxels[distance < radius_mm] = value


def _put_trunk(voxels: Field, x: Field, y: Field, z: Field) -> None:
    widths = 138.0 + 8.0 * np.cos(z / 90.0), 100.0 + 8.0 * np.cos((z + 60.0) / 80.0)
    for inset_mm, value in ((0.0, MUSCLE_HU), (2.0, FAT_HU), (17.0, MUSCLE_HU), (34.0, FAT_HU)):
        inside = _oval(x, y, (0.0, 10.0), (widths[0] - inset_mm, widths[1] - inset_mm)) < 1.0
        voxels[inside] = value


def _put_organs(voxels: Field, x: Field, y: Field, z: Field) -> None:
    for side in (-1.0, 1.0):
        voxels[_ball(x, y, z, (side * 58.0, 8.0, 70.0), (46.0, 68.0, 125.0))] = LUNG_HU
        voxels[_ball(x, y, z, (side * 52.0, 55.0, -120.0), (26.0, 22.0, 52.0))] = ORGAN_HU  # kidneys
    voxels[_ball(x, y, z, (18.0, -22.0, 45.0), (48.0, 42.0, 55.0))] = BLOOD_HU  # heart
    voxels[_ball(x, y, z, (-48.0, -2.0, -75.0), (66.0, 66.0, 55.0))] = ORGAN_HU  # liver
    voxels[_ball(x, y, z, (60.0, 30.0, -75.0), (28.0, 34.0, 42.0))] = ORGAN_HU  # spleen
    voxels[_ball(x, y, z, (48.0, -38.0, -85.0), (28.0, 26.0, 26.0))] = AIR_HU  # gas in the stomach
    voxels[(np.hypot(x - 10.0, y - 50.0) < 12.0) & (z < 130.0)] = BLOOD_HU  # aorta
    voxels[(np.hypot(x, y - 22.0) < 9.0) & (z > 60.0)] = AIR_HU  # trachea


def _put_skeleton(voxels: Field, x: Field, y: Field, z: Field) -> None:
    in_disc = np.mod(z, 32.0) < 6.0
    body = np.hypot(x, y - 72.0) < 20.0
    voxels[body & ~in_disc] = MARROW_HU
    voxels[body & in_disc] = 90.0
    voxels[body & (np.hypot(x, y - 72.0) > 17.0) & ~in_disc] = BONE_HU
    voxels[(np.hypot(x / 1.2, y - 99.0) < 12.0) & ~in_disc] = BONE_HU  # arches
    voxels[(np.hypot(x, y - 99.0) < 8.0) & (z > -1e3)] = 30.0  # spinal canal
    # Ribs run down towards the front, on an oval between muscle and lung.
    ring = _oval(x, y, (0.0, 10.0), (112.0, 78.0))
    is_rib = np.mod(z + 0.35 * (y - 10.0), 26.0) < 10.0
    voxels[(ring > 0.86) & (ring < 1.12) & is_rib & (z > -70.0) & (y > -55.0)] = BONE_HU
    voxels[(np.abs(x) < 16.0) & (np.abs(y + 68.0) < 6.0) & (z > 0.0)] = MARROW_HU  # sternum
