"""How much of the first crop each voxel gets: in cells of a grid (journal version) or in free boxes (preprint).

A coefficient is an integer c from 0 to K; a voxel of the fused patch is (c/K)·x₁ + (1 - c/K)·x₂, and c is its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

N_COEFFICIENTS: Final = 4  # K: coefficients that are not zero
CHOSEN_SHARE: Final = 0.7  # of the cells get one
MIN_USEFUL_SHARE: Final = 0.25  # of a cell that can be chosen is unaltered body in one of the crops
N_BOXES: Final = (10, 40)  # of the preprint

Size = tuple[int, int, int]
Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CellSizes:
    """Smallest and largest side of a cell along each axis, voxels."""

    smallest: Size
    largest: Size


def default_cells(patch: Size) -> CellSizes:
    """Return 8 to 32 voxels, as published, but at most a third of the patch, and then a quarter of that at least."""
    largest = [min(32, max(4, side // 3)) for side in patch]
    smallest = [min(8, max(2, side // 4)) for side in largest]
    return CellSizes((smallest[0], smallest[1], smallest[2]), (largest[0], largest[1], largest[2]))


def default_boxes(patch: Size) -> CellSizes:
    """Return the preprint's sizes, 8 to 80 voxels for sides of 128, for any patch."""
    smallest, largest = [max(1, side // 16) for side in patch], [max(2, side * 5 // 8) for side in patch]
    return CellSizes((smallest[0], smallest[1], smallest[2]), (largest[0], largest[1], largest[2]))


def grid_coefficients(patch: Size, cells: CellSizes, useful: Mask, rng: np.random.Generator) -> Labels:
    """Return the coefficients of the journal version.

    Parameters
    ----------
    useful
        Voxels that are unaltered body in one of the crops at least. Cells with less than a quarter of them are not
        chosen, and 70 % of the others are. The random numbers used up do not depend on it.
    """
    cell = rng.integers(cells.smallest, cells.largest, endpoint=True)
    offset = rng.integers(0, np.asarray(patch) % cell, endpoint=True)
    counts = np.asarray(patch) // cell
    n_cells = int(counts.prod())
    order = rng.permutation(n_cells)
    drawn = rng.integers(1, N_COEFFICIENTS, size=n_cells, endpoint=True).astype(np.uint8)
    inner = tuple(slice(first, first + n * side) for first, n, side in zip(offset, counts, cell, strict=True))
    parts = useful[inner].reshape(counts[0], cell[0], counts[1], cell[1], counts[2], cell[2])
    is_candidate = parts.mean(axis=(1, 3, 5)).ravel() >= MIN_USEFUL_SHARE
    candidates = order[is_candidate[order]]
    chosen = candidates[: int(CHOSEN_SHARE * candidates.size)]
    values = np.zeros(n_cells, np.uint8)
    values[chosen] = drawn[chosen]
    coefficients = np.zeros(patch, np.uint8)
    for axis, side in enumerate(cell):
        values = values.reshape(counts) if axis == 0 else values
        values = np.repeat(values, side, axis=axis)
    coefficients[inner] = values
    return coefficients


def box_coefficients(patch: Size, boxes: CellSizes, rng: np.random.Generator) -> Labels:
    """Return the coefficients of the preprint: boxes centred anywhere, cut at the patch's border; later ones win."""
    coefficients = np.zeros(patch, np.uint8)
    for _ in range(int(rng.integers(*N_BOXES, endpoint=True))):
        sides = rng.integers(boxes.smallest, boxes.largest, endpoint=True)
        first = rng.integers(0, patch) - sides // 2
        box = tuple(slice(max(0, begin), begin + side) for begin, side in zip(first, sides, strict=True))
        coefficients[box] = rng.integers(1, N_COEFFICIENTS, endpoint=True)
    return coefficients
