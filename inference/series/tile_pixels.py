"""Stored values of planes: a frame's own, or those of one tile of a mosaic, which is decoded once for all its tiles."""

from __future__ import annotations

from threading import Lock

import numpy as np
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from inference.series.errors import MosaicError
from inference.series.instances import Instance
from inference.series.pixels import Encoded, Stored, encoded_frames, stored_values
from inference.series.planes import Plane
from inference.series.tile_grid import TileGrid

LOSSLESS = frozenset(
    {RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL}
)


class EncodedMosaic:
    """The frame of a mosaic; decoded when the first of its tiles is wanted."""

    def __init__(self, frame: Encoded, tiles: TileGrid) -> None:
        self._frame = frame
        self._tiles = tiles
        self._lock = Lock()
        self._picture: Stored | None = None

    def stored_values(self, plane: Plane) -> Stored:
        """(row, column) values of the tile that ``plane`` is."""
        with self._lock:
            if self._picture is None:
                self._picture = stored_values(self._frame, plane)
                _check_empty_places(self._picture, self._tiles, plane.instance)
        return self._picture[self._tiles.window(plane.frame_index)]


EncodedPlane = Encoded | EncodedMosaic


def encoded_planes(plane: Plane) -> list[EncodedPlane]:
    """Encoded frame of every plane of an instance, of which ``plane`` is one, by the planes' frame index."""
    frames = encoded_frames(plane.instance, plane.pixel_format)
    if plane.tiles is None:
        return [*frames]
    return [EncodedMosaic(frames[0], plane.tiles)] * plane.tiles.n_tiles


def plane_values(encoded: EncodedPlane, plane: Plane) -> Stored:
    """Decode the stored values of one plane, (row, column); raises as ``stored_values`` does, or ``MosaicError``."""
    if isinstance(encoded, EncodedMosaic):
        return encoded.stored_values(plane)
    return stored_values(encoded, plane)


def _check_empty_places(picture: Stored, tiles: TileGrid, instance: Instance) -> None:
    """Refuse a mosaic with an image where no tile should be: the number of tiles is too small."""
    uid = UID(instance.transfer_syntax_uid)
    if (uid.is_compressed and uid not in LOSSLESS) or str(instance.header.get("LossyImageCompression") or "") == "01":
        return  # lossy compression leaves traces in empty places
    for number, window in enumerate(tiles.empty_windows(), start=tiles.n_tiles + 1):
        if np.ptp(picture[window]):
            reason = f"place {number} holds an image, though the number of tiles is {tiles.n_tiles}"
            raise MosaicError(instance.name, reason)
