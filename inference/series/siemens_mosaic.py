"""Where the tiles of a Siemens mosaic lie: from the picture's position and the CSA header.

The tiles follow each other along SliceNormalVector of the CSA header, which points either way across the picture,
each Spacing Between Slices further. Image Position (Patient) is not the first tile's: it is where the corner would lie
if the whole picture were a slice of that pixel spacing, around the centre of the first tile.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from inference.series.csa import CsaError, read_csa
from inference.series.errors import MosaicError
from inference.series.header_values import finite_number, private_value, several_numbers
from inference.series.tile_grid import TileGrid, acquired_matrix, square_layout, tile_grid_of

# Of the direction cosines of the CSA header, which has eight decimals, against those of the picture.
NORMAL_TOLERANCE = 1e-3
Csa = dict[str, tuple[str, ...]]


def csa_header_of(ds: Dataset, name: str) -> Csa:
    """Values of Siemens' CSA header of the image; empty where there is none, ``MosaicError`` where it is damaged."""
    value = private_value((ds,), 0x0029, "SIEMENS CSA HEADER", 0x10)
    if not isinstance(value, bytes) or not value:
        return {}
    try:
        return read_csa(value)
    except CsaError as error:
        raise MosaicError(name, f"its CSA header (0029,1010) is damaged: {error}") from error


def siemens_tile_grid(ds: Dataset, csa: Csa, size: tuple[int, int], name: str) -> TileGrid | None:
    """Layout of the tiles; None where the picture is one slice although Image Type says MOSAIC.

    Raises
    ------
    MosaicError
        The number of tiles is missing, stands there twice with different values, or does not fit the picture.
    """
    numbers = {
        "the CSA header": several_numbers(csa.get("NumberOfImagesInMosaic")),
        "(0019,100A)": several_numbers(private_value((ds,), 0x0019, "SIEMENS MR HEADER", 0x0A), "<u2"),
    }
    known = {where: values[0] for where, values in numbers.items() if values and values[0] != 0}
    if not known:
        # Exports that were split into slices keep the word; a slice is as large as what was acquired.
        if sorted(acquired_matrix(ds) or ()) == sorted(size):
            return None
        raise MosaicError(name, "the number of tiles is missing: no CSA header (0029,1010), no (0019,100A)")
    if len(set(known.values())) > 1:
        said = " and ".join(f"{n:g} in {where}" for where, n in known.items())
        raise MosaicError(name, f"contradicting numbers of tiles, {said}")
    n_tiles = next(iter(known.values()))
    return None if n_tiles == 1 else tile_grid_of(ds, n_tiles, square_layout, size, name)


def siemens_tile_positions(
    csa: Csa,
    grid: TileGrid,
    position_mm: NDArray[np.float64],
    directions: tuple[NDArray[np.float64], NDArray[np.float64]],
    spacing_mm: tuple[float, float],
    step_mm: float | None,
    name: str,
) -> NDArray[np.float64]:
    """(tile, 3) LPS mm of the centre of each tile's first pixel.

    Parameters
    ----------
    position_mm
        Image Position (Patient) of the picture.
    directions
        Unit vectors along which the column index grows, and the row index.
    spacing_mm
        Between rows, between columns.
    step_mm
        Spacing Between Slices.

    Raises
    ------
    MosaicError
        The direction or the distance of the slices is missing, or the direction is not across the picture.
    """
    if not step_mm:
        raise MosaicError(name, "the distance of the slices is missing: Spacing Between Slices (0018,0088)")
    along_row, along_column = directions
    across = np.cross(along_row, along_column)
    normal = np.array([finite_number(value) for value in csa.get("SliceNormalVector", ())], dtype=float)
    if normal.shape != (3,) or not np.isfinite(normal).all():
        missing = "SliceNormalVector of the CSA header (0029,1010)" if csa else "no CSA header (0029,1010)"
        raise MosaicError(name, f"the direction in which the slices follow each other is missing: {missing}")
    if (
        np.linalg.norm(np.cross(normal, across)) > NORMAL_TOLERANCE
        or abs(np.linalg.norm(normal) - 1) > NORMAL_TOLERANCE
    ):
        raise MosaicError(
            name, f"SliceNormalVector {normal.tolist()}, expected {across.round(4).tolist()} or its opposite"
        )
    # From the corner of the picture to that of a tile around the same centre.
    rows, columns = ((places - 1) / 2 * n for places, n in zip(grid.layout, (grid.rows, grid.columns), strict=True))
    first_mm = position_mm + along_column * (rows * spacing_mm[0]) + along_row * (columns * spacing_mm[1])
    # The cross product is more exact than the vector, which only says which way it points.
    step = across * math.copysign(step_mm, normal @ across)
    return np.asarray(first_mm + np.arange(grid.n_tiles)[:, np.newaxis] * step)
