"""Prepared volumes: resampled, normalised, cropped to the body, and read patch by patch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import blosc2
import numpy as np
from numpy.typing import NDArray

from pretraining.body_table import BodyTable

Shape = tuple[int, int, int]
Box = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]

IMAGE, MASKS, TABLE, RECORD = "image.b2nd", "masks.b2nd", "body_sums.npy", "prepared.json"
BODY_BIT, ALTERED_BIT = 1, 2  # of the voxels of MASKS
CHUNK, BLOCK, LEVEL = 128, 64, 8  # voxels, voxels, zstd


class PreparedVolume(Protocol):
    """A volume that patches are drawn from; axes are those of the plans, by default (slice, row, column).

    Attributes
    ----------
    id
        Name of the volume in its dataset.
    shape
        Number of voxels along each axis.
    air
        Normalised value of air, for what lies outside the volume.
    """

    @property
    def id(self) -> str: ...  # noqa: D102 - above
    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def air(self) -> float: ...  # noqa: D102

    def body_share(self, starts: NDArray[np.int64], size: Shape) -> NDArray[np.float64]:
        """Return the share of unaltered body in boxes of ``size`` at ``starts`` (n, 3), without reading them."""

    def read(self, start: Shape, size: Shape) -> Box:
        """Return image, body and altered area of a box; what lies outside the volume is air and not altered."""


@dataclass(frozen=True, eq=False)
class ArrayVolume:
    """A volume in memory."""

    id: str
    image: NDArray[np.float32]
    body: NDArray[np.bool_]
    altered: NDArray[np.bool_]
    air: float = 0.0

    @property
    def shape(self) -> Shape:
        """Number of voxels along each axis."""
        return self.image.shape[0], self.image.shape[1], self.image.shape[2]

    @cached_property
    def _table(self) -> BodyTable:
        return BodyTable.of(self.body & ~self.altered)

    def body_share(self, starts: NDArray[np.int64], size: Shape) -> NDArray[np.float64]:
        """Return the share of unaltered body in boxes."""
        return self._table.share(starts, size)

    def read(self, start: Shape, size: Shape) -> Box:
        """Return image, body and altered area of a box."""
        inner, outer = _inside(start, size, self.shape)
        return _padded(self.image[inner], self.body[inner], self.altered[inner], outer, size, self.air)


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """A volume that ``prepare`` wrote; files are opened when they are first read, in each process."""

    folder: Path
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """Name of the volume in its dataset."""
        return str(self.record["id"])

    @property
    def shape(self) -> Shape:
        """Number of voxels along each axis."""
        first, second, third = self.record["shape"]
        return int(first), int(second), int(third)

    @property
    def air(self) -> float:
        """Normalised value of air."""
        return float(self.record["air"])

    @property
    def sha256(self) -> str:
        """Digest of the volume's image and masks."""
        return str(self.record["sha256"])

    def body_share(self, starts: NDArray[np.int64], size: Shape) -> NDArray[np.float64]:
        """Return the share of unaltered body in boxes."""
        return BodyTable(np.load(self.folder / TABLE, mmap_mode="r"), self.shape).share(starts, size)

    def read(self, start: Shape, size: Shape) -> Box:
        """Return image, body and altered area of a box."""
        inner, outer = _inside(start, size, self.shape)
        masks = self._open(MASKS)[inner]
        image = self._open(IMAGE)[inner].astype(np.float32)
        return _padded(image, masks & BODY_BIT != 0, masks & ALTERED_BIT != 0, outer, size, self.air)

    def _open(self, name: str) -> Any:  # noqa: ANN401 - blosc2 has no types
        blosc2.set_nthreads(1)  # loader processes share the cores already
        return blosc2.open(str(self.folder / name), mode="r", mmap_mode="r")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a prepared volume, or None if it is not finished."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def encode_array(array: NDArray[Any]) -> bytes:
    """Return the bytes of a ``b2nd`` file, blocks of 64³ voxels in chunks of 128³."""
    chunks, blocks = (tuple(min(side, most) for side in array.shape) for most in (CHUNK, BLOCK))
    parameters: dict[str, Any] = {"codec": blosc2.Codec.ZSTD, "clevel": LEVEL, "nthreads": 1}
    stored = blosc2.asarray(np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=parameters)
    return bytes(stored.to_cframe())


def encode_masks(body: NDArray[np.bool_], altered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return both masks as bits of one array."""
    return body * np.uint8(BODY_BIT) | altered * np.uint8(ALTERED_BIT)


_Slices = tuple[slice, slice, slice]


def _inside(start: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[_Slices, _Slices]:
    """Return the part of a box that lies in the volume: in the volume, and in the box."""
    inner, outer = [], []
    for first, length, side in zip(start, size, shape, strict=True):
        begin = min(max(first, 0), side)
        end = min(max(first + length, begin), side)
        inner.append(slice(begin, end))
        outer.append(slice(begin - first, end - first))
    return (inner[0], inner[1], inner[2]), (outer[0], outer[1], outer[2])


def _padded(
    image: NDArray[Any], body: NDArray[np.bool_], altered: NDArray[np.bool_], outer: _Slices, size: Shape, air: float
) -> Box:
    if image.shape == tuple(size):
        return image.astype(np.float32), body, altered
    whole = np.full(size, air, np.float32)
    whole_body, whole_altered = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    whole[outer], whole_body[outer], whole_altered[outer] = image, body, altered
    return whole, whole_body, whole_altered
