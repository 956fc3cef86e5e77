"""Operations on masks and smooth fields: neighbour counts, connected parts, distances, and a coarse grid.

Fields that vary slowly (distances, local means) are computed on a coarse grid and interpolated plane by plane, so that
512 x 512 x 300 voxels need only a few passes over memory. Arrays are (slice, row, column) unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]
Parts = NDArray[np.int32]  # number of the part of each voxel, from 1; 0 is background
Spacing = tuple[float, float, float]

SLAB_VOXELS = 2**24  # processed at once where numpy converts to 64 bits internally

BEYOND_MM = 1e6  # distance to a surface that does not exist; infinity cannot be interpolated
COARSE_MM = 3.0  # largest voxel side of the coarse grid; the fields on it vary over a centimetre
SIX_NEIGHBOURS = ndimage.generate_binary_structure(3, 1)


class DecidedBy(StrEnum):
    """What determined a final contour."""

    NETWORK = "network"
    NATIVE_EVIDENCE = "native-evidence"
    VALUE_STATISTICS = "value-statistics"
    JUDGE = "judge"


def neighbour_count(mask: Mask, axes: tuple[int, ...] = (0, 1, 2)) -> NDArray[np.uint8]:
    """Return the number of set voxels in the block of three voxels per axis around each one, itself included.

    The array is continued at its edges by repeating them. The result is uint8 in the shape of ``mask``.
    """
    count = mask.astype(np.uint8)
    for axis in axes:
        lower, upper = neighbours_along(axis)
        total = count.copy()
        total[lower] += count[upper]
        total[upper] += count[lower]
        first, last = _edges(axis)
        total[first] += count[first]
        total[last] += count[last]
        count = total
    return count


def neighbours_along(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the indices of all voxels with a successor along an axis, and of these successors."""
    lower, upper = [slice(None)] * 3, [slice(None)] * 3
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)


