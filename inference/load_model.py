"""Load the networks of a model folder after checking the SHA-256 of every file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from inference.judge.load import load_judge
from inference.models import JUDGE_FOLDER, MODEL_FILE, ModelSpec, file_sha256, read_model_spec
from inference.nnunet.errors import ChecksumMismatchError, ModelKeyError
from inference.nnunet.labels import Labels
from inference.nnunet.plans import Plans
from inference.nnunet.trained_model import TrainedModel, load_trained_model


def load_model(spec: ModelSpec, *, device: torch.device, use_mirroring: bool = False) -> TrainedModel:
    """Check the files of a model and load its networks onto a device.

    Raises
    ------
    ModelError
        A file differs from model.yaml, or the folder is not a usable nnU-Net.
    """
    check_files(spec)
    model = load_trained_model(
        spec.folder,
        configuration=spec.configuration,
        folds=spec.folds,
        channels=spec.channels,
        device=device,
        use_mirroring=use_mirroring,
    )
    _check_labels(spec, model.labels)
    return model


def load_judge_of(spec: ModelSpec, plans: Plans, *, device: torch.device) -> nn.Module:
    """Load the judge of a model whose files were checked onto a device.

    Raises
    ------
    ModelError
        The judge cannot be used, or not with this model.
    """
    if plans.is_ras or plans.transpose_forward != (0, 1, 2):
        raise ModelKeyError(
            str(spec.folder / MODEL_FILE), "judge", str(spec.judge), "none, because plans.json turns the axes"
        )
    return load_judge(spec.folder / JUDGE_FOLDER, device)


def verify_model(folder: Path) -> ModelSpec:
    """Check that a model folder can be used: checksums match and the weights load.

    Raises
    ------
    ModelError
        A file is missing, differs from model.yaml, or cannot be used.
    """
    spec = read_model_spec(folder)
    model = load_model(spec, device=torch.device("cpu"))
    if spec.judge is not None:
        load_judge_of(spec, model.plans, device=torch.device("cpu"))
    return spec


def check_files(spec: ModelSpec) -> None:
    """Raise ChecksumMismatchError if the SHA-256 of a file differs from the one in model.yaml."""
    for name, expected in spec.sha256.items():
        found = file_sha256(spec.folder / name)
        if found != expected:
            raise ChecksumMismatchError(str(spec.folder / name), found, expected)


def _check_labels(spec: ModelSpec, labels: Labels) -> None:
    """Raise ModelKeyError if model.yaml names an integer that the network cannot return."""
    known = set(labels.region_order or range(labels.n_heads))
    for name, values in spec.labels.items():
        if not set(values) <= known:
            expected = f"labels of the network: {', '.join(map(str, sorted(known - {0})))}"
            raise ModelKeyError(str(spec.folder / MODEL_FILE), f"labels.{name}", str(list(values)), expected)
