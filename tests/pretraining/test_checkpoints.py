"""Stock nnU-Net takes our checkpoints; what does not fit is said in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from torch import nn

from pretraining.checkpoints import (
    CheckpointRefused,
    Citation,
    check_fits,
    first_difference,
    place_of,
    read_checkpoint,
    write_checkpoint,
)
from pretraining.networks import build_network, plan_from_preset

NAMES = ("small", "small-residual")
CITATION = Citation("Pretraining Method", "AnatoMask", ("@inproceedings{anatomask}",))


def written(folder: Path, name: str, network: nn.Module | None = None) -> tuple[Path, nn.Module]:
    plan = plan_from_preset(name)
    network = network or trained(name)
    facts = {"method": "anatomask", "steps": np.int64(3), "loss": np.float32(0.5)}
    return write_checkpoint(folder, network, plan, citations=[CITATION], facts=facts), network


def trained(name: str) -> nn.Module:
    """A network of which every weight differs from a new one's, as after training."""
    network = build_network(plan_from_preset(name), n_classes=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    return network


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_classes", [2, 7])
def test_the_stock_loader_takes_every_weight_but_those_of_the_classes(
    tmp_path: Path, name: str, n_classes: int
) -> None:
    path, ours = written(tmp_path, name)
    target = build_network(plan_from_preset(name), n_classes=n_classes)
    load_pretrained_weights(target, str(path))
    taken = target.state_dict()
    expected = {key: value for key, value in ours.state_dict().items() if ".seg_layers." not in key}
    assert all(torch.equal(taken[key], value) for key, value in expected.items())
    assert check_fits(path, target) == len(expected) == len(taken) - len([k for k in taken if ".seg_layers." in k])


@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_plain_values_and_each_weight_once(tmp_path: Path, name: str) -> None:
    path, ours = written(tmp_path, name)
    content = torch.load(path, weights_only=True)
    assert content["pretraining"] == {"method": "anatomask", "steps": 3, "loss": 0.5}
    assert content["citations"][0]["name"] == "AnatoMask"
    storages = {tensor.untyped_storage().data_ptr() for tensor in content["network_weights"].values()}
    assert len(storages) == len(list(ours.parameters()))
    assert path.stat().st_size < 1.2 * sum(4 * parameter.numel() for parameter in ours.parameters()) + 200_000
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint_final.pth", "plans.json", "dataset.json"}


@pytest.mark.parametrize("name", NAMES)
def test_the_adaptation_plan_names_parts_that_exist(tmp_path: Path, name: str) -> None:
    path, ours = written(tmp_path, name)
    plan = read_checkpoint(path)["nnssl_adaptation_plan"]
    keys = list(ours.state_dict())
    for part in (plan["key_to_encoder"], plan["key_to_stem"], *plan["keys_to_in_proj"]):
        assert any(key.startswith(part + ".") for key in keys), part
    assert plan["architecture_plans"]["arch_kwargs"]["n_stages"] == 4
    assert plan["pretrain_plan"]["configurations"]["3d_fullres"]["spacing"] == [3.0, 3.0, 3.0]
    assert (plan["pretrain_num_input_channels"], plan["recommended_downstream_patchsize"]) == (1, [40, 40, 40])


def test_the_first_differing_key_is_said_in_words() -> None:
    small = trained("small").state_dict()
    wider = build_network(plan_from_preset("small", n_channels=2), n_classes=2)
    assert (first_difference(small, wider) or "").startswith(
        "encoder, stage 1, layer 1, convolution weight has shape 8×1×3×3×3 in the checkpoint and 8×2×3×3×3 in the "
        "network (key encoder.stages.0.0.convs.0.conv.weight); pretrain with the plans of the target dataset"
    )
    residual = build_network(plan_from_preset("small-residual"), n_classes=2)
    assert "encoder stem, layer 1, convolution weight is missing" in (first_difference(small, residual) or "")
    wrapped = {f"module.{key}": value for key, value in small.items()}
    same = build_network(plan_from_preset("small"), n_classes=2)
    assert "its keys begin with 'module.': save the network itself" in (first_difference(wrapped, same) or "")
    assert first_difference(small, same) is None


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("decoder.encoder.stages.2.blocks.1.conv2.norm.bias", "encoder, stage 3, block 2, layer 2, normalisation bias"),
        ("decoder.transpconvs.0.weight", "decoder upsampling, step 1, convolution weight"),
        ("encoder.stages.1.blocks.0.skip.1.conv.weight", "encoder, stage 2, block 1, shortcut, convolution weight"),
    ],
)
def test_keys_have_places_in_words(key: str, words: str) -> None:
    assert place_of(key) == words


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("old", ["decoder.encoder.", ".all_modules."])
def test_a_file_put_together_by_hand_is_refused_where_the_stock_loader_says_nothing(
    tmp_path: Path, name: str, old: str
) -> None:
    new, before = trained(name).state_dict(), trained(name).state_dict()
    mixed = {key: before[key] if old in key else value for key, value in new.items()}
    torch.save({"network_weights": mixed}, tmp_path / "mixed.pth")
    target = build_network(plan_from_preset(name), n_classes=2)
    load_pretrained_weights(target, str(tmp_path / "mixed.pth"))
    assert torch.equal(next(target.encoder.parameters()), next(iter(before.values())))  # the old encoder, silently
    with pytest.raises(CheckpointRefused, match=r"mixed.pth: encoder.* is stored twice with different values"):
        check_fits(tmp_path / "mixed.pth", target)


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"nothing")
    with pytest.raises(CheckpointRefused, match=r"a.pth: cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save({"state_dict": {}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointRefused, match=r"b.pth: holds no network_weights"):
        read_checkpoint(tmp_path / "b.pth")
