"""What `segment` asks of a volume before a network sees it: numbers, a picture, and the size of a person."""

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

# No scanner sees less of a person: a finger in a small coil has 40 mm, a mouse 25 mm.
SMALLEST_VIEW_MM: Final = 30.0
# A cone beam on two teeth has 40 mm, an orbit or a wrist 80 mm. A whole head in less has the wrong unit or scale.
USUAL_VIEW_MM: Final = 80.0
# The second largest side: scanned circles reach 0.9 m, whichever length the table has.
USUAL_WIDTH_MM, LARGEST_WIDTH_MM, LARGEST_VIEW_MM = 1000.0, 1500.0, 3000.0
# The finest side of a voxel; photon-counting CT and dental cone beams reach 0.075 mm, field maps 8 mm.
USUAL_VOXEL_MM: Final = (0.05, 8.0)
# A speck: of all voxels, and in number, those that are not the most common value. The skin of a face alone, one voxel
# of 1 mm thick, has fifty times as many.
SPECK_SHARE, SPECK_VOXELS = 1e-4, 1000
SAMPLED_EVERY: Final = 4  # voxels along each axis are enough to see that a picture is there
MISSING_SHARE: Final = 0.5
ROUNDING: Final = 1e-6  # of the values' size: what float32 makes of equal numbers


def with_numbers(source: SourceVolume) -> SourceVolume:
    """The volume with air where no number is; the same where every voxel holds one. The source is not written to."""
    voxels = np.asarray(source.volume.array, dtype=np.float32)
    if not is_missing_any(voxels):
        return source
    voxels = voxels.copy()
    missing = fill_missing(voxels, air=LOWEST_AIR_HU if source.modality == "CT" else None)
    remarks = (*source.remarks, *missing_remarks(0 if missing is None else int(np.count_nonzero(missing))))
    return replace(source, volume=source.volume.with_array(voxels), missing=missing, remarks=remarks)


def are_surroundings_missing(source: SourceVolume, foreground: NDArray[np.bool_]) -> bool:
    """Whether most of what is not body holds no number: then nobody can see what a tool did to it."""
    if source.missing is None:
        return False
    n_missing = np.count_nonzero(source.missing & ~foreground)
    return bool(n_missing > MISSING_SHARE * (foreground.size - np.count_nonzero(foreground)))


def has_signal(voxels: NDArray[np.float32]) -> bool:
    """Whether the voxels show anything: more than one value, but for a speck."""
    sample = voxels[::SAMPLED_EVERY, ::SAMPLED_EVERY, ::SAMPLED_EVERY]
    usual = float(np.median(sample))
    n_least = min(SPECK_SHARE * voxels.size, SPECK_VOXELS)
    if np.count_nonzero(_differs(sample, usual)) > max(n_least, 1.0):
        return True
    return sum(int(np.count_nonzero(_differs(plane, usual))) for plane in voxels) > n_least


def _differs(values: NDArray[np.float32], usual: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(values - np.float32(usual)) > ROUNDING * abs(usual))


def check_field_of_view(source: SourceVolume) -> tuple[Remark, ...]:
    """Refuse a volume that no person fits, and remark on one whose size makes its scale doubtful.

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
    """Refuse what is small as received and huge on a model's grid: few voxels that claim to be far apart."""
    n_voxels = math.prod(shape)
    if n_voxels > MAX_VOXELS:
        raise SeriesTooLargeError(_uid_of(source), f"voxels on the grid of the {role} model", n_voxels, MAX_VOXELS)


def _sides_mm(geometry: hd.VolumeGeometry) -> list[float]:
    """Outer size along (slice, row, column)."""
    return [n * float(spacing) for n, spacing in zip(geometry.spatial_shape, geometry.spacing, strict=True)]


def _uid_of(source: SourceVolume) -> str:
    return source.series_instance_uid or NIFTI
