"""Handle single planes that differ from all others of a series: a scout, a thumbnail, another reconstruction.

One or two planes with another size or orientation are not a stack. If all other planes form complete stacks, the odd
ones are left out with a remark. The remark says whether a face may be visible in them, which decides whether the study
can be cleared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.series.limits import MAX_STACKS, MIN_SLICES
from inference.series.planes import Plane
from inference.series.remarks import Remark, RemarkCode

MOST_GROUPS = MAX_STACKS * MIN_SLICES
MOST_ODD_SHARE = 0.1  # of all planes; one is always few
AXIAL_COSINE = math.cos(math.radians(30.0))  # a single axial slice shows no recognisable face
LEAST_PIXELS, LEAST_MM = 32, 60.0  # smallest sides of an image in which a face could be recognised

Groups = Sequence[Sequence[Plane]]


def without_odd_planes(groups: Groups) -> tuple[Groups, list[Plane]]:
    """Return the groups that can be stacks and the planes of the others, if these are few; else all groups."""
    large = [group for group in groups if len(group) >= MIN_SLICES]
    odd = [plane for group in groups if len(group) < MIN_SLICES for plane in group]
    n_planes = sum(map(len, groups))
    is_divided = len(groups) <= MOST_GROUPS  # else some planes are in no group
    if not large or not is_divided or len(odd) > max(1, MOST_ODD_SHARE * n_planes):
        return groups, []
    return large, odd


def odd_plane_remarks(odd: Sequence[Plane], whole: Groups) -> tuple[Remark, ...]:
    """Return remarks on the planes that are left out, and whether a face may be visible in them."""
    harmless = [plane for plane in odd if not may_show_face(plane)]
    within = [plane for plane in odd if plane not in harmless and any(_is_within(plane, group) for group in whole)]
    elsewhere = [plane for plane in odd if plane not in harmless and plane not in within]
    remarks = []
    if elsewhere:
        text = f"{_named(elsewhere)} left out, unlike all others of the series; a face may be seen there"
        remarks.append(Remark(RemarkCode.PLANES_NOT_RUN, text))
    if within:
        text = f"{_named(within)} left out, unlike all others of the series, which show the same place"
        remarks.append(Remark(RemarkCode.PLANES_WITHIN_NOT_RUN, text))
    if harmless:
        text = f"{_named(harmless)} left out, unlike all others of the series; no face can be seen there"
        remarks.append(Remark(RemarkCode.PLANES_LEFT_OUT, text))
    return tuple(remarks)


def may_show_face(plane: Plane) -> bool:
    """Whether a face could be recognised in a single plane, because it is large enough and not axial."""
    size = plane.rows, plane.columns
    sides_mm = [n * spacing for n, spacing in zip(size, plane.spacing_mm, strict=True)]
    return min(size) >= LEAST_PIXELS and min(sides_mm) >= LEAST_MM and abs(float(plane.normal[2])) < AXIAL_COSINE


def _named(planes: Sequence[Plane]) -> str:
    sizes = sorted({f"{plane.columns} x {plane.rows}" for plane in planes})
    return f"{len(planes)} plane{'s' if len(planes) > 1 else ''} of {', '.join(sizes)} pixels"


def _is_within(plane: Plane, group: Sequence[Plane]) -> bool:
    """Whether all corners of a plane lie where the planes of a stack are, to within a slice."""
    first = group[0]
    axes = np.stack((first.normal, first.column_direction, first.row_direction))
    held = np.concatenate([_corners_mm(other) for other in group]) @ axes.T
    along = np.unique(np.round(held[:, 0], 3))
    slack_mm = np.array([float(np.median(np.diff(along))) if along.size > 1 else 0.0, *first.spacing_mm])
    corners = _corners_mm(plane) @ axes.T
    return bool(np.all(corners >= held.min(axis=0) - slack_mm) and np.all(corners <= held.max(axis=0) + slack_mm))


def _corners_mm(plane: Plane) -> NDArray[np.float64]:
    """(4, 3) LPS centres of the corner pixels."""
    down = plane.column_direction * plane.spacing_mm[0] * (plane.rows - 1)
    across = plane.row_direction * plane.spacing_mm[1] * (plane.columns - 1)
    return plane.position_mm + np.stack((0 * down, down, across, down + across))
