"""Layers in the CPU's layout compute what PyTorch's own compute."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from inference.nnunet.cpu_layout import ChannelsLastConvolution, ChannelsLastInstanceNorm, optimise_for_cpu
from tests.tiny_models import build_network, tiny_plans

LAYERS = {
    "plain": (nn.Conv3d(3, 5, 3, padding=1), 3),
    "strided": (nn.Conv3d(3, 5, 3, stride=2, padding=1), 3),
    "flat kernel": (nn.Conv3d(3, 5, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False), 3),
    "single voxel": (nn.Conv3d(6, 2, 1), 6),
    "single voxel, strided": (nn.Conv3d(6, 2, 1, stride=2), 6),
    "upsampling": (nn.ConvTranspose3d(6, 4, (2, 2, 2), stride=(2, 2, 2)), 6),
    "flat upsampling": (nn.ConvTranspose3d(6, 4, (1, 2, 3), stride=(1, 2, 3), bias=False), 6),
    "overlapping upsampling": (nn.ConvTranspose3d(6, 4, 3, stride=2), 6),
    "grouped": (nn.Conv3d(6, 6, 3, groups=3), 6),
    "norm": (nn.InstanceNorm3d(4, affine=True), 4),
    "norm without weights": (nn.InstanceNorm3d(4), 4),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("n_tiles", [1, 2])
def test_a_layer_gives_the_same_values(name: str, n_tiles: int) -> None:
    layer, n_channels = LAYERS[name]
    torch.manual_seed(0)
    values = torch.randn(n_tiles, n_channels, 6, 8, 10) * 3 + 20  # far from zero: variances must not cancel
    expected = layer(values)
    found = optimise_for_cpu(nn.Sequential(copy.deepcopy(layer)))(values.clone())
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("residual", [False, True])
def test_a_whole_network_gives_the_same_logits(residual: bool) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_plans(residual=residual), 2, 3).eval()
    values = torch.randn(1, 2, 32, 32, 32)
    expected = network(values)
    faster = optimise_for_cpu(copy.deepcopy(network))
    torch.testing.assert_close(faster(values), expected, atol=1e-4, rtol=1e-4)
    kinds = {type(module) for module in faster.modules()}
    assert {ChannelsLastConvolution, ChannelsLastInstanceNorm} <= kinds
    assert not kinds & {nn.Conv3d, nn.InstanceNorm3d, nn.ConvTranspose3d}
