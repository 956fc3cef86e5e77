"""Blocks of a patch: which may be hidden, how their targets are normalised, how large the error in each is.

A patch (sample, channel, slice, row, column) is cut into equal blocks, numbered in array order. ``n_blocks`` is their
number in a patch and ``n_values`` the number of values in a block, over all channels.

References
----------
K. Tian et al., Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling, ICLR (2023), SparK.
Y. Li et al., AnatoMask: Enhancing Medical Image Segmentation with Reconstruction-guided Self-masking, ECCV (2024),
arXiv 2407.06468. The rules for body and altered voxels are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CANDIDATE_SHARE = 0.25  # a block may be hidden and scored if this share of it is body that was not altered
ALTERED_SHARE = 0.5  # a block that may not be hidden and scored, with more altered voxels than this, is always hidden
LEAST_CANDIDATES = 4  # a patch with fewer blocks to choose from is drawn again
EPSILON = 1e-6  # added to the variance of a block
Side = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class BlockRoles:
    """What may happen to the blocks of each sample; both masks are (sample, n_blocks).

    Attributes
    ----------
    candidate
        Blocks that may be hidden and scored.
    untrue
        Blocks that tell the encoder nothing true; always hidden, never scored.
    """

    candidate: NDArray[np.bool_]
    untrue: NDArray[np.bool_]

    @property
    def is_enough(self) -> NDArray[np.bool_]:
        """Which samples have enough candidates, (sample,)."""
        return np.asarray(self.candidate.sum(1) >= LEAST_CANDIDATES)


def grid_of(patch_size: Side, side: Side) -> Side:
    """Return the number of blocks along each axis.

    Raises
    ------
    ValueError
        The patch is not a multiple of the block.
    """
    if any(size % length for size, length in zip(patch_size, side, strict=True)):
        raise ValueError(f"patch {patch_size} is not a multiple of the block {side}")
    first, second, third = (size // length for size, length in zip(patch_size, side, strict=True))
    return first, second, third


def to_blocks(voxels: Tensor, side: Side) -> Tensor:
    """Cut (sample, channel, slice, row, column) into (sample, n_blocks, n_values)."""
    n_samples, n_channels, *shape = voxels.shape
    grid = grid_of((shape[0], shape[1], shape[2]), side)
    parts = voxels.reshape(n_samples, n_channels, grid[0], side[0], grid[1], side[1], grid[2], side[2])
    return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(n_samples, grid[0] * grid[1] * grid[2], -1)


def from_blocks(blocks: Tensor, grid: Side, side: Side) -> Tensor:
    """Put (sample, n_blocks, n_values) together again, (sample, channel, slice, row, column)."""
    parts = blocks.reshape(len(blocks), *grid, -1, *side).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return parts.reshape(len(blocks), -1, *(count * length for count, length in zip(grid, side, strict=True)))


def find_roles(body: Tensor, altered: Tensor, side: Side) -> BlockRoles:
    """Return the roles of the blocks; both masks are bool (sample, 1, slice, row, column)."""
    true_body = to_blocks((body & ~altered).float(), side).mean(-1)
    candidate = true_body >= CANDIDATE_SHARE
    untrue = ~candidate & (to_blocks(altered.float(), side).mean(-1) > ALTERED_SHARE)
    return BlockRoles(candidate.cpu().numpy(), untrue.cpu().numpy())


def hidden_count(n_candidates: int, hidden_share: float = 0.6) -> int:
    """Return how many of the candidates of a sample are hidden."""
    return round(hidden_share * n_candidates)


def draw_mask(roles: BlockRoles, rng: np.random.Generator, hidden_share: float = 0.6) -> NDArray[np.bool_]:
    """Hide candidates at random; return the hidden and scored blocks (sample, n_blocks)."""
    scored = np.zeros_like(roles.candidate)
    for sample, candidate in enumerate(roles.candidate):
        places = np.flatnonzero(candidate)
        scored[sample, rng.permutation(places)[: hidden_count(len(places), hidden_share)]] = True
    return scored


def draw_hard_mask(
    roles: BlockRoles,
    scored: NDArray[np.bool_],
    importance: NDArray[np.float32],
    hard_share: float,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Hide the blocks that were reconstructed worst, and others at random.

    Parameters
    ----------
    scored
        (sample, n_blocks) blocks that were hidden while the importance was measured; as many are hidden again.
    importance
        (sample, n_blocks) error of the teacher in each of them.
    hard_share
        Share of the hidden blocks that are chosen by importance, rounded down.

    Returns
    -------
    NDArray[np.bool_]
        The hidden and scored blocks (sample, n_blocks). Those chosen at random come from all other candidates, also
        from those that were visible.
    """
    chosen = np.zeros_like(scored)
    for sample, candidate in enumerate(roles.candidate):
        n_hidden = int(scored[sample].sum())
        n_hard = hard_count(n_hidden, hard_share)
        before = np.flatnonzero(scored[sample])
        hard = before[np.argsort(-importance[sample, before], kind="stable")[:n_hard]]
        others = np.setdiff1d(np.flatnonzero(candidate), hard, assume_unique=True)
        chosen[sample, hard] = True
        chosen[sample, rng.permutation(others)[: n_hidden - n_hard]] = True
    return chosen


def hard_count(n_hidden: int, hard_share: float) -> int:
    """Return how many hidden blocks are chosen by importance."""
    return int(n_hidden * hard_share)


def normalize_blocks(values: Tensor, weights: Tensor) -> Tensor:
    """Normalise each block by its own mean and unbiased variance.

    Parameters
    ----------
    values, weights
        (sample, n_blocks, n_values); a value of weight 0 enters neither mean nor variance and becomes 0.
    """
    count = weights.sum(-1, keepdim=True)
    mean = (values * weights).sum(-1, keepdim=True) / count.clamp(min=1)
    centred = (values - mean) * weights
    variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance + EPSILON).sqrt()


def block_errors(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean squared error of each block, (sample, n_blocks); 0 where all weights are 0."""
    errors = (prediction - target).square() * weights
    return errors.sum(-1) / weights.sum(-1).clamp(min=1)


def mean_over_scored(errors: Tensor, scored: Tensor) -> Tensor:
    """Return the mean error of the hidden blocks of a batch; 0, with a gradient of 0, if there is none."""
    return (errors * scored).sum() / scored.sum().clamp(min=1)
