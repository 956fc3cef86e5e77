"""Resample the output of the 3 mm networks to a region of the source grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.judge.region import GRID_MM, Window
from inference.refine.grids import Field, Mask, Spacing, coarse_grid, signed_distance_mm

FARTHEST_MM = 40.0  # larger distances are clipped


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the first axis, as float32."""
    shifted = np.exp(logits - logits.max(0, keepdims=True))
    return np.asarray(shifted / shifted.sum(0, keepdims=True), dtype=np.float32)


def resampled(values: NDArray[np.float32], shape: tuple[int, ...], window: Window) -> NDArray[np.float32]:
    """Return a window of ``values`` after trilinear resampling to ``shape``; values are repeated beyond the edges.

    Parameters
    ----------
    values
        (channel, slice, row, column).
    shape
        (slice, row, column) of the whole volume after resampling.
    window
        The part of that volume to compute.

    Returns
    -------
    NDArray
        (channel, slice, row, column) float32 in the shape of ``window``.
    """
    result = values
    for axis, (size, part) in enumerate(zip(shape, window, strict=True), start=1):
        weights = _weights(result.shape[axis], size, part)
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result, dtype=np.float32)


def _weights(n_from: int, n_to: int, part: slice) -> NDArray[np.float32]:
    """Return the (part of n_to, n_from) matrix of linear interpolation between voxel centres."""
    places = np.clip((np.arange(part.start, part.stop) + 0.5) * n_from / n_to - 0.5, 0, n_from - 1)
    low = np.minimum(places.astype(np.int64), n_from - 1)
    share = (places - low).astype(np.float32)
    weights = np.zeros((places.size, n_from), np.float32)
    rows = np.arange(places.size)
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, n_from - 1)] += share
    return weights


def depth_in(body: Mask, spacing_mm: Spacing, window: Window) -> Field:
    """Return the depth in mm below the surface of ``body``, negative outside, in a window of its grid.

    It is measured on a coarse grid and interpolated; the result is (slice, row, column) float32.
    """
    grid = coarse_grid(body.shape, spacing_mm, coarse_mm=GRID_MM)
    coarse = signed_distance_mm(grid.reduce(body) > 0.5, grid.spacing_mm)
    covered = tuple(size * step for size, step in zip(grid.coarse_shape, grid.block, strict=True))
    return np.asarray(resampled(np.clip(coarse, -FARTHEST_MM, FARTHEST_MM)[None], covered, window)[0])
