"""Sliding-window prediction: overlapping tiles, blended with Gaussian weights, whose finished planes are yielded early.

Positions, weights and padding are nnU-Net's. There are two differences: sums are kept in float32 instead of float16,
and only the planes that one row of tiles covers are in memory, so that memory does not grow with the length of the
scan.
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
PEAK = 10.0  # height of the Gaussian; nnU-Net's value, which avoids underflow in float16

Predict = Callable[[torch.Tensor], torch.Tensor]
Starts = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """Finished logits of consecutive planes, (head, z, y, x) float32; the first plane is ``start``."""

    start: int
    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Positions of the tiles on a volume that is padded to at least one patch; all axes are (z, y, x)."""

    shape: tuple[int, int, int]  # of the volume, unpadded
    patch_size: tuple[int, int, int]
    step: float = TILE_STEP

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Number of zeros before and after the volume along each axis; the odd one comes after."""
        missing = [max(0, patch - size) for size, patch in zip(self.shape, self.patch_size, strict=True)]
        first, second, third = ((gap // 2, gap - gap // 2) for gap in missing)
        return first, second, third

    @property
    def starts(self) -> tuple[list[int], list[int], list[int]]:
        """Tile starts along each axis of the padded volume, evenly spaced by at most ``step`` patches."""
        first, second, third = (
            _axis_starts(max(size, patch), patch, self.step)
            for size, patch in zip(self.shape, self.patch_size, strict=True)
        )
        return first, second, third

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return math.prod(map(len, self.starts))


def _axis_starts(size: int, patch: int, step: float) -> list[int]:
    n_steps = math.ceil((size - patch) / (patch * step)) + 1
    if n_steps == 1:
        return [0]
    return [int(np.round((size - patch) / (n_steps - 1) * index)) for index in range(n_steps)]


def gaussian_weights(patch_size: Sequence[int]) -> torch.Tensor:
    """Return the weight of each voxel of a tile, (z, y, x) float32, rounded to float16 as in nnU-Net; never zero."""
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
    """Yield the logits of a volume on the model grid, planes in order, blended from overlapping tiles.

    Parameters
    ----------
    values
        (channel, z, y, x) float32 on the device where sums are kept.
    grid
        Positions of the tiles; its shape is that of ``values`` without the channels.
    predict
        The network, from (tile, channel, z, y, x) to logits (tile, head, z, y, x) on any device.
    batch_size
        Tiles per call of ``predict``.
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
    """Return the bounds of padded planes as bounds in the unpadded volume."""
    return max(0, start - pad), min(size, stop - pad)


def _shift(buffer: torch.Tensor, axis: int, n_planes: int) -> None:
    """Move the planes that are not finished to the front and clear the rest."""
    n_kept = buffer.shape[axis] - n_planes
    if n_kept:
        buffer.narrow(axis, 0, n_kept).copy_(buffer.narrow(axis, n_planes, n_kept).clone())
    buffer.narrow(axis, n_kept, n_planes).zero_()


class _ConstantTiles:
    """Predict tiles, but compute equal constant tiles (padding, zeroed or clipped air) only once."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._known: dict[tuple[float, ...], torch.Tensor] = {}

    def predict(self, tiles: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of each tile, (head, z, y, x)."""
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
    """Return the value of each channel if every channel is constant, else None."""
    flat = tile.reshape(tile.shape[0], -1)
    if not bool((flat[:, 0] == flat[:, -1]).all()):  # cheap check of two corners first
        return None
    low, high = flat.aminmax(dim=1)
    return tuple(float(value) for value in low) if bool((low == high).all()) else None
