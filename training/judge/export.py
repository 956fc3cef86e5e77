"""Write the judge's folder: half-precision weights and their description."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
import yaml

from inference.judge.channels import CHANNEL_NAMES
from inference.judge.load import DESCRIPTION_FILE, LABELS, WEIGHTS_FILE
from inference.models import JUDGE_FILES, JUDGE_FOLDER, MODEL_FILE, JudgeScope
from training.judge.loop import Learner
from training.judge.network import ARCHITECTURE


def export_judge(folder: Path, learner: Learner, *, simulation_core_s: float, n_cases: int) -> None:
    """Write the averaged network of a run; each file is written atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = learner.average.state_dict()
    # A tensor may have several names (the decoder contains its encoder); convert and store it once.
    halves = {
        values.data_ptr(): values.half().contiguous() if values.is_floating_point() else values
        for values in tensors.values()
    }
    content = {
        "network_weights": {name: halves[values.data_ptr()] for name, values in tensors.items()},
        "init_args": {"configuration": "judge"},
    }
    part = folder / f"{WEIGHTS_FILE}.part"
    torch.save(content, part)
    part.replace(folder / WEIGHTS_FILE)
    description = {
        "name": "reference-judge",
        "steps": learner.steps,
        "simulated_cases": n_cases,
        "training_core_hours": round(learner.core_s / 3600, 2),
        "simulation_core_hours": round(simulation_core_s / 3600, 2),
        "licence": "Apache-2.0",
        "channels": list(CHANNEL_NAMES),
        "labels": list(LABELS),
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": ARCHITECTURE,
        },
        "sha256": hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest(),
    }
    text = folder / f"{DESCRIPTION_FILE}.part"
    text.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    text.replace(folder / DESCRIPTION_FILE)


def ship_judge(exported: Path, model: Path, version: str) -> None:
    """Copy an exported judge into a model folder, and describe it there as the judge of altered faces and of outlines.

    Parameters
    ----------
    version
        Version of the model from now on.
    """
    description = yaml.safe_load((model / MODEL_FILE).read_text("utf-8"))
    (model / JUDGE_FOLDER).mkdir(exist_ok=True)
    for name in JUDGE_FILES:
        content = (exported / Path(name).name).read_bytes()
        (model / f"{name}.part").write_bytes(content)
        (model / f"{name}.part").replace(model / name)
        description["sha256"][name] = hashlib.sha256(content).hexdigest()
    description |= {"version": version, "judge": str(JudgeScope.OUTLINE)}
    part = model / f"{MODEL_FILE}.part"
    part.write_text(yaml.safe_dump(description, sort_keys=False, width=110), encoding="utf-8")
    part.replace(model / MODEL_FILE)
