"""Fuse two crops, and tell which voxels of the result can be learned from; on any device, with any leading axes."""

from __future__ import annotations

import torch
from torch import Tensor

from pretraining.volume_fusion.coefficients import N_COEFFICIENTS


def fuse(first: Tensor, second: Tensor, coefficients: Tensor) -> Tensor:
    """Return (c/K)·first + (1 - c/K)·second."""
    share = coefficients.to(first.dtype) / N_COEFFICIENTS
    return share * first + (1 - share) * second


def fusion_weights(coefficients: Tensor, bodies: tuple[Tensor, Tensor], altered: tuple[Tensor, Tensor]) -> Tensor:
    """Return 1 where a voxel's coefficient can be told from true tissue, else 0.

    It cannot where an altered voxel enters the sum, and where both crops are air: any coefficient gives the same there.

    Parameters
    ----------
    coefficients
        Integers from 0 to K.
    bodies, altered
        Boolean masks of both crops.
    """
    enters = altered[0] & (coefficients > 0) | altered[1] & (coefficients < N_COEFFICIENTS)
    return ((bodies[0] | bodies[1]) & ~enters).to(torch.float32)
