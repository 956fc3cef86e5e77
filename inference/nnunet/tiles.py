"""Sliding window: overlapping tiles through the network, blended with a Gaussian, finished planes handed out early.

Positions, weights and padding are nnU-Net's. What differs: sums are kept in float32 where nnU-Net keeps float16, and
only as many planes as one row of tiles covers are held, so that memory does not grow with the length of the scan.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

TILE_STEP = 0.5  # fraction of the patch, nnU-Net's default and what its validation uses
SIGMA_SCALE = 1.0 / 8  # width of the Gaussian as a fraction of the patch, nnU-Net's value
PEAK = 10.0  # height of the Gaussian; nnU-Net's value against underflow in float16

Predict = Callable[[torch.Tensor], torch.Tensor]
Starts = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Finished logits of the planes from ``start`` on: (head, plane, row, column) float32."""

    start: int
    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where the tiles lie on a volume padded to at least one patch."""

    shape: tuple[int, int, int]  # of the volume, unpadded
    patch_size: tuple[int, int, int]
    step: float = TILE_STEP

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Zeros before and after each axis; the odd one comes after."""
        missing = [max(0, patch - size) for size, patch in zip(self.shape, self.patch_size, strict=True)]
        first, second, third = ((gap // 2, gap - gap // 2) for gap in missing)
        return first, second, third

    @property
    def starts(self) -> tuple[list[int], list[int], list[int]]:
        """Tile starts along each axis of the padded volume, evenly spread and never further apart than ``step``."""
        first, second, third = (
            _axis_starts(max(size, patch), patch, self.step)
            for size, patch in zip(self.shape, self.patch_size, strict=True)
        )
        return first, second, third

    @property
    def n_tiles(self) -> int:
        """How many tiles there are."""
        return math.prod(map(len, self.starts))


def _axis_starts(size: int, patch: int, step: float) -> list[int]:
    n_steps = math.ceil((size - patch) / (patch * step)) + 1
    if n_steps == 1:
        return [0]
    return [int(np.round((size - patch) / (n_steps - 1) * index)) for index in range(n_steps)]


def gaussian_weights(patch_size: Sequence[int]) -> torch.Tensor:
    """Weight of each voxel of a tile, rounded to float16 as nnU-Net does; never zero."""
    profiles = []
    for size in patch_size:
        impulse = np.zeros(size)
        impulse[size // 2] = 1.0
        profiles.append(gaussian_filter1d(impulse, size * SIGMA_SCALE, mode="constant"))
    product: NDArray[np.float64] = profiles[0][:, None, None] * profiles[1][:, None] * profiles[2]
    weights = torch.from_numpy((product / (product.max() / PEAK)).astype(np.float16).astype(np.float32))
    weights[weights == 0] = weights[weights > 0].min()
    return weights


def predict_planes(
    values: torch.Tensor,
    grid: TileGrid,
    predict: Predict,
    *,
    n_heads: int,
    batch_size: int = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> Iterator[Planes]:
    """Blend the tiles of a volume and give its logits plane by plane, in order, on the model grid.

    Parameters
    ----------
    values
        (channel, z, y, x) float32 on the device where sums are kept.
    predict
        Network: (tile, channel, z, y, x) to logits (tile, head, z, y, x), on any device.
    on_tile
        Called with the number of tiles done and their total.
    """
    padding = grid.padding
    padded = torch.nn.functional.pad(values, [side for pair in reversed(padding) for side in pair])
    weights = gaussian_weights(grid.patch_size).to(values.device)
    depth, height, width = grid.patch_size
    z_starts, y_starts, x_starts = grid.starts
    sums = padded.new_zeros((n_heads, depth, *padded.shape[2:]))
    totals = padded.new_zeros((depth, *padded.shape[2:]))
    rows, columns = (slice(pad[0], pad[0] + size) for pad, size in zip(padding[1:], grid.shape[1:], strict=True))
    n_done, constant_tiles = 0, _ConstantTiles(predict)
    for index, z in enumerate(z_starts):
        corners = list(itertools.product(y_starts, x_starts))
        for first in range(0, len(corners), batch_size):
            chosen = corners[first : first + batch_size]
            tiles = torch.stack([padded[:, z : z + depth, y : y + height, x : x + width] for y, x in chosen])
            for (y, x), logits in zip(chosen, constant_tiles.predict(tiles), strict=True):
                place = (slice(None), slice(y, y + height), slice(x, x + width))
                sums[(slice(None), *place)] += logits.to(values.device, torch.float32) * weights
                totals[place] += weights
            n_done += len(chosen)
            if on_tile is not None:
                on_tile(n_done, grid.n_tiles)
        following = z_starts[index + 1] if index + 1 < len(z_starts) else z + depth
        n_final = following - z
        finished = (sums[:, :n_final] / totals[:n_final])[:, :, rows, columns]
        low, high = _unpadded(z, following, padding[0][0], grid.shape[0])
        if high > low:
            skip = low + padding[0][0] - z
            yield Planes(low, finished[:, skip : skip + high - low].contiguous())
        _shift(sums, 1, n_final)
        _shift(totals, 0, n_final)


def _unpadded(start: int, stop: int, pad: int, size: int) -> tuple[int, int]:
    """Padded planes as those of the volume itself."""
    return max(0, start - pad), min(size, stop - pad)


def _shift(buffer: torch.Tensor, axis: int, n_planes: int) -> None:
    """Move the planes that are not finished to the front and clear the rest."""
    n_kept = buffer.shape[axis] - n_planes
    if n_kept:
        buffer.narrow(axis, 0, n_kept).copy_(buffer.narrow(axis, n_planes, n_kept).clone())
    buffer.narrow(axis, n_kept, n_planes).zero_()


class _ConstantTiles:
    """Runs tiles, but each kind of tile that holds one value per channel only once: padding, zeroed or clipped air."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._known: dict[tuple[float, ...], torch.Tensor] = {}

    def predict(self, tiles: torch.Tensor) -> list[torch.Tensor]:
        """Logits of each tile."""
        keys = [_constant_value(tile) for tile in tiles]
        fresh = [index for index, key in enumerate(keys) if key is None or key not in self._known]
        computed = dict(zip(fresh, self._predict(tiles[fresh]), strict=True)) if fresh else {}
        results = []
        for index, key in enumerate(keys):
            logits = computed[index] if index in computed else self._known[key or ()]
            if key is not None:
                self._known[key] = logits
            results.append(logits)
        return results


def _constant_value(tile: torch.Tensor) -> tuple[float, ...] | None:
    """Value of each channel where all are constant, else None."""
    flat = tile.reshape(tile.shape[0], -1)
    if not bool((flat[:, 0] == flat[:, -1]).all()):  # cheap look at two corners first
        return None
    low, high = flat.aminmax(dim=1)
    return tuple(float(value) for value in low) if bool((low == high).all()) else None
