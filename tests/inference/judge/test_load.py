"""The judge's folder: used when it is whole, refused in one sentence when it is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from inference.errors import ModelError
from inference.judge.channels import CHANNEL_NAMES
from inference.judge.load import LABELS, load_judge
from inference.nnunet.errors import UnsafeCheckpointError

ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2, "features_per_stage": [2, 4], "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True,
        "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    },
}  # fmt: skip


def write_judge(folder: Path, weights: object, **changes: object) -> None:
    torch.save({"network_weights": weights, "init_args": {"configuration": "judge"}}, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    description = {
        "channels": list(CHANNEL_NAMES), "labels": list(LABELS), "architecture": ARCHITECTURE, "sha256": digest,
    }  # fmt: skip
    (folder / "judge.json").write_text(json.dumps(description | changes))


def network() -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    return PlainConvUNet(
        len(CHANNEL_NAMES), 2, [2, 4], nn.Conv3d, 3, [1, 2], [1, 1], len(LABELS), [1], conv_bias=True,
        norm_op=nn.BatchNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
    )  # fmt: skip


def test_half_precision_weights_give_the_networks_answers(tmp_path: Path) -> None:
    original = network().eval()
    write_judge(tmp_path, {name: values.half() for name, values in original.state_dict().items()})
    loaded = load_judge(tmp_path, torch.device("cpu"))
    values = torch.randn(1, len(CHANNEL_NAMES), 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(values), original(values), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, r"weights\.pth"),
        ({"channels": ["value"]}, "key channels: found value, expected value, deviation"),
        ({"labels": ["background", "face"]}, "key labels"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_judge(tmp_path, network().state_dict(), **changes)
    with pytest.raises(ModelError, match=message):
        load_judge(tmp_path, torch.device("cpu"))


def test_code_in_the_weights_is_not_run(tmp_path: Path) -> None:
    write_judge(tmp_path, {"weight": pytest.approx})
    with pytest.raises(UnsafeCheckpointError):
        load_judge(tmp_path, torch.device("cpu"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"judge\.json is missing"):
        load_judge(tmp_path, torch.device("cpu"))
