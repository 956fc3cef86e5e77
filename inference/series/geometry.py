"""From the planes of one stack to their order and affine, or the reason why they are no volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.series.errors import (
    DuplicatePositionsError,
    MixedFrameOfReferenceError,
    SliceGapError,
    SlicesNotAlignedError,
    SpacingNotUniformError,
    TiltError,
    TooFewSlicesError,
)
from inference.series.limits import MIN_SLICES
from inference.series.planes import Plane
from inference.series.volume import Remark

# A step may differ from the mean by this fraction of it: GE rounds positions so that 7.00 mm becomes 6.96 to 7.07.
STEP_TOLERANCE = 0.02
# A position may lie this fraction of a step off the even grid, which bounds what small steps add up to.
POSITION_TOLERANCE = 0.1
# A slice may lie this fraction of a pixel beside the straight stack; a tilt of 1 degree over 100 mm is 1.7 mm.
SHIFT_TOLERANCE = 0.25
# Below this fraction of a step, two planes are at one position.
SAME_POSITION_FRACTION = 0.1
SAME_POSITION_MM = 1e-3
REMARKED_STEP_FRACTION = 0.001
REMARKED_SPACING_FRACTION = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class StackGeometry:
    """Planes in array order, the affine of (slice, row, column) → LPS mm, and what was noticed."""

    planes: tuple[Plane, ...]
    affine: NDArray[np.float64]
    remarks: tuple[Remark, ...]


def n_positions(planes: Sequence[Plane]) -> int:
    """Number of different positions along the normal."""
    positions = np.sort([plane.position_mm @ planes[0].normal for plane in planes])
    steps = np.diff(positions)
    different = steps[steps > SAME_POSITION_MM]
    if different.size == 0:
        return 1
    return 1 + int(np.count_nonzero(steps > max(SAME_POSITION_MM, SAME_POSITION_FRACTION * np.median(different))))


def stack_geometry(planes: Sequence[Plane], series_instance_uid: str) -> StackGeometry:
    """Order parallel planes of one size along their normal and check that they form a straight, even stack.

    Slices ascend along the cross product of row and column direction. The affine goes exactly through the first
    plane, and its step is the mean one.

    Raises
    ------
    StackError
        The leaf that says what is wrong: too few slices, duplicates, a gap, changing distances, a tilt, a shift.

    References
    ----------
    PS3.3 C.7.6.2.1.1: position and orientation define the plane; SpacingBetweenSlices and InstanceNumber do not.
    """
    uid = series_instance_uid
    if len(planes) < MIN_SLICES:
        raise TooFewSlicesError(uid, len(planes), MIN_SLICES)
    spaces = {plane.frame_of_reference_uid for plane in planes}
    if len(spaces) > 1:
        raise MixedFrameOfReferenceError(uid, len(spaces))
    normal = planes[0].normal
    # Equal positions keep a stable order, whatever order the instances arrived in.
    ordered = sorted(planes, key=lambda p: (float(p.position_mm @ normal), p.instance.name, p.frame_index))
    positions = np.array([plane.position_mm for plane in ordered])
    n_different = n_positions(ordered)
    if n_different < len(ordered):
        raise DuplicatePositionsError(uid, len(ordered), n_different)
    along_mm = (positions - positions[0]) @ normal
    step_mm = _even_step(along_mm, uid)
    beside_mm = positions - positions[0] - np.outer(along_mm, normal)
    _check_straight(beside_mm, along_mm, ordered, uid)
    affine = np.eye(4)
    affine[:3, 0] = normal * step_mm
    affine[:3, 1] = ordered[0].column_direction * ordered[0].spacing_mm[0]
    affine[:3, 2] = ordered[0].row_direction * ordered[0].spacing_mm[1]
    affine[:3, 3] = positions[0]
    return StackGeometry(tuple(ordered), affine, _remarks(ordered, along_mm, step_mm))


def _even_step(along_mm: NDArray[np.float64], uid: str) -> float:
    """Mean step between slices, once it is clear that all are alike."""
    steps = np.diff(along_mm)
    median = float(np.median(steps))
    mean = float(along_mm[-1] / steps.size)
    worst = int(np.argmax(np.abs(steps - median)))
    if abs(steps[worst] - median) <= STEP_TOLERANCE * median:
        off_grid = float(np.max(np.abs(along_mm - mean * np.arange(along_mm.size))))
        if off_grid <= POSITION_TOLERANCE * mean:
            return mean
        raise SpacingNotUniformError(uid, worst + 1, float(steps[worst]), mean)
    # With missing slices the rest of the stack has one step, and each gap is a multiple of the smallest.
    smallest = float(steps.min())
    multiples = steps / smallest
    is_gap = multiples > 1.5
    if (
        np.all(np.abs(multiples - np.rint(multiples)) <= 2 * STEP_TOLERANCE * multiples)
        and is_gap.sum() * 2 <= steps.size
    ):
        number = int(np.argmax(is_gap)) + 1
        raise SliceGapError(uid, number, float(steps[number - 1]), float(np.median(steps[~is_gap])))
    raise SpacingNotUniformError(uid, worst + 1, float(steps[worst]), median)


def _check_straight(
    beside_mm: NDArray[np.float64], along_mm: NDArray[np.float64], planes: Sequence[Plane], uid: str
) -> None:
    """Refuse a stack that leans (a tilt) or in which slices lie beside each other."""
    tolerance_mm = SHIFT_TOLERANCE * min(planes[0].spacing_mm)
    shifts = np.linalg.norm(beside_mm, axis=1)
    if shifts.max() <= tolerance_mm:
        return
    lean = along_mm @ beside_mm / (along_mm @ along_mm)  # mm beside per mm along, least squares through slice 1
    off_line = np.linalg.norm(beside_mm - np.outer(along_mm, lean), axis=1)
    worst = int(np.argmax(off_line))
    if off_line[worst] <= tolerance_mm:
        raise TiltError(uid, math.degrees(math.atan(float(np.linalg.norm(lean)))))
    raise SlicesNotAlignedError(uid, worst + 1, float(off_line[worst]))


def _remarks(planes: Sequence[Plane], along_mm: NDArray[np.float64], step_mm: float) -> tuple[Remark, ...]:
    remarks = []
    steps = np.diff(along_mm)
    if np.max(np.abs(steps - step_mm)) > REMARKED_STEP_FRACTION * step_mm:
        remarks.append(
            Remark(
                "uneven-slice-positions",
                f"steps between slices are {steps.min():.3f} to {steps.max():.3f} mm; {step_mm:.3f} mm is used",
            )
        )
    stated = planes[0].spacing_between_slices_mm
    if stated is not None and abs(stated - step_mm) > REMARKED_SPACING_FRACTION * step_mm:
        remarks.append(
            Remark(
                "spacing-between-slices-contradicts",
                f"SpacingBetweenSlices says {stated:.3f} mm, the positions say {step_mm:.3f} mm, which is used",
            )
        )
    if planes[0].frame_of_reference_uid is None:
        remarks.append(Remark("frame-of-reference-missing", "the source names no frame of reference"))
    return tuple(remarks)
