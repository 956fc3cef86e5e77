"""Order the planes of one stack and place them in a volume, or raise the reason why this is impossible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inference.series.errors import (
    DuplicatePositionsError,
    MixedFrameOfReferenceError,
    SeriesTooLargeError,
    SliceGapError,
    SlicesNotAlignedError,
    SpacingNotUniformError,
    TiltError,
    TooFewSlicesError,
)
from inference.series.limits import MAX_VOXELS, MIN_SLICES
from inference.series.planes import ROUNDED_TOLERANCE, Plane
from inference.series.remarks import Remark, RemarkCode
from inference.series.slice_grid import SliceGrid, slice_grid
from inference.series.uids import shown_uid
from inference.series.volume import FrameLayout

# A slice may lie this fraction of a pixel off the straight line; a tilt of 1 degree over 100 mm is 1.7 mm.
SHIFT_TOLERANCE = 0.25
# Beyond this angle slices are shifted sideways by more than their distance; gantries reach 30 degrees.
MAX_TILT_DEG = 45.0
# Slices that are shifted, but do not lean, must still share half of their rows and columns.
MAX_SHIFT_FRACTION = 0.5
# A gap of more than this share of the stack divides it in two parts with nothing known between them.
MAX_GAP_FRACTION = 0.25
# Planes of the volume for one frame of the source, on average: where slices are missing, and where distances change.
MAX_PLANES_WITH_MISSING = 4
MAX_PLANES_OF_CHANGING = 10
# Below this fraction of a step, two planes are at one position.
SAME_POSITION_FRACTION = 0.1
SAME_POSITION_MM = 1e-3
REMARKED_STEP_FRACTION = 0.001
REMARKED_SPACING_FRACTION = 0.01
MAX_THICKNESS_RATIO = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class StackGeometry:
    """Planes in ascending order, the grid of the volume that contains them, and remarks.

    Attributes
    ----------
    affine, shape
        Of the volume: (slice, row, column) → LPS mm. A stack that is straight and even fills it; another one is put
        into it by whole voxels, each plane into one slice.
    """

    planes: tuple[Plane, ...]
    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    layout: FrameLayout
    remarks: tuple[Remark, ...]


def position_indices(planes: Sequence[Plane]) -> NDArray[np.intp]:
    """Return the rank, from 0, of each plane's position along the normal; positions equal up to rounding are one."""
    along_mm = np.array([plane.position_mm for plane in planes]) @ planes[0].normal
    order = np.argsort(along_mm, kind="stable")
    steps = np.diff(along_mm[order])
    different = steps[steps > SAME_POSITION_MM]
    apart = max(SAME_POSITION_MM, SAME_POSITION_FRACTION * float(np.median(different))) if different.size else np.inf
    indices = np.empty(len(planes), np.intp)
    indices[order] = np.concatenate(([0], np.cumsum(steps > apart)))
    return indices


def n_positions(planes: Sequence[Plane]) -> int:
    """Return the number of different positions along the normal."""
    return int(position_indices(planes).max()) + 1


def twins_of(planes: Sequence[Plane]) -> tuple[Plane, Plane]:
    """Return the first two planes that share a position; the first and the last plane if none do."""
    first_at: dict[int, Plane] = {}
    for plane, position in zip(planes, position_indices(planes).tolist(), strict=True):
        if position in first_at:
            return first_at[position], plane
        first_at[position] = plane
    return planes[0], planes[-1]


