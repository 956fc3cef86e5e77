"""Trained-model folders as nnU-Net v2 exports them, small enough for tests.

``write_tiny_model`` builds a real ``PlainConvUNet`` (or ``ResidualEncoderUNet``), saves its weights as nnU-Net's
trainer does, and describes it with a ``model.yaml``. With ``above`` the weights are set by hand so that the network
marks exactly the voxels whose stored value lies above that threshold: a model with known truth. Without, they are
random.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

LABELS: Mapping[str, Mapping[str, int]] = {"foreground": {"foreground": 1}, "anonymized": {"removed": 1, "altered": 2}}
CT_PROPERTIES = {
    "max": 3000.0,
    "mean": 20.0,
    "median": 40.0,
    "min": -1024.0,
    "percentile_00_5": -990.0,
    "percentile_99_5": 1200.0,
    "std": 420.0,
}


def tiny_plans(
    *,
    spacing_mm: Sequence[float] = (3.0, 3.0, 3.0),
    patch_size: Sequence[int] = (32, 32, 32),
    normalization: str = "ZScoreNormalization",
    use_mask_for_norm: bool = False,
    n_channels: int = 1,
    residual: bool = False,
    with_norm: bool = True,
    features: Sequence[int] = (8, 16),
    strides: Sequence[Sequence[int]] = ((1, 1, 1), (2, 2, 2)),
    transpose_forward: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """plans.json of one ``3d_fullres`` configuration, with every key that nnU-Net's predictor reads."""
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    norm: dict[str, Any] = (
        {"norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
        if with_norm
        else {"norm_op": None, "norm_op_kwargs": None}
    )
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": [float(size) for size in patch_size],
        "spacing": list(spacing_mm),
        "normalization_schemes": [normalization] * n_channels,
        "use_mask_for_norm": [use_mask_for_norm] * n_channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
            "arch_kwargs": {
                "n_stages": len(features),
                "features_per_stage": list(features),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3] for _ in features],
                "strides": [list(stride) for stride in strides],
                blocks: [1 for _ in features],
                "n_conv_per_stage_decoder": [1 for _ in features[1:]],
                "conv_bias": True,
                **norm,
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    backward = [int(axis) for axis in np.argsort(transpose_forward)]
    return {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(spacing_mm),
        "original_median_shape_after_transp": list(patch_size),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose_forward),
        "transpose_backward": backward,
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(index): CT_PROPERTIES for index in range(n_channels)},
    }


def build_network(plans: Mapping[str, Any], n_channels: int, n_heads: int) -> torch.nn.Module:
    """The network of ``tiny_plans``, built by its library directly."""
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    arguments = dict(architecture["arch_kwargs"])
    arguments |= {"conv_op": torch.nn.Conv3d, "nonlin": torch.nn.LeakyReLU}
    if arguments["norm_op"] is not None:
        arguments["norm_op"] = torch.nn.InstanceNorm3d
    residual = architecture["network_class_name"].endswith("ResidualEncoderUNet")
    network_class = ResidualEncoderUNet if residual else PlainConvUNet
    return network_class(input_channels=n_channels, num_classes=n_heads, deep_supervision=False, **arguments)


def checkpoint_of(network: torch.nn.Module, *, dtype: torch.dtype = torch.float32, prefix: str = "") -> dict[str, Any]:
    """Checkpoint as nnU-Net's trainer saves it, NumPy scalars in its logging included."""
    weights = {f"{prefix}{key}": value.detach().to(dtype).clone() for key, value in network.state_dict().items()}
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.75)], "epoch_start_timestamps": [1.0]},
        "_best_ema": np.float64(0.75),
        "current_epoch": 1,
        "init_args": {"configuration": "3d_fullres", "fold": 0, "device": "cpu"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def write_tiny_model(
    folder: Path,
    role: str,
    *,
    above: float | None = None,
    labels: Mapping[str, int] | None = None,
    channels: Sequence[str] = ("image",),
    n_folds: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    with_yaml: bool = True,
    **plans_options: Any,
) -> Path:
    """Write a trained-model folder and return it.

    ``plans_options`` go to :func:`tiny_plans`. ``above`` chooses no normalisation and the model grid given there.
    """
    labels = LABELS[role] if labels is None else labels
    n_heads = len(labels) + 1
    if above is not None:
        plans_options = {"normalization": "NoNormalization", "with_norm": False, "residual": False, **plans_options}
    plans = tiny_plans(n_channels=len(channels), **plans_options)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    dataset = {
        "channel_names": {str(index): name for index, name in enumerate(channels)},
        "labels": {"background": 0, **labels},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold in range(n_folds):
        torch.manual_seed(seed + fold)
        network = build_network(plans, len(channels), n_heads)
        if above is not None:
            _set_threshold(network, above)
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint_of(network, dtype=dtype), folder / f"fold_{fold}" / "checkpoint_final.pth")
    if with_yaml:
        _write_yaml(folder, role, labels, channels, n_folds)
    return folder


def _set_threshold(network: torch.nn.Module, above: float) -> None:
    """Make the network's head 1 positive exactly where the first channel is above ``above``, the others never."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first = network.encoder.stages[0][0].convs[0].conv
        first.weight[0, 0, 1, 1, 1] = 1.0
        first.bias[0] = -above
        joined = network.decoder.stages[-1].convs[0].conv  # takes (upsampled, skip)
        n_upsampled = joined.weight.shape[1] - network.encoder.stages[0][0].convs[0].conv.weight.shape[0]
        joined.weight[0, n_upsampled, 1, 1, 1] = 1.0
        head = network.decoder.seg_layers[-1]
        head.weight[1, 0, 0, 0, 0] = 1.0
        head.bias[2:] = -1e4


def _write_yaml(folder: Path, role: str, labels: Mapping[str, int], channels: Sequence[str], n_folds: int) -> None:
    """Describe the folder as ``inference/models.py`` expects it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "model.yaml")
    description = {
        "role": role,
        "name": f"tiny-{role}",
        "version": "0.0.1",
        "labels": dict(labels),
        "channels": list(channels),
        "configuration": "3d_fullres",
        "folds": list(range(n_folds)),
        "sha256": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        },
        "refine": False,
        "licence": "Apache-2.0",
        "trained_on": "nothing; made by a test",
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
