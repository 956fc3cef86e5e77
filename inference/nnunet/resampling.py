"""Spline resampling as one small banded matrix per axis.

nnU-Net resamples with ``skimage.transform.resize`` and ``scipy.ndimage.map_coordinates``. Both are linear and
separable, so three matrix products return the same numbers several times faster and slab by slab. The matrices come
from scipy itself: each column is scipy's result for one unit vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from inference.nnunet.plans import Resampling

# Above this ratio of the largest to the smallest spacing, nnU-Net resamples the thick axis separately.
ANISOTROPY_THRESHOLD = 3.0
NEGLIGIBLE_WEIGHT = 1e-8  # below float32's resolution; cubic spline weights are smaller beyond 14 samples
BLOCK = 64  # output samples per matrix: small enough for a narrow band, large enough for a fast product


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Output samples ``start:stop`` as a matrix over input samples ``source_start:source_stop``."""

    start: int
    stop: int
    source_start: int
    source_stop: int
    weights: torch.Tensor  # (stop - start, source_stop - source_start)


@dataclass(frozen=True, slots=True, eq=False)
class AxisOperator:
    """Resampling along one axis, from ``n_in`` to ``n_out`` samples."""

    n_in: int
    n_out: int
    blocks: tuple[Block, ...]

    @property
    def is_identity(self) -> bool:
        """Whether values stay as they are."""
        return self.n_in == self.n_out

    def apply(self, values: torch.Tensor, axis: int) -> torch.Tensor:
        """Return ``values`` resampled along ``axis``, which must have ``n_in`` samples."""
        if self.is_identity:
            return values
        shape = list(values.shape)
        shape[axis] = self.n_out
        result = values.new_empty(shape)
        for block in self.blocks:
            part = values.narrow(axis, block.source_start, block.source_stop - block.source_start)
            result.narrow(axis, block.start, block.stop - block.start).copy_(apply_block(block, part, axis))
        return result


def apply_block(block: Block, part: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the output samples of a block; ``part`` holds samples ``source_start:source_stop`` along ``axis``."""
    weights = block.weights.to(part.device)
    axis %= part.ndim
    if axis == part.ndim - 1:
        return part @ weights.T
    rows = part.reshape(*part.shape[: axis + 1], -1)
    return (weights @ rows).reshape(*part.shape[:axis], weights.shape[0], *part.shape[axis + 1 :])


@dataclass(frozen=True, slots=True)
class GridChange:
    """Resampling from one grid to another: an operator per axis, and the axis that is resampled separately."""

    operators: tuple[AxisOperator, AxisOperator, AxisOperator]
    separate_axis: int | None

    @property
    def is_identity(self) -> bool:
        """Whether both grids have the same shape; nnU-Net then leaves the values unchanged."""
        return all(operator.is_identity for operator in self.operators)


def plan_resampling(
    shape: Sequence[int],
    new_shape: Sequence[int],
    spacing_mm: Sequence[float],
    new_spacing_mm: Sequence[float],
    how: Resampling,
    *,
    block: int = BLOCK,
) -> GridChange:
    """Return the operators that resample an array of ``shape`` to ``new_shape`` as nnU-Net does.

    Parameters
    ----------
    shape, new_shape, spacing_mm, new_spacing_mm
        Along the same three axes.
    block
        Output samples per matrix.
    """
    axis = separate_axis(spacing_mm, new_spacing_mm, how.force_separate_z)
    kinds = [(how.order_z, True) if index == axis else (how.order, False) for index in range(3)]
    first, second, third = (
        axis_operator(int(n_in), int(n_out), order, is_separate=is_separate, block=block)
        for n_in, n_out, (order, is_separate) in zip(shape, new_shape, kinds, strict=True)
    )
    return GridChange((first, second, third), axis)


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> list[int]:
    """Return the shape after resampling, rounded as nnU-Net does and at least one sample along each axis."""
    pairs = zip(shape, spacing_mm, new_spacing_mm, strict=True)
    return [max(1, round(old / new * size)) for size, old, new in pairs]


def separate_axis(
    spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], force_separate_z: bool | None
) -> int | None:
    """Return the axis that is resampled separately because its slices are thick, or None.

    nnU-Net's rule: the source grid decides, or else the target grid; two equally thick axes are not separated.
    """
    if force_separate_z is False:
        return None
    for spacing in (spacing_mm, new_spacing_mm):
        largest = max(spacing)
        if force_separate_z or largest / min(spacing) > ANISOTROPY_THRESHOLD:
            thick = [axis for axis, size in enumerate(spacing) if size == largest]
            return thick[0] if len(thick) == 1 else None
    return None


@lru_cache(maxsize=64)
def axis_operator(n_in: int, n_out: int, order: int, *, is_separate: bool = False, block: int = BLOCK) -> AxisOperator:
    """Return the operator for one axis.

    With ``is_separate`` it reproduces ``map_coordinates``, which nnU-Net uses along a thick axis, otherwise ``zoom``.
    The two differ in the rounding of coordinates exactly half-way between samples.
    """
    if n_in == n_out:
        return AxisOperator(n_in, n_out, ())
    matrix = _mapped(n_in, n_out, order) if is_separate else _zoomed(n_in, n_out, order)
    matrix[np.abs(matrix) < NEGLIGIBLE_WEIGHT] = 0.0
    blocks = []
    for start in range(0, n_out, block):
        rows = matrix[start : start + block]
        used = np.flatnonzero(rows.any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        weights = torch.from_numpy(np.ascontiguousarray(rows[:, low:high], dtype=np.float32))
        blocks.append(Block(start, start + len(rows), low, high, weights))
    return AxisOperator(n_in, n_out, tuple(blocks))


def _zoomed(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Return the matrix (n_out, n_in) of ``skimage.transform.resize(mode="edge")`` along one axis."""
    unit_vectors = np.eye(n_in)
    return np.asarray(ndimage.zoom(unit_vectors, (n_out / n_in, 1), order=order, mode="nearest", grid_mode=True))


def _mapped(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Return the matrix (n_out, n_in) of nnU-Net's ``map_coordinates`` call along the thick axis."""
    coordinates = float(n_in) / n_out * (np.arange(n_out) + 0.5) - 0.5
    if order == 0:
        nearest = ndimage.map_coordinates(np.arange(n_in), [coordinates], order=0, mode="nearest")
        return np.asarray(np.eye(n_in)[nearest])
    rows, columns = np.meshgrid(coordinates, np.arange(n_in), indexing="ij")
    return np.asarray(ndimage.map_coordinates(np.eye(n_in), [rows, columns], order=order, mode="nearest"))


def slab_planes(plane_voxels: int, *, budget_bytes: int = 64 * 2**20) -> int:
    """Return the number of float32 planes of that size that fit into the budget, at least one."""
    return max(1, math.floor(budget_bytes / (4 * max(1, plane_voxels))))
