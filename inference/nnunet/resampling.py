"""Spline resampling as one small banded matrix per axis.

nnU-Net resamples with ``skimage.transform.resize`` and ``scipy.ndimage.map_coordinates``. Both are linear and work on
each axis by itself, so that the same numbers come out of three matrix products, several times faster and in slabs. The
matrices are taken from scipy itself: each column is what scipy makes of one unit vector.
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

ANISOTROPY_THRESHOLD = 3.0  # largest spacing over smallest, from which nnU-Net treats the thick axis apart
NEGLIGIBLE_WEIGHT = 1e-8  # below float32's resolution; cubic spline weights fall under it after 14 samples
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
    """Resampling along one axis."""

    n_in: int
    n_out: int
    blocks: tuple[Block, ...]

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.n_in == self.n_out

    def apply(self, values: torch.Tensor, axis: int) -> torch.Tensor:
        """Resample ``values`` along one of its axes."""
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
    """Samples of one block, from exactly the input samples that it names."""
    weights = block.weights.to(part.device)
    axis %= part.ndim
    if axis == part.ndim - 1:
        return part @ weights.T
    rows = part.reshape(*part.shape[: axis + 1], -1)
    return (weights @ rows).reshape(*part.shape[:axis], weights.shape[0], *part.shape[axis + 1 :])


@dataclass(frozen=True, slots=True)
class GridChange:
    """From one grid to another: how each axis is resampled, and which one apart from the others."""

    operators: tuple[AxisOperator, AxisOperator, AxisOperator]
    separate_axis: int | None

    @property
    def is_identity(self) -> bool:
        """Whether both grids have the same shape; nnU-Net then leaves the values alone."""
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
    """Operators that take an array of ``shape`` to ``new_shape`` as nnU-Net would."""
    axis = separate_axis(spacing_mm, new_spacing_mm, how.force_separate_z)
    kinds = [(how.order_z, True) if index == axis else (how.order, False) for index in range(3)]
    first, second, third = (
        axis_operator(int(n_in), int(n_out), order, is_separate=is_separate, block=block)
        for n_in, n_out, (order, is_separate) in zip(shape, new_shape, kinds, strict=True)
    )
    return GridChange((first, second, third), axis)


def resampled_shape(shape: Sequence[int], spacing_mm: Sequence[float], new_spacing_mm: Sequence[float]) -> list[int]:
    """Shape after resampling, rounded as nnU-Net rounds; never less than one sample."""
    pairs = zip(shape, spacing_mm, new_spacing_mm, strict=True)
    return [max(1, round(old / new * size)) for size, old, new in pairs]


def separate_axis(
    spacing_mm: Sequence[float], new_spacing_mm: Sequence[float], force_separate_z: bool | None
) -> int | None:
    """Axis that is resampled apart because its slices are thick, or None.

    nnU-Net's rule: the source grid decides first, then the target; two equally thick axes are not treated apart.
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
    """Matrix blocks for one axis.

    ``is_separate`` follows ``map_coordinates``, which nnU-Net uses along a thick axis, otherwise ``zoom``. They differ
    in where exactly half-way coordinates go.
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
    """What ``skimage.transform.resize(mode="edge")`` does along one axis, as (n_out, n_in)."""
    unit_vectors = np.eye(n_in)
    return np.asarray(ndimage.zoom(unit_vectors, (n_out / n_in, 1), order=order, mode="nearest", grid_mode=True))


def _mapped(n_in: int, n_out: int, order: int) -> np.ndarray:
    """What nnU-Net's ``map_coordinates`` call does along the thick axis, as (n_out, n_in)."""
    coordinates = float(n_in) / n_out * (np.arange(n_out) + 0.5) - 0.5
    if order == 0:
        nearest = ndimage.map_coordinates(np.arange(n_in), [coordinates], order=0, mode="nearest")
        return np.asarray(np.eye(n_in)[nearest])
    rows, columns = np.meshgrid(coordinates, np.arange(n_in), indexing="ij")
    return np.asarray(ndimage.map_coordinates(np.eye(n_in), [rows, columns], order=order, mode="nearest"))


def slab_planes(plane_voxels: int, *, budget_bytes: int = 64 * 2**20) -> int:
    """How many float32 planes of that size fit the budget; at least one."""
    return max(1, math.floor(budget_bytes / (4 * max(1, plane_voxels))))
