"""Half Dice, half cross-entropy, over voxels that carry weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

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
    target, weight = classes[:, 0].flatten(1).long(), weights[:, 0].flatten(1)
    totals = weight.sum(1)
    n_used = (totals > 0).sum().clamp(min=1)
    logs = logits.float().flatten(2).log_softmax(1)
    of_target = logs.gather(1, target[:, None])[:, 0]
    entropy = -((of_target * weight).sum(1) / totals.clamp(min=1)).sum() / n_used
    # No product of arrays that have an axis of classes: they, and their gradients, would cost more than all else here.
    is_class = (target[:, None] == torch.arange(logits.shape[1], device=target.device)[:, None]).to(weight.dtype)
    both = 2 * torch.einsum("bcv,bv->bc", is_class, of_target.exp() * weight)
    truth = torch.einsum("bcv,bv->bc", is_class, weight)
    guess = torch.einsum("bcv,bv->bc", logs.exp(), weight)
    overlap = (both + SMOOTH) / (truth + guess + SMOOTH)
    dice = ((1 - overlap).mean(1) * (totals > 0)).sum() / n_used
    with torch.no_grad():
        n_weighted = weight.sum().clamp(min=1)
        # Not argmax, which takes longer on a CPU than all else here. Where all classes are equally likely, it is right.
        accuracy = ((of_target == logs.amax(1)) * weight).sum() / n_weighted
    return FusionLoss((entropy + dice) / 2, entropy.detach(), dice.detach(), accuracy, truth[:, 0].sum() / n_weighted)
