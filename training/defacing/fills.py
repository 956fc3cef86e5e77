"""Values that tools write where they removed tissue, and the edge of the cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.defacing.scene import Scene

SOFT_EDGE_SHARE = 0.15
AIR_FROM_MM = 6.0  # height above the body, outside its blurred surface
MR_FILLS = ("zero", "minimum", "negative", "constant", "mean", "noise", "air noise")
CT_FILLS = ("air", "zero", "minimum", "below", "mean", "noise", "air noise")


@dataclass(frozen=True, slots=True)
class FillShares:
    """Probabilities of ``MR_FILLS`` and ``CT_FILLS``, in their order."""

    mr: tuple[float, ...]
    ct: tuple[float, ...]


AS_FOUND = FillShares((0.48, 0.07, 0.05, 0.08, 0.06, 0.14, 0.12), (0.32, 0.22, 0.13, 0.08, 0.05, 0.12, 0.08))
# For training: a network learns constants quickly, and noise only from many examples.
MANY_NOISY = FillShares((0.34, 0.06, 0.04, 0.06, 0.04, 0.27, 0.19), (0.24, 0.16, 0.10, 0.06, 0.04, 0.25, 0.15))


def fill(
    scene: Scene, removed: NDArray[np.bool_], rng: np.random.Generator, shares: FillShares = AS_FOUND
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Overwrite the voxels in ``removed``; with a soft edge, values fade into the fill over about a voxel.

    Returns
    -------
    tuple
        The new voxels and the mask of voxels that may have changed, both (slice, row, column). The mask is ``removed``,
        grown if the edge is soft.
    """
    values = _fill_values(scene, rng, shares)
    if rng.random() >= SOFT_EDGE_SHARE:
        return np.where(removed, values, scene.voxels).astype(np.float32), removed
    weight = ndimage.gaussian_filter(removed.astype(np.float32), rng.uniform(0.5, 1.0))
    weight = np.where(weight < 0.05, 0.0, np.where(weight > 0.95, 1.0, weight)).astype(np.float32)
    blended = np.where(weight > 0, weight * values + (1 - weight) * scene.voxels, scene.voxels)
    return blended.astype(np.float32), weight > 0


def _fill_values(scene: Scene, rng: np.random.Generator, shares: FillShares) -> NDArray[np.float32]:
    """Return the fill: one number, or noise in the shape of the volume."""
    voxels = scene.voxels
    kind = rng.choice(CT_FILLS, p=shares.ct) if scene.is_ct else rng.choice(MR_FILLS, p=shares.mr)
    sample = voxels[::3, ::3, ::3]
    low, high = float(sample.min()), float(np.percentile(sample, 99))
    constants = {
        "zero": 0.0,
        "air": float(rng.choice([-1000.0, -1024.0])),
        "minimum": low,
        "below": low - rng.uniform(0.1, 1.0) * (high - low),
        "negative": -rng.uniform(0.01, 0.6) * (high - low),
        "constant": rng.uniform(low, high),
        "mean": float(sample.mean()),
    }
    if kind in constants:
        return np.asarray(constants[kind], dtype=np.float32)
    if kind == "air noise":  # random values of the scan's own air, as mideface writes them
        air = voxels[scene.height_mm > AIR_FROM_MM][::7]
        if air.size:
            return rng.choice(air, voxels.shape).astype(np.float32)
    centre, width = rng.uniform(low, low + 0.5 * (high - low)), rng.uniform(0.02, 0.25) * (high - low)
    if rng.random() < 0.5:
        return rng.normal(centre, width, voxels.shape).astype(np.float32)
    return rng.uniform(low, low + 2 * width, voxels.shape).astype(np.float32)
