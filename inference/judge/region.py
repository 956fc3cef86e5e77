"""Find the landmarks of a head, and the judge's region: its front and sides from the forehead down.

The landmarks are measured in the uppermost part of the body, which defacing tools do not change. A volume without a
head gets a region too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.refine.grids import Mask, Spacing, coarse_grid, largest_part, signed_distance_mm

Window = tuple[slice, slice, slice]

GRID_MM = 4.0  # spacing of the grid on which distances are measured
CAP_MM = 60.0  # from the vertex down: forehead and midline are measured in this part
CORE_MM = 8.0  # depth below the surface that couches and threads do not reach
LEAST_PLANE_MM2 = 200.0  # area of this core in an axial plane from which the plane counts as head
BELOW_VERTEX_MM = 28.0  # upper end of the region; tools remove nothing above it
LOWEST_MM = 330.0  # below the vertex: lower end of the region in scans that hold more than a head and a neck
BEFORE_FOREHEAD_MM, BEHIND_FOREHEAD_MM = 60.0, 140.0  # from the air in front of the nose to behind the ears
BESIDE_MIDLINE_MM = 108.0  # to either side
LEAST_SIZE = 16  # voxels of the region along an axis, if the volume has as many


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Positions in mm from the first voxel of the volume: vertex along axis 0, forehead along 1, midline along 2."""

    vertex_mm: float
    forehead_mm: float
    midline_mm: float


def find_landmarks(body: Mask, spacing_mm: Spacing) -> Landmarks:
    """Locate vertex, forehead and midline at the upper end of the body; couches, holders and threads are ignored.

    Parameters
    ----------
    body
        (slice, row, column) mask of the 3 mm network, with axes towards head, posterior and left.
    spacing_mm
        Along the same axes.
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
    """Return the judge's region in a volume of ``shape`` (slice, row, column)."""
    bounds = (
        (landmarks.vertex_mm - LOWEST_MM, landmarks.vertex_mm - BELOW_VERTEX_MM),
        (landmarks.forehead_mm - BEFORE_FOREHEAD_MM, landmarks.forehead_mm + BEHIND_FOREHEAD_MM),
        (landmarks.midline_mm - BESIDE_MIDLINE_MM, landmarks.midline_mm + BESIDE_MIDLINE_MM),
    )
    first, second, third = (
        _part(size, low / step, high / step) for size, (low, high), step in zip(shape, bounds, spacing_mm, strict=True)
    )
    return first, second, third


def _part(size: int, low: float, high: float) -> slice:
    """Return the range of whole voxels between two positions, at least ``LEAST_SIZE`` if the axis has as many."""
    start = int(np.clip(np.floor(low), 0, max(0, size - LEAST_SIZE)))
    return slice(start, int(np.clip(np.ceil(high), min(size, start + LEAST_SIZE), size)))
