"""Fill the voxels of a volume outside its frames: next to shifted frames, and between frames with a gap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.series.volume import FrameLayout


def fill_between_frames(voxels: NDArray[np.float32], layout: FrameLayout) -> None:
    """Fill ``voxels`` (slice, row, column) in place outside the frames, which it already contains.

    Voxels next to a frame get the smallest value of the stack, which is air or the scanner's padding. Planes between
    two frames are interpolated linearly; equal values stay exactly equal.
    """
    if layout.is_whole(voxels):
        return
    windows = layout.windows()
    lowest = min(float(voxels[window].min()) for window in windows)
    for plane, rows, columns in windows:
        _fill_outside(voxels[plane], rows, columns, lowest)
    for (lower, *_), (upper, *_) in pairwise(windows):
        if upper - lower > 1:
            step = voxels[upper] - voxels[lower]
            for plane in range(lower + 1, upper):
                voxels[plane] = voxels[lower] + np.float32((plane - lower) / (upper - lower)) * step


def _fill_outside(plane: NDArray[np.float32], rows: slice, columns: slice, value: float) -> None:
    plane[: rows.start] = value
    plane[rows.stop :] = value
    plane[rows, : columns.start] = value
    plane[rows, columns.stop :] = value
