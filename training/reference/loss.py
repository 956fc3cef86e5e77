"""Dice over the batch plus cross-entropy, both ignoring voxels labelled 255.

References
----------
F. Milletari et al., V-Net, 3DV (2016); F. Isensee et al., nnU-Net, Nature Methods 18 (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.samples import IGNORE

SMOOTH = 1e-5


def dice_and_cross_entropy(logits: Tensor, target: Tensor, dice_labels: Sequence[int]) -> Tensor:
    """Return the loss of logits (batch, label, ...) against labels (batch, ...).

    Dice is averaged over those of ``dice_labels`` that occur in the batch.
    """
    valid = (target != IGNORE).unsqueeze(1)
    if not bool(valid.any()):  # a mean over nothing is not a number
        return logits.sum() * 0.0
    safe = torch.where(valid[:, 0], target, torch.zeros_like(target))
    cross_entropy = torch.nn.functional.cross_entropy(logits, target.long(), ignore_index=IGNORE)
    probabilities = logits.softmax(1)[:, list(dice_labels)] * valid
    truth = torch.nn.functional.one_hot(safe.long(), logits.shape[1]).movedim(-1, 1)[:, list(dice_labels)] * valid
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * truth).sum(axes)
    total = probabilities.sum(axes) + truth.sum(axes)
    present = truth.sum(axes) > 0
    dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
    if not bool(present.any()):
        return cross_entropy
    return cross_entropy + 1 - dice[present].mean()
