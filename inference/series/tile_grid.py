"""How the tiles of a mosaic, one picture of many slices, are laid out in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt

from pydicom import Dataset

from inference.series.errors import MosaicError
from inference.series.header_values import first_value, several_numbers
from inference.series.limits import MAX_TILES

Layout = tuple[int, int]  # tiles below each other, tiles next to each other

INTERPOLATIONS = (1, 2)  # pixels for each one that was acquired, along one side of a tile


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of one size, row by row from the upper left corner; the last places may be empty.

    Attributes
    ----------
    layout
        Places below each other and next to each other, which can be more than there are tiles.
    rows, columns
        Size of a tile in pixels.
    """

    n_tiles: int
    layout: Layout
    rows: int
    columns: int

    def window(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of the picture that the place ``index``, counted from 0, takes up."""
        down, across = divmod(index, self.layout[1])
        top, left = down * self.rows, across * self.columns
        return slice(top, top + self.rows), slice(left, left + self.columns)

    def empty_windows(self) -> Iterator[tuple[slice, slice]]:
        """Places after the last tile."""
        return (self.window(index) for index in range(self.n_tiles, self.layout[0] * self.layout[1]))


def square_layout(n_tiles: int) -> Layout:
    """Siemens: as many tiles down as across, the fewest that hold them all."""
    side = isqrt(n_tiles - 1) + 1
    return side, side


def shortest_layout(n_tiles: int) -> Layout:
    """United Imaging: as wide as the square one, without the rows that would stay empty."""
    across = isqrt(n_tiles - 1) + 1
    return -(-n_tiles // across), across


def tile_grid_of(
    ds: Dataset, n_tiles: float, usual: Callable[[int], Layout], size: tuple[int, int], name: str
) -> TileGrid:
    """Find the layout of ``n_tiles`` in a picture of ``size`` (rows, columns), by the vendor's rule ``usual``.

    Raises
    ------
    MosaicError
        No picture can hold so many tiles, or the picture's size or the acquired matrix contradicts their number.
    """
    if not (1 <= n_tiles <= MAX_TILES and n_tiles == int(n_tiles)):
        raise MosaicError(name, f"{n_tiles:g} tiles, expected 1 to {MAX_TILES}")
    acquired = acquired_matrix(ds)
    grid = find_tile_grid(int(n_tiles), size, usual(int(n_tiles)), acquired)
    if grid is None:
        slices = f" and slices that were acquired with {acquired[0]} x {acquired[1]}" if acquired else ""
        raise MosaicError(name, f"{n_tiles:g} tiles contradict a picture of {size[0]} x {size[1]} pixels{slices}")
    return grid


def acquired_matrix(ds: Dataset) -> tuple[int, int] | None:
    """The two numbers of Acquisition Matrix (0018,1310) that are not 0, in the order in which they stand.

    Which of them belongs to the rows depends on the phase direction, and scanners disagree with the standard on it.
    """
    numbers = [int(n) for n in several_numbers(first_value((ds,), "AcquisitionMatrix")) if n >= 1]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def find_tile_grid(
    n_tiles: int, size: tuple[int, int], usual: Layout, acquired: tuple[int, int] | None
) -> TileGrid | None:
    """Find the layout on which the number of tiles, the size of the picture and the acquired matrix agree.

    Parameters
    ----------
    usual
        The vendor's layout for this number of tiles.
    acquired
        Size of an acquired slice, in either order. A tile is as large or larger: slices may be interpolated to twice
        their size, or be acquired with fewer phase steps.

    Returns
    -------
    TileGrid or None
        None where no layout fits, or the acquired matrix contradicts the number of tiles.
    """
    grid = _divided(n_tiles, size, usual)
    if acquired is None or (grid is not None and _may_show(grid, acquired)):
        return grid
    layouts = {
        (size[0] // rows, size[1] // columns)
        for rows, columns in (acquired, acquired[::-1])
        if size[0] % rows == 0 and size[1] % columns == 0
    }
    holding = [layout for layout in layouts if layout[0] * layout[1] >= n_tiles]
    filled = [layout for layout in holding if (layout[0] - 1) * layout[1] < n_tiles]
    if len(filled) == 1:
        return _divided(n_tiles, size, filled[0])
    return None if holding else grid


def _divided(n_tiles: int, size: tuple[int, int], layout: Layout) -> TileGrid | None:
    """Tiles of this layout, where it divides the picture into whole pixels."""
    if size[0] % layout[0] or size[1] % layout[1]:
        return None
    return TileGrid(n_tiles, layout, size[0] // layout[0], size[1] // layout[1])


def _may_show(grid: TileGrid, acquired: tuple[int, int]) -> bool:
    """Whether tiles of this size can show slices that were acquired with this matrix."""
    sizes = (grid.rows, grid.columns)
    return any(
        all(tile >= n for tile, n in zip(sizes, matrix, strict=True))
        and any(tile == factor * n for tile, n in zip(sizes, matrix, strict=True) for factor in INTERPOLATIONS)
        for matrix in (acquired, acquired[::-1])
    )
