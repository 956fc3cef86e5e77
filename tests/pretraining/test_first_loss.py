"""What Volume Fusion's cross-entropy is before anything was learned: more than ln 5, and why.

nnU-Net initialises all layers after He, the last one too. That layer sees half of a unit variance (instance norm, then
LeakyReLU) and doubles it, so the untrained answers have a variance of 1, whatever depth, width and input. Five
independent standard normal values have E[log sum exp] = ln 5 + 0.36: 1.97 is what a stock network starts with, and
ln 5 = 1.609 what it reaches by answering the same everywhere.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretraining.method import Moment, sample_rng, stack, step_rng
from pretraining.networks import NetworkPlan, plan_from_preset
from pretraining.volume_fusion import Options, build
from tests.pretraining.volumes import array_volume

N_NETWORKS = 6
PRESETS = ("small", "small-residual")


def plan(preset: str) -> NetworkPlan:
    plans = plan_from_preset(preset).plans
    (name,) = plans["configurations"]
    settings = {**plans["configurations"][name], "patch_size": [16, 16, 16], "batch_size": 2}
    return NetworkPlan({**plans, "configurations": {name: settings}})


def scale_last_layers(network: nn.Module, factor: float) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "seg_layers" in name:
                parameter *= factor


volume = cache(array_volume)


def first_entropies(preset: str, factor: float = 1.0) -> list[float]:
    """The cross-entropy of the first step of several untrained networks."""
    found = []
    for seed in range(N_NETWORKS):
        torch.manual_seed(seed)
        method = build(Options(), plan(preset), use_masks=True)
        scale_last_layers(method.network, factor)
        batch = stack(method.sampler(volume(), sample_rng(seed, 0, number)) for number in range(2))
        with torch.no_grad():
            outcome = method.loss(method.module, batch, Moment(0, 100), step_rng(seed, 0))
        found.append(float(outcome.values["cross_entropy"]))
    return found


def expected_of_normal_logits() -> float:
    logits = np.random.default_rng(0).normal(size=(200_000, 5))
    return float(np.log(np.exp(logits).sum(1)).mean())


@pytest.mark.parametrize("preset", PRESETS)
def test_untrained_answers_have_the_variance_that_he_initialisation_gives(preset: str) -> None:
    images = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    variances: list[Tensor] = []
    for seed in range(N_NETWORKS):
        torch.manual_seed(seed)
        network = build(Options(), plan(preset), use_masks=True).network
        with torch.no_grad():
            # Over the classes of a voxel, the only differences that softmax sees.
            variances += [network(scale * images).var(1).mean() for scale in (1.0, 100.0)]
    assert float(torch.stack(variances).mean()) == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_cross_entropy_is_that_of_answers_by_chance(preset: str) -> None:
    assert expected_of_normal_logits() == pytest.approx(math.log(5) + 0.36, abs=0.01)
    found = first_entropies(preset)
    assert np.mean(found) == pytest.approx(expected_of_normal_logits(), abs=0.2)
    assert min(found) > math.log(5)


@pytest.mark.parametrize("preset", PRESETS)
def test_without_the_spread_of_the_last_layer_it_is_the_logarithm_of_five(preset: str) -> None:
    assert first_entropies(preset, factor=0.0) == pytest.approx([math.log(5)] * N_NETWORKS, abs=1e-5)
    assert first_entropies(preset, factor=0.25) == pytest.approx([math.log(5)] * N_NETWORKS, abs=0.25)
