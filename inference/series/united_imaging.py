"""The tiles of United Imaging's mosaics (Image Type VFRAME): a private sequence has a position for each."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from inference.series.errors import MosaicError
from inference.series.header_values import private_items, private_value, several_numbers
from inference.series.tile_grid import TileGrid, shortest_layout, tile_grid_of

GROUP, CREATOR = 0x0065, "Image Private Header"
N_TILES, TILES = 0x50, 0x51


def united_imaging_tiles(ds: Dataset, size: tuple[int, int], name: str) -> tuple[TileGrid, Sequence[Dataset]]:
    """Layout of the tiles, and for each an item with the attributes that are its own, such as the position.

    Raises
    ------
    MosaicError
        The private sequence is missing, or the number of its items contradicts the number of tiles or the picture.
    """
    items = private_items((ds,), GROUP, CREATOR, TILES)
    if not items:
        raise MosaicError(name, "the positions of the tiles are missing: no private sequence (0065,1051)")
    number = several_numbers(private_value((ds,), GROUP, CREATOR, N_TILES))
    if number and number[0] != len(items):
        raise MosaicError(name, f"{number[0]:g} tiles in (0065,1050), {len(items)} items in (0065,1051)")
    return tile_grid_of(ds, len(items), shortest_layout, size, name), items
