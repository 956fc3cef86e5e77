"""The commands that a user types: plans move to a dataset, nnU-Net preprocesses it and trains from our checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from pretraining.checkpoints import write_checkpoint
from pretraining.networks import NetworkPlan, build_network, plan_from_preset

SHAPE = (26, 22, 18)
# One epoch of two iterations. The learning rate is 0, so that what was loaded is still there at the end.
TRAINER = """
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class nnUNetTrainerTwoSteps(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
        self.initial_lr = 0.0
"""


def small_patch_plan(name: str) -> NetworkPlan:
    plans = json.loads(json.dumps(plan_from_preset(name).plans))
    plans["configurations"]["3d_fullres"]["patch_size"] = [16, 16, 16]
    return NetworkPlan(plans)


def write_dataset(folder: Path) -> None:
    """Five small volumes with a bright ball of one label and a dark one of another."""
    rng = np.random.default_rng(1)
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    places = np.indices(SHAPE).astype(np.float32)
    for number in range(5):
        labels = np.zeros(SHAPE, np.uint8)
        for label, centre in ((1, (8, 10, 9)), (2, (18, 12, 8))):
            labels[sum((places[axis] - centre[axis]) ** 2 for axis in range(3)) < 16] = label
        image = rng.normal(100, 5, SHAPE).astype(np.float32) + 40.0 * (labels == 1) - 40.0 * (labels == 2)
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        nib.save(nib.Nifti1Image(image, affine), folder / "imagesTr" / f"case{number}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / "labelsTr" / f"case{number}.nii.gz")
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "MR"},
                "labels": {"background": 0, "bright": 1, "dark": 2},
                "numTraining": 5,
                "file_ending": ".nii.gz",
            }
        ),
        "utf-8",
    )


# nnU-Net's search for a trainer imports timm, and that torchvision, whose build for CUDA cannot load its operators next
# to a torch without CUDA. Nothing here uses them; that they are known is enough.
START = """
import importlib.metadata, sys, torch
if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision"):
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
entry = next(e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == sys.argv[1])
del sys.argv[0]
entry.load()()
"""


def run(command: str, *arguments: str, env: dict[str, str]) -> str:
    """Run one of nnU-Net's commands as its script does; return what it printed."""
    line = [sys.executable, "-c", START, command, *arguments]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["small", "small-residual"])
def test_nnunet_trains_from_our_checkpoint_with_the_plans_beside_it(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    plan = small_patch_plan(name)
    ours = build_network(plan, n_classes=5)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    checkpoint = write_checkpoint(tmp_path / "RUN", ours, plan, citations=[], facts={})
    folders = {name: tmp_path / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "two_steps.py").write_text(TRAINER, "utf-8")
    env = {
        **os.environ,
        **{name: str(folder) for name, folder in folders.items()},
        "nnUNet_extTrainer": str(tmp_path / "trainers"),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }
    write_dataset(folders["nnUNet_raw"] / "Dataset501_Balls")
    source = folders["nnUNet_preprocessed"] / "Dataset900_Pretrain"
    source.mkdir(parents=True)
    shutil.copy(tmp_path / "RUN" / "plans.json", source / "pretrainedPlans.json")
    run("nnUNetv2_plan_and_preprocess", "-d", "501", "--no_pp", "-npfp", "1", env={**env, "nnUNet_n_proc_DA": "1"})
    run(
        "nnUNetv2_move_plans_between_datasets",
        *("-s", "900", "-t", "501", "-sp", "pretrainedPlans", "-tp", "pretrainedPlans"),
        env=env,
    )
    run("nnUNetv2_preprocess", "-d", "501", "-plans_name", "pretrainedPlans", "-c", "3d_fullres", "-np", "1", env=env)
    told = run(
        "nnUNetv2_train",
        *("501", "3d_fullres", "0", "-p", "pretrainedPlans", "-tr", "nnUNetTrainerTwoSteps", "-device", "cpu"),
        *("-pretrained_weights", str(checkpoint)),
        env=env,
    )
    assert "Loading pretrained weights" in told
    folder = folders["nnUNet_results"] / "Dataset501_Balls" / "nnUNetTrainerTwoSteps__pretrainedPlans__3d_fullres"
    trained = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
    kept = {key: value for key, value in ours.state_dict().items() if ".seg_layers." not in key}
    assert all(torch.equal(trained[key], value) for key, value in kept.items())
    assert (folder / "fold_0" / "validation" / "summary.json").is_file()
