"""The encoder sees nothing of hidden blocks, and each sample for itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pretraining.anatomask.reconstruct import Reconstructor
from pretraining.anatomask.sparse import VisiblePlaces, compute_visible_only
from pretraining.networks import build_network, plan_from_preset

NAMES = ("small", "small-residual")
SIDE, GRID = (8, 8, 8), (2, 4, 3)
SHAPE = (16, 32, 24)


def made(name: str, side: tuple[int, int, int] = SIDE) -> Reconstructor:
    torch.manual_seed(1)
    network = build_network(plan_from_preset(name), n_classes=2)
    with torch.no_grad():  # nnU-Net starts some norms at 0, which would hide what comes after them
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return Reconstructor(network.encoder, n_channels=1, side=side, width=16).eval()


def drawn(n_samples: int = 2) -> tuple[Tensor, Tensor]:
    """Voxels and visible blocks, with a different number in each sample."""
    rng = torch.Generator().manual_seed(2)
    visible = torch.rand(n_samples, *GRID, generator=rng) < torch.tensor([0.3, 0.6]).view(2, 1, 1, 1)[:n_samples]
    return torch.randn(n_samples, 1, *SHAPE, generator=rng), visible


def encoded(model: Reconstructor, voxels: Tensor, visible: Tensor) -> list[Tensor]:
    with torch.no_grad(), compute_visible_only(model.encoder, VisiblePlaces(visible[:, None])):
        features: list[Tensor] = model.encoder(voxels)
    return features


@pytest.mark.parametrize("name", NAMES)
def test_with_nothing_hidden_the_features_are_those_of_the_stock_encoder(name: str) -> None:
    model, (voxels, _) = made(name), drawn()
    with torch.no_grad():
        stock = model.encoder(voxels)
    ours = encoded(model, voxels, torch.ones(2, *GRID, dtype=torch.bool))
    assert max(float((a - b).abs().max()) for a, b in zip(ours, stock, strict=True)) <= 1e-5
    assert not any(module._forward_hooks for module in model.encoder.modules())


@pytest.mark.parametrize("name", NAMES)
def test_features_are_0_in_hidden_places_at_every_resolution(name: str) -> None:
    model, (voxels, visible) = made(name), drawn()
    shown = VisiblePlaces(visible[:, None])
    mask = shown.at(voxels.shape[2:])
    assert mask is not None
    for features in encoded(model, voxels * mask, visible):
        places = shown.at(features.shape[2:])
        assert places is not None
        assert float((features * ~places).abs().max()) == 0
        assert float((features * places).abs().max()) > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [SIDE, (4, 4, 4)])
def test_what_is_in_hidden_voxels_changes_nothing(name: str, side: tuple[int, int, int]) -> None:
    model, (voxels, _) = made(name, side), drawn()
    grid = tuple(size // length for size, length in zip(SHAPE, side, strict=True))
    visible = torch.rand(2, *grid, generator=torch.Generator().manual_seed(3)) < 0.4
    mask = VisiblePlaces(visible[:, None]).at(voxels.shape[2:])
    with torch.no_grad():
        assert torch.equal(model(voxels, visible), model(torch.where(mask, voxels, 99.0), visible))


@pytest.mark.parametrize("name", NAMES)
def test_one_sample_does_not_depend_on_another(name: str) -> None:
    model, (voxels, visible) = made(name), drawn()
    before = encoded(model, voxels, visible)
    voxels[1], visible[1] = 5.0, torch.rand(GRID) < 0.9
    after = encoded(model, voxels, visible)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(before, after, strict=True))


def test_norms_use_the_visible_places_of_each_sample() -> None:
    norm = nn.Sequential(nn.InstanceNorm3d(3, affine=True))
    voxels, visible = drawn()
    features = 50 + 9 * voxels.repeat(1, 3, 1, 1, 1)
    with compute_visible_only(norm, VisiblePlaces(visible[:, None])):
        normed = norm(features)
    places = VisiblePlaces(visible[:, None]).at(torch.Size(SHAPE))
    assert places is not None
    for sample in range(2):
        shown = normed[sample, 0][places[sample, 0]]
        assert float(shown.mean().detach()) == pytest.approx(0, abs=1e-4)
        assert float(shown.var(correction=0).detach()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [SIDE, (4, 4, 4)])
def test_the_encoder_keeps_its_keys_and_every_weight_learns(name: str, side: tuple[int, int, int]) -> None:
    model, (voxels, visible) = made(name, side).train(), drawn()
    if side != SIDE:
        visible = visible.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    network = build_network(plan_from_preset(name), n_classes=2)
    assert list(model.encoder.state_dict()) == list(network.encoder.state_dict())
    model(voxels, visible).square().mean().backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


def test_the_decoder_has_the_published_form() -> None:
    model = Reconstructor(
        build_network(plan_from_preset("Plain"), n_classes=2, device=torch.device("meta")).encoder,
        n_channels=1,
        side=(32, 32, 32),
        width=512,
    )
    # Five steps from 32: every width is half of the one before. Tokens for all stages but that of full resolution.
    assert [step.enlarge.in_channels for step in model.steps] == [512, 256, 128, 64, 32]
    assert [token.shape[1] for token in model.tokens.values()] == [320, 320, 256, 128, 64]
    assert [projection.kernel_size[0] for projection in model.projections] == [1, 3, 3, 3, 3]
    assert max(float(token.detach().abs().max()) for token in model.tokens.values()) <= 0.02


def test_a_block_must_be_the_total_stride_of_a_stage() -> None:
    encoder = build_network(plan_from_preset("small"), n_classes=2).encoder
    with pytest.raises(ValueError, match=r"block \(16, 16, 16\) is not the total stride of a stage"):
        Reconstructor(encoder, n_channels=1, side=(16, 16, 16))
