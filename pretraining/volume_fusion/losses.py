"""Half Dice, half cross-entropy, over voxels that carry weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

SMOOTH: Final = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class FusionLoss:
    """Loss and its parts: means over the samples that have any weight; the last two have no gradient.

    ``accuracy`` is to be compared with ``majority``: the accuracy of the answer "class 0 everywhere".
    """

    loss: Tensor
    cross_entropy: Tensor
    dice: Tensor
    accuracy: Tensor
    majority: Tensor


def fusion_loss(logits: Tensor, classes: Tensor, weights: Tensor) -> FusionLoss:
    """Return the loss of a batch.

    Parameters
    ----------
    logits
        (batch, class, *patch).
    classes, weights
        (batch, 1, *patch): integers; 0 or 1. Voxels without weight are in no sum; the loss is 0 if there are no others.
    """
    logits, target = logits.float(), classes[:, 0].long()
    weight = weights[:, 0]
    totals = weight.flatten(1).sum(1)
    n_used = (totals > 0).sum().clamp(min=1)
    errors = cross_entropy(logits, target, reduction="none") * weight
    entropy = (errors.flatten(1).sum(1) / totals.clamp(min=1)).sum() / n_used
    truth = one_hot(target, logits.shape[1]).movedim(-1, 1) * weight[:, None]
    guess = logits.softmax(1) * weight[:, None]
    both = 2 * (truth * guess).flatten(2).sum(2)
    overlap = (both + SMOOTH) / (truth.flatten(2).sum(2) + guess.flatten(2).sum(2) + SMOOTH)
    dice = ((1 - overlap).mean(1) * (totals > 0)).sum() / n_used
    with torch.no_grad():
        right = (logits.argmax(1) == target).to(weight.dtype) * weight
        n_weighted = weight.sum().clamp(min=1)
        accuracy, majority = right.sum() / n_weighted, ((target == 0) * weight).sum() / n_weighted
    return FusionLoss((entropy + dice) / 2, entropy.detach(), dice.detach(), accuracy, majority)
