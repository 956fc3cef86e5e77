"""Which blocks AnatoMask hides, and what it asks of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretraining.anatomask.blocks import (
    BlockRoles,
    block_errors,
    draw_hard_mask,
    draw_mask,
    find_roles,
    from_blocks,
    grid_of,
    hard_count,
    hidden_count,
    mean_over_scored,
    normalize_blocks,
    to_blocks,
)

SIDE = (4, 8, 2)


def all_candidates(n_samples: int, n_blocks: int) -> BlockRoles:
    return BlockRoles(np.ones((n_samples, n_blocks), bool), np.zeros((n_samples, n_blocks), bool))


def test_blocks_are_cut_in_array_order_and_put_together_again() -> None:
    voxels = torch.arange(2 * 3 * 8 * 16 * 6.0).reshape(2, 3, 8, 16, 6)
    blocks = to_blocks(voxels, SIDE)
    assert blocks.shape == (2, 2 * 2 * 3, 3 * 64)
    assert torch.equal(blocks[1, 1 * 6 + 0 * 3 + 2].reshape(3, *SIDE), voxels[1, :, 4:8, 0:8, 4:6])
    assert torch.equal(from_blocks(blocks, (2, 2, 3), SIDE), voxels)
    with pytest.raises(ValueError, match=r"patch \(8, 16, 5\) is not a multiple of the block \(4, 8, 2\)"):
        grid_of((8, 16, 5), SIDE)


def test_counts_are_those_of_the_released_code() -> None:
    assert hidden_count(7 * 7 * 8) == 235
    assert hidden_count(4) == 2


def test_a_block_with_a_quarter_of_true_body_is_a_candidate_and_mostly_altered_ones_are_always_hidden() -> None:
    body, altered = torch.zeros(1, 1, 4, 8, 10, dtype=torch.bool), torch.zeros(1, 1, 4, 8, 10, dtype=torch.bool)
    body[..., 0, 0:8, 0:2] = True  # block 0: 16 of 64 voxels are body
    body[..., 0, 0:8, 2:4] = True  # block 1: the same, of which one voxel was altered
    altered[..., 0, 0, 2] = True
    altered[..., 0:2, :, 4:6] = True  # block 2: exactly half was altered
    altered[..., 0:2, :, 6:8] = True  # block 3: a voxel more
    altered[..., 2, 0, 6] = True
    body[..., 8:10] = True  # block 4: mostly altered, with a quarter of true body
    altered[..., 0:3, :, 8:10] = True
    roles = find_roles(body, altered, SIDE)
    assert roles.candidate.tolist() == [[True, False, False, False, True]]
    assert roles.untrue.tolist() == [[False, False, False, True, False]]
    assert roles.is_enough.tolist() == [False]


def test_as_many_candidates_are_hidden_in_each_sample_as_it_has_and_no_other_block() -> None:
    roles = all_candidates(2, 392)
    roles.candidate[1, 40:] = False
    scored = draw_mask(roles, np.random.default_rng(1))
    assert scored.sum(1).tolist() == [235, 24]
    assert not scored[~roles.candidate].any()
    hits = sum(draw_mask(roles, np.random.default_rng(seed))[1, :40] for seed in range(400))
    assert np.all(np.abs(hits / 400 - 0.6) < 0.12)


def test_the_second_mask_holds_the_worst_blocks_and_others_at_random() -> None:
    rng = np.random.default_rng(2)
    roles = all_candidates(1, 392)
    scored = draw_mask(roles, rng)
    importance = np.where(scored, rng.random((1, 392)), 0).astype(np.float32)
    chosen = draw_hard_mask(roles, scored, importance, 0.5 * 500 / 999, rng)
    worst = np.argsort(-importance[0])[:58]
    assert chosen.sum() == 235
    assert chosen[0, worst].all()
    assert 0.25 < chosen[0, ~scored[0]].mean() < 0.75  # also of those that were visible: 177 of 334 are drawn


@pytest.mark.parametrize("share", [0.0, 1 / 1000])
def test_without_hard_blocks_the_second_mask_is_random(share: float) -> None:
    roles = all_candidates(1, 100)
    scored = draw_mask(roles, np.random.default_rng(3))
    picks = [
        draw_hard_mask(roles, scored, np.zeros((1, 100), np.float32), share, np.random.default_rng(seed))
        for seed in range(300)
    ]
    assert {int(pick.sum()) for pick in picks} == {60}
    assert np.all(np.abs(np.mean(picks, (0, 1)) - 0.6) < 0.15)


def test_the_number_of_hard_blocks_is_rounded_down() -> None:
    assert [hard_count(235, 0.5 * (epoch + 1) / 999) for epoch in (0, 7, 8, 499, 999)] == [0, 0, 1, 58, 117]


def test_a_target_has_mean_0_and_variance_1_over_what_was_not_altered() -> None:
    rng = torch.Generator().manual_seed(4)
    values = 300 + 40 * torch.randn(2, 3, 64, generator=rng, dtype=torch.float64)
    weights = (torch.rand(2, 3, 64, generator=rng) < 0.7).double()
    target = normalize_blocks(values, weights)
    count = weights.sum(-1)
    assert float((target.sum(-1) / count).abs().max()) < 1e-12
    assert torch.allclose((target**2).sum(-1) / (count - 1), torch.ones(2, 3, dtype=torch.float64), atol=1e-4)
    assert float(target[weights == 0].abs().max()) == 0
    zeros = torch.zeros_like(target)
    assert torch.allclose(block_errors(zeros, target, weights), (count - 1) / count, atol=1e-4)  # nothing is learned


def test_a_constant_block_has_a_target_of_0() -> None:
    values, weights = torch.full((1, 2, 64), 7.25), torch.ones(1, 2, 64)
    assert float(normalize_blocks(values, weights).abs().max()) == 0
    assert float(normalize_blocks(values, torch.zeros_like(weights)).abs().max()) == 0


def test_a_batch_with_nothing_to_score_has_a_loss_of_0_and_no_nan() -> None:
    prediction = torch.ones(1, 2, 64, requires_grad=True)
    errors = block_errors(prediction, torch.zeros(1, 2, 64), torch.zeros(1, 2, 64))
    loss = mean_over_scored(errors, torch.zeros(1, 2))
    loss.backward()
    assert float(loss.detach()) == 0
    assert prediction.grad is not None
    assert float(prediction.grad.abs().max()) == 0
