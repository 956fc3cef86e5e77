"""Load the networks that a model folder describes, after every file was compared with its SHA-256."""

from __future__ import annotations

from pathlib import Path

import torch

from inference.models import MODEL_FILE, ModelSpec, file_sha256, read_model_spec
from inference.nnunet.errors import ChecksumMismatchError, ModelKeyError
from inference.nnunet.labels import Labels
from inference.nnunet.trained_model import TrainedModel, load_trained_model


def load_model(spec: ModelSpec, *, device: torch.device, use_mirroring: bool = False) -> TrainedModel:
    """Check the files and load the networks to a device.

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


def verify_model(folder: Path) -> ModelSpec:
    """Prove that a model folder can be used: every file as named, and the weights load."""
    spec = read_model_spec(folder)
    load_model(spec, device=torch.device("cpu"))
    return spec


def check_files(spec: ModelSpec) -> None:
    """Compare every file with the SHA-256 in model.yaml."""
    for name, expected in spec.sha256.items():
        found = file_sha256(spec.folder / name)
        if found != expected:
            raise ChecksumMismatchError(str(spec.folder / name), found, expected)


def _check_labels(spec: ModelSpec, labels: Labels) -> None:
    """Every integer in model.yaml is one that the network can write."""
    known = set(labels.region_order or range(labels.n_heads))
    for name, values in spec.labels.items():
        if not set(values) <= known:
            expected = f"labels of the network: {', '.join(map(str, sorted(known - {0})))}"
            raise ModelKeyError(str(spec.folder / MODEL_FILE), f"labels.{name}", str(list(values)), expected)
