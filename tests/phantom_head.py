"""An ellipsoid head with skin, dark bone and brain, of which every voxel's truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SPACING_MM = (2.0, 1.5, 1.8)
SHAPE = (80, 120, 90)
RADII_MM = (70.0, 75.0, 60.0)


@dataclass(frozen=True, eq=False)
class Phantom:
    """Voxels with axes towards head, posterior and left, and the body in them."""

    voxels: NDArray[np.float32]
    body: NDArray[np.bool_]

    def depth_mm(self) -> NDArray[np.float64]:
        """Below the body's surface."""
        return np.asarray(ndimage.distance_transform_edt(self.body, sampling=SPACING_MM))


@cache
def phantom(*, noise: float = 8.0, air: float = 0.0, tissue: float = 600.0, seed: int = 0) -> Phantom:
    """A head in air; with ``noise`` 0 the air is exactly constant."""
    rng = np.random.default_rng(seed)
    axes = [
        (np.arange(size) - size / 2) * step / radius
        for size, step, radius in zip(SHAPE, SPACING_MM, RADII_MM, strict=True)
    ]
    ratio = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    body = ratio < 1
    values = np.where(body, tissue, air)
    values[(ratio > 0.80) & (ratio < 0.92)] = air + 0.05 * (tissue - air)  # bone
    texture = rng.normal(0, 1, SHAPE)
    values = ndimage.gaussian_filter(values, 0.4) + texture * np.where(body, 30.0, noise)
    if noise == 0:
        values[ndimage.distance_transform_edt(~body) > 2] = air
    voxels = values.astype(np.float32)
    voxels.flags.writeable = body.flags.writeable = False  # tests share them
    return Phantom(voxels, body)


def coarse_contour(mask: NDArray[np.bool_], shift_mm: float, *, seed: int = 1) -> NDArray[np.bool_]:
    """The mask as a network at 3 mm gives it: its surface is wavy by a few millimetres."""
    return _coarse_contour(mask.tobytes(), mask.shape, shift_mm, seed)


@lru_cache(maxsize=32)
def _coarse_contour(content: bytes, shape: tuple[int, ...], shift_mm: float, seed: int) -> NDArray[np.bool_]:
    mask = np.frombuffer(content, np.bool_).reshape(shape)
    rng = np.random.default_rng(seed)
    distance = ndimage.distance_transform_edt(mask, sampling=SPACING_MM) - ndimage.distance_transform_edt(
        ~mask, sampling=SPACING_MM
    )
    wave = ndimage.gaussian_filter(rng.normal(0, 1, mask.shape), 4.0)
    contour = np.asarray(distance > shift_mm * wave / wave.std())
    contour.flags.writeable = False  # tests share it
    return contour


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth)))