def stack_geometry(planes: Sequence[Plane], series_instance_uid: str) -> StackGeometry:
    """Order parallel planes of one size along their normal and find their places in a volume.

    Slices ascend along the cross product of row and column direction. The affine goes exactly through the first
    plane. A stack that leans or is shifted is straightened by whole pixels, one with gaps or changing distances is put
    on an even grid that meets every plane; both are remarked on.

    Raises
    ------
    StackError
        The leaf that says what is wrong: too few slices, duplicates, or a gap, a lean or a shift beyond repair.

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
    planes, cosine_remarks = _with_exact_normal(planes)
    normal = planes[0].normal
    # Equal positions keep a stable order, whatever order the instances arrived in.
    ordered = sorted(planes, key=lambda p: (float(p.position_mm @ normal), p.instance.name, p.frame_index))
    positions = np.array([plane.position_mm for plane in ordered])
    n_different = n_positions(ordered)
    if n_different < len(ordered):
        uids = [shown_uid(str(plane.instance.header.SOPInstanceUID)) for plane in twins_of(ordered)]
        raise DuplicatePositionsError(uid, len(ordered), n_different, *uids)
    first = ordered[0]
    along_mm = (positions - positions[0]) @ normal
    grid = slice_grid(along_mm)
    _check_gaps(grid, along_mm, uid)
    sideways_mm = positions - positions[0] - np.outer(along_mm, normal)
    shifts, shift_remarks = _whole_pixel_shifts(sideways_mm, along_mm, first, uid)
    first_indices = np.column_stack((grid.slice_indices, shifts - shifts.min(axis=0)))
    rows, columns = first.rows, first.columns
    shape = (grid.n_slices, rows + int(np.ptp(shifts[:, 0])), columns + int(np.ptp(shifts[:, 1])))
    if math.prod(shape) > MAX_VOXELS:
        raise SeriesTooLargeError(uid, "voxels once it is straight and even", math.prod(shape), MAX_VOXELS)
    affine = np.eye(4)
    affine[:3, 0] = normal * grid.step_mm
    affine[:3, 1] = first.column_direction * first.spacing_mm[0]
    affine[:3, 2] = first.row_direction * first.spacing_mm[1]
    affine[:3, 3] = positions[0] - affine[:3, :3] @ first_indices[0]
    layout = FrameLayout(positions, first_indices, rows, columns)
    remarks = (*cosine_remarks, *_spacing_remarks(ordered, along_mm, grid), *shift_remarks, *_space_remarks(first))
    return StackGeometry(tuple(ordered), affine, shape, layout, remarks)


def _with_exact_normal(planes: Sequence[Plane]) -> tuple[Sequence[Plane], tuple[Remark, ...]]:
    """Rotate planes with rounded cosines so that their normal is parallel to the line of their positions, if close.

    Cosines with two decimals have errors of up to 0.5 degrees. Positions have more digits, so without this a straight
    stack would seem to be tilted.
    """
    if not any(plane.are_cosines_rounded for plane in planes):
        return planes, ()
    first = planes[0]
    text = "direction cosines are rounded: lengths and the right angle are off by more than 0.001; made exact"
    remarks = (Remark(RemarkCode.COSINES_ROUNDED, text),)
    positions = np.array([plane.position_mm for plane in planes])
    along_mm = positions @ first.normal
    line = positions[int(np.argmax(along_mm))] - positions[int(np.argmin(along_mm))]
    length = float(np.linalg.norm(line))
    if not length or float(line @ first.normal) < math.cos(ROUNDED_TOLERANCE) * length:
        return planes, remarks
    turn = _rotation_between(first.normal, line / length)
    turned = [
        replace(plane, row_direction=turn @ plane.row_direction, column_direction=turn @ plane.column_direction)
        for plane in planes
    ]
    return turned, remarks


def _rotation_between(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest rotation (3, 3) from one unit vector to another close to it (Rodrigues' formula)."""
    x, y, z = np.cross(one, other)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + float(one @ other)))


def _check_gaps(grid: SliceGrid, along_mm: NDArray[np.float64], uid: str) -> None:
    """Raise SliceGapError if too many slices are missing."""
    if grid.is_even:
        return
    steps = np.diff(along_mm)
    worst = int(np.argmax(steps))
    usual_mm = grid.step_mm if grid.has_one_distance else float(np.median(steps))
    if steps[worst] > MAX_GAP_FRACTION * along_mm[-1] and steps[worst] > 1.5 * usual_mm:
        raise SliceGapError(uid, worst + 1, float(steps[worst]), usual_mm)
    if grid.has_one_distance and grid.n_slices > MAX_PLANES_WITH_MISSING * along_mm.size:
        raise SliceGapError(uid, worst + 1, float(steps[worst]), usual_mm)
    if grid.n_slices > MAX_PLANES_OF_CHANGING * along_mm.size:
        raise SpacingNotUniformError(uid, worst + 1, float(steps[worst]), float(steps.min()))


