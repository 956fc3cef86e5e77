"""The command ``pretrain``: from a dataset to a checkpoint that stock nnU-Net takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from typer.testing import CliRunner, Result

from dicom_node.cli import app
from pretraining.networks import build_network, read_plan
from tests.pretraining.runs import tiny_plans
from tests.pretraining.volumes import write_dataset

QUICK = ("--steps", "2", "--workers", "0", "--device", "cpu", "--precision", "fp32")


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="dicom-node")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "heads", 2)


@pytest.mark.parametrize("method", ["volume-fusion", "anatomask"])
def test_a_checkpoint_fine_tunes_a_stock_network_with_other_classes(dataset: Path, tmp_path: Path, method: str) -> None:
    plans = tiny_plans(tmp_path / "plans.json")
    result = run_command("pretrain", method, dataset, "-o", tmp_path / "run", "--plans", plans, *QUICK)
    assert result.exit_code == 0, result.output
    assert "2 volumes; patches of 16 x 16 x 16 voxels hold" in result.stderr
    assert f"-pretrained_weights {tmp_path / 'run' / 'checkpoint_final.pth'}" in result.stdout
    torch.manual_seed(7)
    target = build_network(read_plan(plans), n_classes=4)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    load_pretrained_weights(target, tmp_path / "run" / "checkpoint_final.pth")
    saved = torch.load(tmp_path / "run" / "checkpoint_final.pth", weights_only=True)["network_weights"]
    for key, tensor in target.state_dict().items():
        wanted = before[key] if ".seg_layers." in key else saved[key]
        assert torch.equal(tensor, wanted), key
    again = run_command("pretrain", method, dataset, "-o", tmp_path / "run", "--plans", plans, *QUICK, "--seed", 1)
    assert again.exit_code == 2
    assert "seed: 0 in it, 1 now" in again.stderr


def test_presets_with_another_patch_and_voxel_size(dataset: Path, tmp_path: Path) -> None:
    shape = ("--preset", "small", "--patch", 16, 16, 16, "--spacing", 4, 4, 4, "--batch", 1)
    result = run_command("pretrain", "volume-fusion", dataset, "-o", tmp_path / "run", *shape, *QUICK, "--no-masks")
    assert result.exit_code == 0, result.output
    assert "without masks" in result.stderr
    commands = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")]
    assert commands == [
        "mkdir",
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_move_plans_between_datasets",
        "nnUNetv2_preprocess",
        "nnUNetv2_train",
    ]


def test_bad_usage_is_one_line(dataset: Path, tmp_path: Path) -> None:
    result = run_command("pretrain", "anatomask", dataset, "-o", tmp_path / "run", "--preset", "giant")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: preset 'giant' is unknown; choose one of ResEncL")
    assert len(result.stderr.splitlines()) == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run_command("pretrain", "anatomask", empty, "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert "holds no volumes" in result.stderr
