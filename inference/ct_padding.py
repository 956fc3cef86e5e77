"""What lies below air in a CT: -2000, -3024 and the like, which scanners write around the circle that they scanned.

There is nothing darker than air, -1000 HU; stored values begin at -1024. To a network that looks at the whole range,
and to everything that measures air, such a corner makes air and body alike, so that the circle passes for a body.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.series.missing import LOWEST_AIR_HU

AIR_HU, SOFT_TISSUE_HU = (LOWEST_AIR_HU, -900.0), (-150.0, 150.0)
LEAST_SHARE = 0.03  # of the voxels that are no padding; MR that happens to reach so low is spread more evenly
EVERY = 4  # voxels along each axis are enough to tell


def without_ct_padding(voxels: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
    """The values with padding raised to air; the same array where there is none.

    Parameters
    ----------
    voxels
        Hounsfield units for CT.
    modality
        Of the source; where it is empty, as for NIfTI, the values tell.
    """
    if modality not in ("CT", "") or not voxels.size or float(voxels.min()) >= LOWEST_AIR_HU:
        return voxels
    if not modality and not _are_hounsfield_units(voxels[::EVERY, ::EVERY, ::EVERY]):
        return voxels
    return np.maximum(voxels, np.float32(LOWEST_AIR_HU))


def _are_hounsfield_units(voxels: NDArray[np.float32]) -> bool:
    """Whether air and soft tissue are both there."""
    scanned = voxels[voxels >= LOWEST_AIR_HU]
    return scanned.size > 0 and all(
        float(np.mean((scanned >= lowest) & (scanned <= highest))) >= LEAST_SHARE
        for lowest, highest in (AIR_HU, SOFT_TISSUE_HU)
    )
