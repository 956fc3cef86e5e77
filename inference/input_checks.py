"""Check a volume before segmentation: missing numbers, presence of a signal, and the size of a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from inference.series.errors import FieldOfViewError, SeriesTooLargeError
from inference.series.limits import MAX_VOXELS
from inference.series.missing import LOWEST_AIR_HU, fill_missing, is_missing_any, missing_remarks
from inference.series.remarks import Remark, RemarkCode
from inference.series.uids import NIFTI
from inference.series.volume import SourceVolume

# Smallest field of view of a person: a finger in a small coil has 40 mm (a mouse 25 mm).
SMALLEST_VIEW_MM: Final = 30.0
# A cone beam of two teeth has 40 mm, an orbit or a wrist 80 mm. A whole head in less has the wrong unit or scale.
USUAL_VIEW_MM: Final = 80.0
# Limits of the second largest side (scanned circles reach 0.9 m) and of the largest side (the length of the table).
USUAL_WIDTH_MM, LARGEST_WIDTH_MM, LARGEST_VIEW_MM = 1000.0, 1500.0, 3000.0
# The finest side of a voxel; photon-counting CT and dental cone beams reach 0.075 mm, field maps 8 mm.
USUAL_VOXEL_MM: Final = (0.05, 8.0)
# A volume has a signal if more voxels than this, as a share and in number, differ from the most common value. The skin
# of a face alone, 1 mm thick in voxels of 1 mm, has fifty times as many.
SPECK_SHARE, SPECK_VOXELS = 1e-4, 1000
SAMPLED_EVERY: Final = 4  # every fourth voxel along each axis is usually enough to find a signal
MISSING_SHARE: Final = 0.5  # of the air, from which the surroundings of the body are missing
ROUNDING: Final = 1e-6  # relative difference of equal numbers after rounding to float32


def with_numbers(source: SourceVolume) -> SourceVolume:
    """Return the volume with air in place of missing numbers, or ``source`` if none is missing.

    The array of ``source`` is not changed. The result's ``missing`` marks the filled voxels.
    """
    voxels = np.asarray(source.volume.array, dtype=np.float32)
    if not is_missing_any(voxels):
        return source
    voxels = voxels.copy()
    missing = fill_missing(voxels, air=LOWEST_AIR_HU if source.modality == "CT" else None)
    remarks = (*source.remarks, *missing_remarks(0 if missing is None else int(np.count_nonzero(missing))))
    return replace(source, volume=source.volume.with_array(voxels), missing=missing, remarks=remarks)


def are_surroundings_missing(source: SourceVolume, foreground: NDArray[np.bool_]) -> bool:
    """Whether most of the air has no numbers, so that traces of a tool cannot be seen in it.

    ``foreground`` is the mask (slice, row, column) of the body.
    """
    if source.missing is None:
        return False
    n_missing = np.count_nonzero(source.missing & ~foreground)
    return bool(n_missing > MISSING_SHARE * (foreground.size - np.count_nonzero(foreground)))


def has_signal(voxels: NDArray[np.float32]) -> bool:
    """Whether the voxels (slice, row, column) have more than one value, not counting a few voxels."""
    sample = voxels[::SAMPLED_EVERY, ::SAMPLED_EVERY, ::SAMPLED_EVERY]
    usual = float(np.median(sample))
    n_least = min(SPECK_SHARE * voxels.size, SPECK_VOXELS)
    if np.count_nonzero(_differs(sample, usual)) > max(n_least, 1.0):
        return True
    return sum(int(np.count_nonzero(_differs(plane, usual))) for plane in voxels) > n_least


def _differs(values: NDArray[np.float32], usual: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(values - np.float32(usual)) > ROUNDING * abs(usual))


def check_field_of_view(source: SourceVolume) -> tuple[Remark, ...]:
    """Refuse a volume whose size is impossible for a person, and return remarks if its scale is doubtful.

    Raises
    ------
    FieldOfViewError
        The largest side is below 30 mm or above 3 m, or two sides are above 1.5 m.
    """
    geometry = source.volume.get_geometry()
    sides_mm = sorted(_sides_mm(geometry), reverse=True)
    size = " x ".join(f"{side:.1f}" for side in _sides_mm(geometry))
    if not SMALLEST_VIEW_MM <= sides_mm[0] <= LARGEST_VIEW_MM or sides_mm[1] > LARGEST_WIDTH_MM:
        finest = " x ".join(f"{spacing:.3g}" for spacing in geometry.spacing)
        raise FieldOfViewError(_uid_of(source), size, finest, SMALLEST_VIEW_MM, LARGEST_VIEW_MM, LARGEST_WIDTH_MM)
    finest_mm = min(float(spacing) for spacing in geometry.spacing)
    lowest_mm, highest_mm = USUAL_VOXEL_MM
    doubts = []
    if sides_mm[0] < USUAL_VIEW_MM:
        doubts.append(f"the volume is {size} mm, less than {USUAL_VIEW_MM:.0f} mm")
    if sides_mm[1] > USUAL_WIDTH_MM:
        doubts.append(f"the volume is {size} mm, two sides above {USUAL_WIDTH_MM:.0f} mm")
    if not lowest_mm <= finest_mm <= highest_mm:
        doubts.append(f"the finest side of a voxel is {finest_mm:.3g} mm, expected {lowest_mm:g} to {highest_mm:g} mm")
    if not doubts:
        return ()
    return (Remark(RemarkCode.SCALE_DOUBTFUL, f"{' and '.join(doubts)}: its scale or unit may be wrong"),)


def check_model_grid(source: SourceVolume, role: str, shape: Sequence[int]) -> None:
    """Raise SeriesTooLargeError if a volume is too large on a model's grid, because its voxels claim to be huge.

    ``shape`` is that of the volume on the model's grid.
    """
    n_voxels = math.prod(shape)
    if n_voxels > MAX_VOXELS:
        raise SeriesTooLargeError(_uid_of(source), f"voxels on the grid of the {role} model", n_voxels, MAX_VOXELS)


def _sides_mm(geometry: hd.VolumeGeometry) -> list[float]:
    """Return the outer size along (slice, row, column)."""
    return [n * float(spacing) for n, spacing in zip(geometry.spatial_shape, geometry.spacing, strict=True)]


def _uid_of(source: SourceVolume) -> str:
    return source.series_instance_uid or NIFTI
