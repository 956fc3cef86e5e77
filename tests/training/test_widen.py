"""A widened network answers as before and learns with its new features; a narrower one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from inference.judge.channels import CHANNEL_NAMES
from training.judge import network
from training.judge.export import export_judge
from training.judge.loop import Settings, make_learner, resume
from training.judge.network import build_network
from training.judge.widen import widen

NARROW, WIDE = (4, 6, 8, 8), (4, 8, 16, 12)


def trained(features: tuple[int, ...]) -> nn.Module:
    """Return a network whose statistics are not those of a new one."""
    made = build_network(features).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
    return made


def test_a_widened_network_answers_as_before() -> None:
    torch.manual_seed(1)
    narrow, wide = trained(NARROW), build_network(WIDE).eval()
    channels = torch.randn(2, len(CHANNEL_NAMES), 16, 8, 24)
    with torch.no_grad():
        assert not torch.allclose(narrow(channels), wide(channels), atol=1e-2)
        widen(narrow, wide)
        torch.testing.assert_close(narrow(channels), wide(channels), rtol=1e-4, atol=1e-5)


def test_new_features_learn() -> None:
    torch.manual_seed(2)
    narrow, wide = trained(NARROW), build_network(WIDE)
    widen(narrow, wide)
    optimizer = torch.optim.AdamW(wide.parameters(), lr=1e-3, weight_decay=0.0)
    channels, target = torch.randn(2, len(CHANNEL_NAMES), 8, 8, 8), torch.randint(0, 4, (2, 8, 8, 8))
    second = wide.encoder.stages[1][0].convs[0].conv  # 4 to 8 features, of which 6 are old
    before = second.weight.detach().clone()
    for _ in range(2):  # in the first step others begin to read them, in the second they change by it
        optimizer.zero_grad()
        nn.functional.cross_entropy(wide(channels), target).backward()
        optimizer.step()
    assert (second.weight[6:] != before[6:]).any(dim=(1, 2, 3, 4)).all()


def test_a_network_with_more_features_does_not_fit() -> None:
    with pytest.raises(ValueError, match="16 features do not fit into 8"):
        widen(build_network(WIDE), build_network((4, 8, 8, 12)))


def test_a_run_goes_on_from_exported_weights_with_fewer_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(network.ARCHITECTURE, "features_per_stage", list(NARROW))
    narrow = make_learner(Settings())
    narrow.steps = 12
    export_judge(tmp_path / "weights", narrow, simulation_core_s=0.0, n_cases=1)
    monkeypatch.setitem(network.ARCHITECTURE, "features_per_stage", list(WIDE))
    resumed = resume(tmp_path / "work", Settings(), tmp_path / "weights")
    channels = torch.randn(1, len(CHANNEL_NAMES), 8, 8, 8)
    with torch.no_grad():
        expected = narrow.average.eval()(channels)
        torch.testing.assert_close(resumed.network.eval()(channels), expected, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(resumed.average.eval()(channels), expected, rtol=1e-2, atol=1e-2)
    assert resumed.steps == 12
