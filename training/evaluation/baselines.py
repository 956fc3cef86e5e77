"""Baselines without a model: Otsu's threshold for the body, and a run of one value at the face for the verdict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.atlas import otsu
from training.labels import fill_holes, largest_part

Mask = NDArray[np.bool_]
SMALLEST_RUN_MM = 25.0  # behind the front of the forehead, where an intact face has skin
FACE_BELOW_CROWN_MM = (95.0, 180.0)
HALF_WIDTH_MM = 35.0


def otsu_body(voxels: NDArray[np.float32]) -> Mask:
    """Return the largest part above Otsu's threshold with holes filled, (slice, row, column)."""
    return fill_holes(largest_part(voxels > otsu(voxels)))


def zero_run_mm(voxels: NDArray[np.float32], body: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Return how far a run of one exact value reaches behind the forehead's front, as the median over the face.

    Zero if most lines of sight meet another value first, or if there is no head.

    Parameters
    ----------
    voxels, body
        (slice, row, column) with axes towards head, posterior and left.
    spacing_mm
        Along the same axes.
    """
    slice_mm, row_mm, column_mm = spacing_mm
    planes = np.flatnonzero(body.any(axis=(1, 2)))
    if not planes.size:
        return 0.0
    crown = int(planes[-1])
    upper, lower = (max(0, crown - round(below / slice_mm)) for below in FACE_BELOW_CROWN_MM)
    above = np.asarray(body[upper:crown].any(axis=0))
    if upper <= lower or not above.any():
        return 0.0
    forehead = int(np.flatnonzero(above.any(axis=1))[0])
    middle = round(float(np.flatnonzero(above.any(axis=0)).mean()))
    half = max(1, round(HALF_WIDTH_MM / column_mm))
    window = voxels[lower:upper, :, max(0, middle - half) : middle + half]
    differs = window != window[:, :1]
    run = np.where(differs.any(axis=1), differs.argmax(axis=1), differs.shape[1])
    return max(0.0, float(np.median(run) - forehead) * row_mm)
