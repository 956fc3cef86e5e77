"""Words of planes: a frame's own, or those of one tile of a mosaic, which is decoded once for all its tiles."""

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
from inference.series.pixels import Encoded, Words, decoded_words, encoded_frames
from inference.series.planes import Plane
from inference.series.stored import Values, stored_plane
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
        self._picture: Words | None = None

    def decoded_words(self, plane: Plane) -> Words:
        """(row, column) words of the tile that ``plane`` is."""
        with self._lock:
            if self._picture is None:
                self._picture = decoded_words(self._frame, plane)
                _check_empty_places(stored_plane(self._picture, plane).values, self._tiles, plane.instance)
        return self._picture[self._tiles.window(plane.frame_index)]


EncodedPlane = Encoded | EncodedMosaic


def encoded_planes(plane: Plane) -> list[EncodedPlane]:
    """Encoded frame of every plane of an instance, of which ``plane`` is one, by the planes' frame index."""
    frames = encoded_frames(plane.instance, plane.pixel_format)
    if plane.tiles is None:
        return [*frames]
    return [EncodedMosaic(frames[0], plane.tiles)] * plane.tiles.n_tiles


def plane_words(encoded: EncodedPlane, plane: Plane) -> Words:
    """Decode the words of one plane, (row, column); raises as ``decoded_words`` does, or ``MosaicError``."""
    if isinstance(encoded, EncodedMosaic):
        return encoded.decoded_words(plane)
    return decoded_words(encoded, plane)


def _check_empty_places(picture: Values, tiles: TileGrid, instance: Instance) -> None:
    """Refuse a mosaic with an image where no tile should be: the number of tiles is too small."""
    uid = UID(instance.transfer_syntax_uid)
    if (uid.is_compressed and uid not in LOSSLESS) or str(instance.header.get("LossyImageCompression") or "") == "01":
        return  # lossy compression leaves traces in empty places
    for number, window in enumerate(tiles.empty_windows(), start=tiles.n_tiles + 1):
        if np.ptp(picture[window]):
            reason = f"place {number} holds an image, though the number of tiles is {tiles.n_tiles}"
            raise MosaicError(instance.name, reason)
