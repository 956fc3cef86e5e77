"""A volume through a network: slabs give what the whole region gives, and the answer lies where it was found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from inference.judge import judge
from inference.judge.channels import CHANNEL_NAMES
from inference.judge.judge import judge_volume, predict


class FrontNetwork(nn.Module):
    """Finds `removed` where the value channel is below a half."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        dark = (values[:, :1] < 0.5).float() * 20
        return torch.cat([10 - dark, dark - 10, 0 * dark - 10, 0 * dark - 10], 1)


def test_slabs_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reach = nn.Sequential(
        nn.Conv3d(2, 4, 5, padding=2), nn.ReLU(), nn.Conv3d(4, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose3d(4, 4, 2, stride=2), nn.Conv3d(4, 3, 3, padding=1),
    ).eval()  # fmt: skip
    channels = np.random.default_rng(0).normal(size=(2, 37, 50, 29)).astype(np.float32)
    whole = predict(reach, channels)
    monkeypatch.setattr(judge, "MAX_VOXELS", 10_000)
    monkeypatch.setattr(judge, "LEAST_PLANES", 5)
    monkeypatch.setattr(judge, "HALO", 8)
    np.testing.assert_allclose(predict(reach, channels), whole, atol=1e-5)
    np.testing.assert_allclose(whole.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.0, 0.5, 0.5)])
def test_the_answer_lies_where_the_cut_is(spacing: tuple[float, float, float]) -> None:
    shape = tuple(round(mm / step) for mm, step in zip((160, 160, 160), spacing, strict=True))
    slices, rows, columns = ((np.arange(size) + 0.5) * step for size, step in zip(shape, spacing, strict=True))
    is_body = (rows[None, :, None] > 30) & (slices[:, None, None] < 150) & (np.abs(columns - 80) < 60)
    voxels = np.where(is_body, 400.0, 0.0).astype(np.float32)
    voxels += np.random.default_rng(0).normal(0, 5, shape).astype(np.float32)
    cut = is_body & (rows[None, :, None] < 60) & (slices[:, None, None] < 80)
    voxels[cut] = 0.0
    context = np.zeros((4, 10, 10, 10), np.float32)
    context[0] = 1.0
    found = judge_volume(voxels, spacing, is_body, context, FrontNetwork())
    inside = np.zeros(shape, bool)
    inside[found.window] = found.changed > 0.5
    looked_at = np.zeros(shape, bool)
    looked_at[found.window] = is_body[found.window]
    wrong = (inside != cut) & looked_at
    assert cut[found.window].sum() > 0.9 * cut.sum()
    assert wrong.sum() <= 0.08 * cut.sum()  # the network sees voxels of 2 mm: less than half of one at every edge
    assert found.probabilities.shape[0] == 4
    assert len(CHANNEL_NAMES) == 18


def test_the_judges_network_reaches_no_farther_than_the_halo() -> None:
    network = pytest.importorskip("training.judge.network").build_network().eval()
    with torch.inference_mode():
        values = torch.randn(1, len(CHANNEL_NAMES), 80, 8, 8)
        other = values.clone()
        other[:, :, :8] += 1
        difference = (network(values) - network(other)).abs().amax((0, 1, 3, 4))
    assert difference[:8].max() > 0
    assert difference[8 + judge.HALO :].max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_judge_answers_on_a_gpu_as_on_the_cpu() -> None:
    network = pytest.importorskip("training.judge.network").build_network().eval()
    values = np.random.default_rng(0).normal(0, 1, (len(CHANNEL_NAMES), 40, 33, 47)).astype(np.float32)
    expected = judge.predict(network, values.copy())
    np.testing.assert_allclose(judge.predict(network.cuda(), values.copy()), expected, atol=2e-3)