def _whole_pixel_shifts(
    sideways_mm: NDArray[np.float64], along_mm: NDArray[np.float64], first: Plane, uid: str
) -> tuple[NDArray[np.intp], tuple[Remark, ...]]:
    """Return the shift (plane, 2) of each plane against the first in rows and columns; zeros for a straight stack."""
    tolerance_mm = SHIFT_TOLERANCE * min(first.spacing_mm)
    if np.linalg.norm(sideways_mm, axis=1).max() <= tolerance_mm:
        return np.zeros((len(along_mm), 2), dtype=np.intp), ()
    shifts = np.rint(_pixels_of(sideways_mm, first)).astype(np.intp)
    # Sideways mm per mm along, between slices half a stack apart, so that no single slice decides it.
    half = len(along_mm) // 2
    steps_mm = (along_mm[half:] - along_mm[:-half])[:, np.newaxis]
    lean = np.median((sideways_mm[half:] - sideways_mm[:-half]) / steps_mm, axis=0)
    angle_deg = math.degrees(math.atan(float(np.linalg.norm(lean))))
    off_line_mm = sideways_mm - np.outer(along_mm, lean)
    off_line = np.linalg.norm(off_line_mm - np.median(off_line_mm, axis=0), axis=1)
    worst = int(np.argmax(off_line))
    if angle_deg > MAX_TILT_DEG:
        raise TiltError(uid, angle_deg, MAX_TILT_DEG)
    how = "put right by whole pixels for the models, results lie on the slices as received"
    if off_line[worst] <= tolerance_mm:
        return shifts, (Remark(RemarkCode.TILTED, f"slices lean by {angle_deg:.1f} degrees (a gantry tilt); {how}"),)
    size = np.array([first.rows, first.columns])
    if np.any(np.ptp(_pixels_of(off_line_mm, first), axis=0) > MAX_SHIFT_FRACTION * size):
        raise SlicesNotAlignedError(uid, worst + 1, float(off_line[worst]))
    text = f"slice {worst + 1} lies {off_line[worst]:.2f} mm off the line through the others; {how}"
    return shifts, (Remark(RemarkCode.SHIFTED_SLICES, text),)


def _pixels_of(vectors_mm: NDArray[np.float64], first: Plane) -> NDArray[np.float64]:
    """Return in-plane vectors in mm as (plane, 2) rows and columns."""
    directions = np.column_stack((first.column_direction, first.row_direction))
    return np.asarray(vectors_mm @ directions / first.spacing_mm)


def _spacing_remarks(planes: Sequence[Plane], along_mm: NDArray[np.float64], grid: SliceGrid) -> tuple[Remark, ...]:
    remarks = []
    steps = np.diff(along_mm)
    usual_mm = grid.step_mm
    if grid.is_even:
        if np.max(np.abs(steps - usual_mm)) > REMARKED_STEP_FRACTION * usual_mm:
            text = f"steps between slices are {steps.min():.3f} to {steps.max():.3f} mm; {usual_mm:.3f} mm is used"
            remarks.append(Remark(RemarkCode.UNEVEN_SLICE_POSITIONS, text))
    elif grid.has_one_distance:
        gap = int(np.argmax(steps > 1.5 * usual_mm))
        n_missing = grid.n_slices - along_mm.size
        text = (
            f"{n_missing} of {grid.n_slices} slices are missing or were never made, the first after slice {gap + 1}, "
            f"where the step is {steps[gap]:.2f} mm, expected {usual_mm:.2f} mm; filled in for the models, results lie "
            "on the slices that are there"
        )
        remarks.append(Remark(RemarkCode.MISSING_SLICES, text))
    else:
        usual_mm = float(np.median(steps))
        text = (
            f"distances between slices change from {steps.min():.2f} to {steps.max():.2f} mm; the models saw a volume "
            f"of one spacing, {grid.step_mm:.2f} mm, results lie on the slices that are there"
        )
        remarks.append(Remark(RemarkCode.CHANGING_SLICE_DISTANCES, text))
    stated = planes[0].spacing_between_slices_mm
    if stated is not None and abs(stated - usual_mm) > REMARKED_SPACING_FRACTION * usual_mm:
        text = f"SpacingBetweenSlices says {stated:.3f} mm, the positions say {usual_mm:.3f} mm, which is used"
        remarks.append(Remark(RemarkCode.SPACING_BETWEEN_SLICES_CONTRADICTS, text))
    thickness_mm = planes[0].slice_thickness_mm
    # Slices that overlap, or have room between them, are common; nothing is wrong with twice the distance.
    if thickness_mm is not None and not 0 < thickness_mm <= MAX_THICKNESS_RATIO * usual_mm:
        text = f"SliceThickness says {thickness_mm:.3f} mm, the positions are {usual_mm:.3f} mm apart, which is used"
        remarks.append(Remark(RemarkCode.SLICE_THICKNESS_CONTRADICTS, text))
    return tuple(remarks)


def _space_remarks(first: Plane) -> tuple[Remark, ...]:
    if first.frame_of_reference_uid is None:
        return (Remark(RemarkCode.FRAME_OF_REFERENCE_MISSING, "the source names no frame of reference"),)
    return ()
