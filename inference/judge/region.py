"""Where the judge looks: the front and the sides of a head from its forehead down, and where its landmarks lie.

The landmarks come from the uppermost part of the body, which tools leave alone. A volume that shows no head gets a
region all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.refine.grids import Mask, Spacing, coarse_grid, largest_part, signed_distance_mm

Window = tuple[slice, slice, slice]

GRID_MM = 4.0  # of the grid that distances are measured on
CAP_MM = 60.0  # below the vertex: the part that forehead and midline are measured in
CORE_MM = 8.0  # deeper than this below the surface the body is no couch, and no thread
LEAST_PLANE_MM2 = 200.0  # of such a core in a plane, so that it counts as the head's
BELOW_VERTEX_MM = 28.0  # nothing is removed above this
BEFORE_FOREHEAD_MM, BEHIND_FOREHEAD_MM = 60.0, 140.0  # the nose and the air before it; behind the ears
BESIDE_MIDLINE_MM = 108.0
LEAST_SIZE = 16  # voxels along an axis, where the volume has them


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Places in mm from the first voxel of the volume: vertex along axis 0, forehead along 1, midline along 2."""

    vertex_mm: float
    forehead_mm: float
    midline_mm: float


def find_landmarks(body: Mask, spacing_mm: Spacing) -> Landmarks:
    """Measure the upper end of the body; couches, holders and threads are too thin to count.

    Parameters
    ----------
    body
        (slice, row, column) with axes towards head, posterior and left, as the 3 mm network found it.
    """
    grid = coarse_grid(body.shape, spacing_mm, coarse_mm=GRID_MM)
    core = largest_part(signed_distance_mm(grid.reduce(body) > 0.5, grid.spacing_mm) > CORE_MM)
    height, width, depth = grid.spacing_mm
    planes = np.flatnonzero(core.sum((1, 2)) * width * depth > LEAST_PLANE_MM2)
    if not planes.size:
        size_mm = [length * step for length, step in zip(body.shape, spacing_mm, strict=True)]
        return Landmarks(size_mm[0], 0.0, size_mm[2] / 2)
    top = int(planes.max())
    cap = core[max(0, top - int(CAP_MM / height)) : top + 1]
    rows = np.flatnonzero(cap.any((0, 2)))
    midline = float(np.average(np.arange(cap.shape[2]) + 0.5, weights=cap.sum((0, 1))))
    return Landmarks((top + 1) * height + CORE_MM, int(rows.min()) * width - CORE_MM, midline * depth)


def region_of(shape: tuple[int, ...], landmarks: Landmarks, spacing_mm: Spacing) -> Window:
    """The box in which the judge looks."""
    bounds = (
        (-np.inf, landmarks.vertex_mm - BELOW_VERTEX_MM),
        (landmarks.forehead_mm - BEFORE_FOREHEAD_MM, landmarks.forehead_mm + BEHIND_FOREHEAD_MM),
        (landmarks.midline_mm - BESIDE_MIDLINE_MM, landmarks.midline_mm + BESIDE_MIDLINE_MM),
    )
    first, second, third = (
        _part(size, low / step, high / step) for size, (low, high), step in zip(shape, bounds, spacing_mm, strict=True)
    )
    return first, second, third


def _part(size: int, low: float, high: float) -> slice:
    """Whole voxels between two places, at least ``LEAST_SIZE`` of them where there are as many."""
    start = int(np.clip(np.floor(low), 0, max(0, size - LEAST_SIZE)))
    return slice(start, int(np.clip(np.ceil(high), min(size, start + LEAST_SIZE), size)))