def _edges(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    first, last = [slice(None)] * 3, [slice(None)] * 3
    first[axis], last[axis] = slice(0, 1), slice(-1, None)
    return tuple(first), tuple(last)


@dataclass(frozen=True, slots=True)
class CoarseGrid:
    """A grid of blocks over a source grid.

    Attributes
    ----------
    shape
        Shape of the source grid.
    block
        Number of source voxels per coarse voxel along each axis; the last block may be shorter.
    spacing_mm
        Spacing of the coarse grid.
    """

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    spacing_mm: Spacing

    @property
    def coarse_shape(self) -> tuple[int, int, int]:
        """Number of blocks along each axis."""
        first, second, third = (-(-size // step) for size, step in zip(self.shape, self.block, strict=True))
        return first, second, third

    def coarser(self, factor: int) -> CoarseGrid:
        """Return a grid over the same source grid with blocks ``factor`` times as long."""
        first, second, third = (step * factor for step in self.block)
        spacing = (self.spacing_mm[0] * factor, self.spacing_mm[1] * factor, self.spacing_mm[2] * factor)
        return CoarseGrid(self.shape, (first, second, third), spacing)

    def over(self, finer: CoarseGrid) -> CoarseGrid:
        """Return the same blocks as a grid over ``finer``, whose block sizes must divide this one's."""
        first, second, third = (step // fine for step, fine in zip(self.block, finer.block, strict=True))
        return CoarseGrid(finer.coarse_shape, (first, second, third), self.spacing_mm)

    def reduce(self, values: Field | Mask) -> Field:
        """Return the mean of each block as float32, in the coarse shape."""
        reduced = np.asarray(values, dtype=np.float32) if values.dtype != bool else values.view(np.uint8)
        for axis, (size, step) in enumerate(zip(self.shape, self.block, strict=True)):
            if step == 1:
                continue
            parts = [self._take(reduced, axis, slice(first, size, step)) for first in range(min(step, size))]
            total = parts[0].astype(np.float32)
            counts = np.ones(total.shape[axis], np.float32)
            for part in parts[1:]:
                n_full = part.shape[axis]
                self._take(total, axis, slice(0, n_full))[...] += part
                counts[:n_full] += 1
            reduced = total / counts.reshape([-1 if other == axis else 1 for other in range(3)])
        return np.asarray(reduced, dtype=np.float32)

    @staticmethod
    def _take(values: NDArray[Any], axis: int, part: slice) -> NDArray[Any]:
        return values[tuple(part if other == axis else slice(None) for other in range(3))]

    def spread(self, mask: Mask) -> Mask:
        """Return a mask on the source grid in which each voxel has the value of its block."""
        result = mask
        for axis, (size, step) in enumerate(zip(self.shape, self.block, strict=True)):
            if step > 1:
                result = np.repeat(result, step, axis=axis).take(np.arange(size), axis=axis)
        return np.asarray(result)

    def planes(self, *fields: Field) -> Iterator[tuple[Field, ...]]:
        """Yield, for each source plane, the fields interpolated linearly to it, each (row, column) float32."""
        lows, highs, shares = self._places(0)
        rows, columns = self._weights(1), self._weights(2)
        for low, high, share in zip(lows, highs, shares, strict=True):
            between = (field[low] * np.float32(1 - share) + field[high] * np.float32(share) for field in fields)
            yield tuple(np.asarray(rows @ plane @ columns.T) for plane in between)

    def _places(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the two coarse voxels around each source voxel along an axis, and the weight of the second."""
        last = self.coarse_shape[axis] - 1
        places = np.clip((np.arange(self.shape[axis]) + 0.5) / self.block[axis] - 0.5, 0.0, last)
        low = np.minimum(places.astype(np.int64), last)
        return low, np.minimum(low + 1, last), places - low

    def _weights(self, axis: int) -> sparse.csr_array:
        """Return the (source, coarse) matrix of linear interpolation along an axis."""
        low, high, share = self._places(axis)
        rows = np.arange(self.shape[axis])
        entries = np.concatenate([1 - share, share]).astype(np.float32)
        places = (np.tile(rows, 2), np.concatenate([low, high]))
        return sparse.csr_array((entries, places), shape=(self.shape[axis], self.coarse_shape[axis]))


def coarse_grid(shape: tuple[int, ...], spacing_mm: Spacing, *, coarse_mm: float = COARSE_MM) -> CoarseGrid:
    """Return a grid of blocks of whole voxels, as large as ``coarse_mm`` allows along each axis."""
    first, second, third = (max(1, int(coarse_mm / step)) for step in spacing_mm)
    block = (first, second, third)
    spacing = (spacing_mm[0] * first, spacing_mm[1] * second, spacing_mm[2] * third)
    return CoarseGrid((shape[0], shape[1], shape[2]), block, spacing)


def signed_distance_mm(mask: Mask, spacing_mm: Spacing) -> Field:
    """Return the depth below the mask's surface in mm, negative outside; the array's edge is not a surface."""
    if mask.all():
        return np.full(mask.shape, BEYOND_MM, np.float32)
    if not mask.any():
        return np.full(mask.shape, -BEYOND_MM, np.float32)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    half = 0.5 * min(spacing_mm)
    return np.asarray(np.where(mask, inside - half, half - outside), dtype=np.float32)


def is_far_side(body: Mask, area: Mask, grid: CoarseGrid) -> Mask:
    """Return the coarse voxels on the side of the body's centre opposite to an area, where tools do not work."""
    ahead = np.zeros(grid.coarse_shape, np.float32)
    for axis, step in enumerate(grid.spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        along = np.arange(body.shape[axis], dtype=np.float64)
        middle, centre = (np.average(along, weights=mask.sum(others)) for mask in (body, area))
        shape = [-1 if other == axis else 1 for other in range(3)]
        ahead += ((along - middle) * (centre - middle) * step**2).astype(np.float32).reshape(shape)
    return ahead < 0


def largest_part(mask: Mask) -> Mask:
    """Return the largest connected part (by faces) of a mask; an empty mask stays empty."""
    labelled, n_parts = ndimage.label(mask, SIX_NEIGHBOURS)
    if n_parts < 2:
        return mask
    sizes = part_sizes(labelled, n_parts)
    return np.asarray(labelled == sizes.argmax())


def part_sizes(labelled: Parts, n_parts: int) -> NDArray[np.int64]:
    """Return the number of voxels of each part, by part number; 0 for the background."""
    sizes = np.zeros(n_parts + 1, np.int64)
    for planes in _slabs(labelled):  # numpy counts in 64 bits, which needs twice the memory of the parts
        sizes += np.bincount(labelled[planes].ravel(), minlength=n_parts + 1)
    sizes[0] = 0
    return sizes


def part_sums(labelled: Parts, n_parts: int, values: Field) -> NDArray[np.float64]:
    """Return the sum of the values in each part, by part number; ``values`` have the shape of ``labelled``."""
    sums = np.zeros(n_parts + 1)
    for planes in _slabs(labelled):
        sums += np.bincount(labelled[planes].ravel(), weights=values[planes].ravel(), minlength=n_parts + 1)
    return sums


def chosen_parts(labelled: Parts, is_chosen: NDArray[np.bool_]) -> Mask:
    """Return the mask of the parts that are set in ``is_chosen``, which is indexed by part number."""
    mask = np.empty(labelled.shape, bool)
    for planes in _slabs(labelled):  # numpy converts indices to 64 bits
        mask[planes] = is_chosen[labelled[planes]]
    return mask


def parts_touching(mask: Mask, seeds: Mask) -> Mask:
    """Return the connected parts of ``mask`` that hold at least one voxel of ``seeds``."""
    labelled, n_parts = ndimage.label(mask, SIX_NEIGHBOURS)
    is_kept = np.zeros(n_parts + 1, bool)
    is_kept[labelled[seeds]] = True
    is_kept[0] = False
    return chosen_parts(labelled, is_kept)


def _slabs(array: NDArray[Any]) -> Iterator[slice]:
    """Return consecutive groups of planes that are small compared with a large array."""
    step = max(1, SLAB_VOXELS // max(1, array[0].size)) if array.size else 1
    return (slice(start, start + step) for start in range(0, array.shape[0], step))
