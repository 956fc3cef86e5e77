"""Runs that take seconds: three stages of four and eight channels, patches of 16 voxels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pretraining.devices import DeviceChoice, Precision
from pretraining.networks import plan_from_preset
from pretraining.request import Request
from pretraining.run import pretrain

PATCH = (16, 16, 16)


def tiny_plans(path: Path) -> Path:
    """Plans of a target dataset, as nnU-Net writes them, but of a tiny network."""
    plans: dict[str, Any] = json.loads(json.dumps(plan_from_preset("small").plans))
    (settings,) = plans["configurations"].values()
    arguments = settings["architecture"]["arch_kwargs"]
    arguments.update(
        n_stages=3,
        features_per_stage=[4, 8, 8],
        kernel_sizes=[[3, 3, 3]] * 3,
        strides=[[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        n_conv_per_stage=[1, 1, 1],
        n_conv_per_stage_decoder=[1, 1],
    )
    settings.update(patch_size=list(PATCH), spacing=[2.0, 2.0, 2.0], batch_size=2)
    path.write_text(json.dumps(plans))
    return path


def request(dataset: Path, folder: Path, **changes: Any) -> Request:
    plans = dataset / "plans.json"
    if not plans.exists():
        tiny_plans(plans)
    given: dict[str, Any] = {
        "method": "volume-fusion",
        "plans": plans,
        "n_steps": 8,
        "device": DeviceChoice.CPU,
        "precision": Precision.FP32,
        "workers": 0,
        "checkpoint_s": 0.0,
    }
    return Request(dataset=dataset, folder=folder, **{**given, **changes})


def run(dataset: Path, folder: Path, **changes: Any) -> list[str]:
    """Pretrain; return what was told before it started."""
    told: list[str] = []
    pretrain(request(dataset, folder, **changes), told.append)
    return told


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoint_final.pth", weights_only=True)
    weights: dict[str, torch.Tensor] = content["network_weights"]
    return weights


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
