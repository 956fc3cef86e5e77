"""Show what AnatoMask hides, asks and answers: the middle plane of a patch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pretraining.anatomask.blocks import EPSILON, Side, from_blocks, to_blocks
from pretraining.method import Panel


def panels(
    image: Tensor,
    prediction: Tensor,
    weights: Tensor,
    hidden: NDArray[np.bool_],
    scored: NDArray[np.bool_],
    importance: NDArray[np.float32],
    grid: Side,
    side: Side,
) -> list[Panel]:
    """Return pictures of the first sample and channel.

    Parameters
    ----------
    image, prediction
        (sample, channel, slice, row, column); a prediction is of normalised blocks.
    weights
        (sample, n_blocks, n_values); 0 for altered voxels, from which no block takes its mean and variance.
    hidden, scored, importance
        (sample, n_blocks): blocks that the student does not see, those that count, and the teacher's error.
    """
    values = to_blocks(image, side)
    count = weights.sum(-1, keepdim=True)
    mean = (values * weights).sum(-1, keepdim=True) / count.clamp(min=1)
    variance = ((values - mean) * weights).square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    answer = to_blocks(prediction, side) * (variance + EPSILON).sqrt() + mean
    plane = image.shape[2] // 2

    def middle(blocks: Tensor) -> NDArray[np.float32]:
        return np.asarray(from_blocks(blocks, grid, side)[0, 0, plane].cpu().numpy(), dtype=np.float32)

    def spread(per_block: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
        filled = values.new_zeros(values.shape)
        return middle(filled + filled.new_tensor(per_block.astype(np.float32))[..., None])

    low, high = np.percentile(image[0, 0].cpu().numpy(), (1, 99))
    whole, is_hidden = _windowed(middle(values), low, high), spread(hidden) > 0
    answered = np.where(spread(scored) > 0, _windowed(middle(answer), low, high), whole * ~is_hidden)
    return [
        Panel("image", whole),
        Panel("what the network sees", np.asarray(whole * ~is_hidden, dtype=np.float32)),
        Panel("its reconstruction", np.asarray(answered, dtype=np.float32)),
        Panel("importance to the teacher", _ranked(spread(importance))),
    ]


def _windowed(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return np.asarray(((values - low) / max(high - low, 1e-6)).clip(0, 1), dtype=np.float32)


def _ranked(importance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 0 where nothing was hidden from the teacher, and 0.3 to 1 from the best to the worst block elsewhere."""
    known = importance[importance > 0]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    scaled = 0.3 + 0.7 * (importance - low) / max(high - low, 1e-6)
    return np.where(importance > 0, scaled, 0).astype(np.float32)
