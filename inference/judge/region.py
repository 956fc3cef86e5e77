"""Where the judge looks: the front and the sides of a head from its forehead down, and where its landmarks lie.

The landmarks come from the uppermost part of the body, which tools leave alone. A volume that shows no head gets a
region all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.refine.grids import Mask, Spacing

Window = tuple[slice, slice, slice]

CAP_MM = 60.0  # below the vertex: the part that forehead and midline are measured in
LEAST_PLANE_MM2 = 400.0  # of body in a plane, so that it counts as the head's
BELOW_VERTEX_MM = 40.0  # nothing is removed above this
BEFORE_FOREHEAD_MM, BEHIND_FOREHEAD_MM = 60.0, 130.0  # the nose and the air before it; behind the ears
BESIDE_MIDLINE_MM = 108.0
LEAST_SIZE = 16  # voxels along an axis, where the volume has them


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Places in mm from the first voxel of the volume: vertex along axis 0, forehead along 1, midline along 2."""

    vertex_mm: float
    forehead_mm: float
    midline_mm: float


def find_landmarks(body: Mask, spacing_mm: Spacing) -> Landmarks:
    """Measure the upper end of the body.

    Parameters
    ----------
    body
        (slice, row, column) with axes towards head, posterior and left, as the 3 mm network found it.
    """
    plane_mm2 = body.sum((1, 2)) * spacing_mm[1] * spacing_mm[2]
    planes = np.flatnonzero(plane_mm2 > LEAST_PLANE_MM2)
    if not planes.size:
        size = [length * step for length, step in zip(body.shape, spacing_mm, strict=True)]
        return Landmarks(size[0], 0.0, size[2] / 2)
    top = int(planes.max())
    cap = body[max(0, top - int(CAP_MM / spacing_mm[0])) : top + 1]
    rows = np.flatnonzero(cap.any((0, 2)))
    midline = float(np.average(np.arange(body.shape[2]), weights=cap.sum((0, 1))))
    return Landmarks(top * spacing_mm[0], int(rows.min()) * spacing_mm[1], midline * spacing_mm[2])


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
