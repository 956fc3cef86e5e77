"""Crop and augment one of the two sub-volumes, as the journal version does: scale, flips, contrast, gamma.

Spatial steps move the masks with the image. Contrast is stretched between percentiles of unaltered body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from pretraining.dataset import PreparedVolume, Shape
from pretraining.draws import Patch, draw_patch

SCALE: Final = (0.7, 1.5)
LOW_PERCENTILE, HIGH_PERCENTILE = (0.1, 2.0), (98.0, 99.9)
LOW, HIGH = 0.1, 0.9  # where the two percentiles go
GAMMA: Final = (0.7, 1.5)
MAX_VALUES: Final = 1 << 16  # for a percentile; more are thinned out evenly
_SAME = 1e-6  # a crop whose percentiles are closer has no contrast


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A sub-volume: image (1, *patch) float32 from 0 to 1; masks bool, of the same shape."""

    image: Tensor
    body: Tensor
    altered: Tensor


def draw_crop(volume: PreparedVolume, patch: Shape, rng: np.random.Generator, *, use_masks: bool) -> Crop:
    """Draw a sub-volume, resize it to ``patch`` and augment it."""
    scale = rng.uniform(*SCALE, size=3)
    wanted = [min(side, max(1, round(n * s))) for side, n, s in zip(volume.shape, patch, scale, strict=True)]
    drawn = draw_patch(volume, (wanted[0], wanted[1], wanted[2]), rng, use_masks=use_masks)
    flips = [1 + axis for axis in range(3) if rng.random() < 0.5]
    percentiles = rng.uniform(*LOW_PERCENTILE), rng.uniform(*HIGH_PERCENTILE)
    gamma = rng.uniform(*GAMMA)
    resized = _resized(drawn, patch)
    stretched = stretch_contrast(resized, *percentiles) ** gamma
    image, body, altered = (
        torch.from_numpy(array)[None].flip(flips) for array in (stretched, resized.body, resized.altered)
    )
    return Crop(image, body, altered)


def stretch_contrast(patch: Patch, low: float, high: float) -> NDArray[np.float32]:
    """Return values from 0 to 1: the two percentiles of unaltered body become .1 and .9, the tails lie outside.

    Constant crops, which a stretch would divide by zero, become .5 everywhere.
    """
    unaltered = ~patch.altered
    body_values = _thinned(patch.image[patch.body & unaltered])
    if not body_values.size:
        body_values = _thinned(patch.image.ravel())
    from_low, from_high = (float(value) for value in np.percentile(body_values, (low, high)))
    if from_high - from_low < _SAME:
        return np.full(patch.image.shape, (LOW + HIGH) / 2, np.float32)
    seen = patch.image[unaltered] if not unaltered.all() else patch.image
    least, most = min(float(seen.min()), from_low), max(float(seen.max()), from_high)
    knots = (least - _SAME, from_low, from_high, most + _SAME)
    return np.interp(patch.image, knots, (0.0, LOW, HIGH, 1.0)).astype(np.float32)


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[:: -(-values.size // MAX_VALUES)] if values.size > MAX_VALUES else values


def _resized(patch: Patch, size: Shape) -> Patch:
    if patch.image.shape == size:
        return patch
    image = interpolate(torch.from_numpy(patch.image)[None, None], size, mode="trilinear", align_corners=False)
    masks = torch.from_numpy(np.stack([patch.body, patch.altered]).astype(np.uint8))[None]
    body, altered = interpolate(masks, size, mode="nearest-exact")[0].numpy() > 0
    return Patch(image[0, 0].numpy(), body, altered)
