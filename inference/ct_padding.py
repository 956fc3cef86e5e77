"""Raise CT padding to the value of air.

Scanners write values such as -2000 or -3024 outside the reconstructed circle. Nothing is darker than air, -1000 HU
(stored values begin at -1024 HU). Compared with the padding, air and body look alike: a network that uses the whole
range of values, or a measurement of air, then takes the whole circle for the body.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.series.missing import LOWEST_AIR_HU

AIR_HU, SOFT_TISSUE_HU = (LOWEST_AIR_HU, -900.0), (-150.0, 150.0)
LEAST_SHARE = 0.03  # of the voxels that are not padding; MR values that happen to be so low are spread more evenly
EVERY = 4  # every fourth voxel along each axis is enough to decide


def without_ct_padding(voxels: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
    """Return the voxels with padding raised to air; the same array if there is no padding.

    Parameters
    ----------
    voxels
        (slice, row, column), in Hounsfield units for CT.
    modality
        Modality of the source. If it is empty, as for NIfTI, the values decide whether this is a CT.
    """
    if modality not in ("CT", "") or not voxels.size or float(voxels.min()) >= LOWEST_AIR_HU:
        return voxels
    if not modality and not _are_hounsfield_units(voxels[::EVERY, ::EVERY, ::EVERY]):
        return voxels
    return np.maximum(voxels, np.float32(LOWEST_AIR_HU))


def _are_hounsfield_units(voxels: NDArray[np.float32]) -> bool:
    """Whether enough voxels have the Hounsfield units of air, and enough those of soft tissue."""
    scanned = voxels[voxels >= LOWEST_AIR_HU]
    return scanned.size > 0 and all(
        float(np.mean((scanned >= lowest) & (scanned <= highest))) >= LEAST_SHARE
        for lowest, highest in (AIR_HU, SOFT_TISSUE_HU)
    )
