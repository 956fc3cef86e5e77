"""Write a network as an nnU-Net trained-model folder that also contains the node's ``model.yaml``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from training.reference.network import Design, dataset_json, plans_json
from training.samples import CHANNEL_NAMES

VERSION = "0.3.0"
TRAINED_ON = {
    "foreground": "37 MR heads, 16 label maps rendered as MR and CT, one CT head; bodies, cropped and stripped heads",
    "anonymized": "the same volumes, half of them with simulated anonymisation of eleven families",
}


def export_model(folder: Path, design: Design, network: nn.Module, *, steps: int) -> None:
    """Write plans, dataset, half-precision weights and ``model.yaml``; every file is written atomically."""
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    _write_text(folder / "plans.json", json.dumps(plans_json(design), indent=2) + "\n")
    _write_text(folder / "dataset.json", json.dumps(dataset_json(design, n_training=96), indent=2) + "\n")
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    part = checkpoint.with_suffix(".part")
    # A tensor may have several names (nnU-Net's decoder contains its encoder); convert and store it once.
    tensors = network.state_dict()
    halves = {values.data_ptr(): values.to(torch.float16).contiguous() for values in tensors.values()}
    weights = {name: halves[values.data_ptr()] for name, values in tensors.items()}
    torch.save(
        {
            "network_weights": weights,
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "3d_fullres", "fold": 0},
            "inference_allowed_mirroring_axes": None,
            "current_epoch": steps,
        },
        part,
    )
    part.replace(checkpoint)
    _write_text(folder / "model.yaml", yaml.safe_dump(_description(folder, design), sort_keys=False, width=110))


def _description(folder: Path, design: Design) -> dict[str, Any]:
    files = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth")
    return {
        "role": design.role,
        "name": f"reference-{design.role}",
        "version": VERSION,
        "labels": {name: label for name, label in design.labels.items() if label},
        "channels": list(CHANNEL_NAMES),
        "configuration": "3d_fullres",
        "folds": [0],
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
        "refine": True,
        "licence": "Apache-2.0",
        "trained_on": TRAINED_ON[design.role],
    }


def _write_text(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
