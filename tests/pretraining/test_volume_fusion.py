"""Volume Fusion: the sum is exact, and altered tissue and air teach nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretraining.dataset import ArrayVolume
from pretraining.draws import Patch
from pretraining.errors import SettingRefused
from pretraining.method import Moment, sample_rng, stack, step_rng
from pretraining.networks import NetworkPlan, plan_from_preset
from pretraining.volume_fusion import Options, Variant, build
from pretraining.volume_fusion.augment import draw_crop, stretch_contrast
from pretraining.volume_fusion.coefficients import default_cells
from pretraining.volume_fusion.fusing import fuse, fusion_weights
from pretraining.volume_fusion.losses import fusion_loss
from pretraining.volume_fusion.sampling import GridSampler
from tests.pretraining.volumes import array_volume

PATCH = (32, 32, 32)
START = Moment(0, 100)


def small_plan(batch_size: int = 2) -> NetworkPlan:
    plans = dict(plan_from_preset("small").plans)
    configurations = {
        name: {**one, "patch_size": list(PATCH), "batch_size": batch_size}
        for name, one in plans["configurations"].items()
    }
    return NetworkPlan({**plans, "configurations": configurations})


def test_the_fused_patch_is_the_weighted_sum() -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 1, *PATCH, generator=rng), torch.rand(2, 1, *PATCH, generator=rng)
    classes = torch.randint(0, 5, (2, 1, *PATCH), generator=rng)
    fused = fuse(first, second, classes)
    for c in range(5):
        rest = fused - (c / 4 * first + (1 - c / 4) * second)
        assert rest[classes == c].abs().max() <= 1e-6


@given(c=st.integers(0, 4), masks=st.tuples(*[st.booleans()] * 4))
def test_weights_follow_the_rule(c: int, masks: tuple[bool, bool, bool, bool]) -> None:
    body_1, body_2, altered_1, altered_2 = (torch.tensor([mask]) for mask in masks)
    weight = fusion_weights(torch.tensor([c]), (body_1, body_2), (altered_1, altered_2))
    enters = (c > 0 and masks[2]) or (c < 4 and masks[3])
    assert weight.item() == float((masks[0] or masks[1]) and not enters)


def test_crops_are_from_zero_to_one_and_their_middle_is_stretched() -> None:
    volume = array_volume()
    for seed in range(8):
        crop = draw_crop(volume, PATCH, np.random.default_rng(seed), use_masks=True)
        assert crop.image.shape == crop.body.shape == (1, *PATCH)
        assert crop.image.min() >= 0
        assert crop.image.max() <= 1
        middle = crop.image[crop.body & ~crop.altered]
        assert ((middle > 0.1**1.5) & (middle < 0.9**0.7)).float().mean() > 0.93


def test_the_stretch_takes_percentiles_of_unaltered_body_only() -> None:
    volume = array_volume()
    patch = Patch(volume.image, volume.body, volume.altered)
    stretched = stretch_contrast(patch, 1, 99)
    wild = volume.image.copy()
    wild[volume.altered] = np.random.default_rng(0).normal(500, 200, int(volume.altered.sum()))
    again = stretch_contrast(Patch(wild, volume.body, volume.altered), 1, 99)
    assert np.array_equal(stretched[~volume.altered], again[~volume.altered])
    body = volume.body & ~volume.altered
    assert np.percentile(stretched[body], [1, 99]) == pytest.approx([0.1, 0.9], abs=0.01)


def test_a_constant_crop_stays_finite() -> None:
    flat = np.full(PATCH, 3, np.float32)
    whole = np.ones(PATCH, np.bool_)
    assert (stretch_contrast(Patch(flat, whole, ~whole), 1, 99) == 0.5).all()
    body = whole.copy()
    body[:16] = False
    spiked = flat.copy()
    spiked[:16] = np.random.default_rng(0).normal(size=(16, 32, 32))
    assert np.isfinite(stretch_contrast(Patch(spiked, body, ~whole), 1, 99)).all()


def test_trivial_masks_give_the_unmasked_method_exactly() -> None:
    image = array_volume(3).image
    volume = ArrayVolume("v", image, np.ones(image.shape, np.bool_), np.zeros(image.shape, np.bool_))
    cells = default_cells(PATCH)
    for seed in range(3):
        masked, plain = (
            GridSampler(PATCH, cells, use_masks)(volume, np.random.default_rng(seed)) for use_masks in (True, False)
        )
        assert masked.keys() == plain.keys()
        for key in masked:
            assert torch.equal(masked[key], plain[key])
        assert bool((plain["weights"] == 1).all())


def test_without_masks_altered_tissue_is_learned_from() -> None:
    sample = GridSampler(PATCH, default_cells(PATCH), False)(array_volume(), np.random.default_rng(0))
    assert bool((sample["weights"] == 1).all())


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_voxels_without_weight_get_no_gradient_and_change_no_loss(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 8, 8, 8, generator=rng, requires_grad=True)
    classes = torch.randint(0, 5, (2, 1, 8, 8, 8), generator=rng)
    weights = (torch.rand(2, 1, 8, 8, 8, generator=rng) < 0.7).float()
    found = fusion_loss(logits, classes, weights)
    found.loss.backward()
    gradient = logits.grad
    assert gradient is not None
    off = (weights == 0).expand_as(gradient)
    assert gradient[off].abs().max() == 0
    assert gradient[~off].abs().max() > 0
    noise = torch.randint(0, 5, classes.shape, generator=rng)
    replaced = torch.where(weights == 0, noise, classes)
    wild = torch.where(off, 100 * torch.randn(logits.shape, generator=rng), logits.detach())
    assert fusion_loss(wild, replaced, weights).loss == found.loss


def test_a_batch_without_any_weight_has_loss_zero_and_a_gradient() -> None:
    logits = torch.randn(2, 5, 4, 4, 4, requires_grad=True)
    found = fusion_loss(logits, torch.zeros(2, 1, 4, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 4, 4, 4))
    found.loss.backward()
    assert found.loss == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_even_answers_cost_the_logarithm_of_five() -> None:
    classes = torch.randint(0, 5, (2, 1, 6, 6, 6))
    found = fusion_loss(torch.zeros(2, 5, 6, 6, 6), classes, torch.ones(2, 1, 6, 6, 6))
    assert found.cross_entropy == pytest.approx(math.log(5), abs=1e-6)


def test_majority_is_the_accuracy_of_answering_class_0_where_weights_are() -> None:
    rng = torch.Generator().manual_seed(5)
    classes = torch.randint(0, 5, (2, 1, 6, 6, 6), generator=rng)
    weights = (classes > 1).float()
    weights[0, 0, 0] = 1  # class 0 carries weight in this plane only
    answer = torch.zeros(2, 5, 6, 6, 6)
    answer[:, 0] = 1
    found = fusion_loss(answer, classes, weights)
    n_zeros = int((classes[0, 0, 0] == 0).sum())
    assert found.majority == found.accuracy == pytest.approx(n_zeros / float(weights.sum()))


def test_all_weights_one_is_plain_cross_entropy_and_dice() -> None:
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 5, 6, 6, 6, generator=rng)
    classes = torch.randint(0, 5, (1, 1, 6, 6, 6), generator=rng)
    found = fusion_loss(logits, classes, torch.ones(1, 1, 6, 6, 6))
    p = logits.double().softmax(1)[0].flatten(1)
    target = classes.flatten()
    entropy = -p[target, torch.arange(216)].log().mean()
    dice = np.mean([1 - 2 * p[c, target == c].sum() / (p[c].sum() + (target == c).sum()) for c in range(5)])
    assert found.cross_entropy == pytest.approx(float(entropy), abs=1e-5)
    assert found.loss == pytest.approx((float(entropy) + dice) / 2, abs=1e-4)


def batch_of(method: object, n: int = 2) -> dict[str, torch.Tensor]:
    volumes = [array_volume(seed) for seed in range(n)]
    return stack(method.sampler(volume, sample_rng(5, 0, number)) for number, volume in enumerate(volumes))  # type: ignore[attr-defined]


@pytest.mark.parametrize("variant", list(Variant))
def test_the_network_has_five_classes_and_starts_near_chance(variant: Variant) -> None:
    torch.manual_seed(0)
    method = build(Options(variant=variant), small_plan(), use_masks=True)
    batch = batch_of(method)
    found = method.loss(method.module, batch, START, step_rng(5, 0))
    assert method.network(batch["image"]).shape == (2, 5, *PATCH)
    # nnU-Net's own initial values of the last layer give answers that differ from even ones by a standard deviation.
    assert math.log(5) - 0.1 < found.values["cross_entropy"] < math.log(5) + 0.45
    assert 0.5 < found.values["weighted_share"] < 1
    panels = method.draw(batch, START, step_rng(5, 0))
    assert [panel.title for panel in panels] == ["fused patch", "classes", "answer", "weights"]
    assert method.module.training


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    method = build(Options(), small_plan(), use_masks=True)
    batch = batch_of(method)
    optimizer, schedule = method.configure(5)
    losses = []
    for step in range(5):
        optimizer.zero_grad()
        outcome = method.loss(method.module, batch, Moment(step, 5), step_rng(5, step))
        outcome.loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(outcome.loss.item())
    assert losses[-1] < losses[0] - 0.03
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / 4)


def test_boxes_need_two_samples() -> None:
    with pytest.raises(SettingRefused, match="--batch 2"):
        build(Options(variant=Variant.BOXES), small_plan(1), use_masks=True)
