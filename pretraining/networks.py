"""Stock nnU-Net networks, built from a preset or from the plans of a target dataset.

A network is trained inside its own stock module, so its ``state_dict`` has the keys that stock nnU-Net expects.

References
----------
F. Isensee et al., nnU-Net Revisited, MICCAI (2024), for the residual encoder networks ResEncM, L and XL. The plans are
those of nnunetv2 2.8; only plans with an ``architecture`` entry (2.3 and newer) describe a network completely.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from pretraining.errors import Refused

PLANS_NAME = "pretrainedPlans"
CONFIGURATION = "3d_fullres"
NETWORKS: Mapping[str, type[nn.Module]] = {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}
# Only these may be named in plans: a plans file comes from elsewhere, and importing any name that it holds runs code.
IMPORTABLE: Mapping[str, type[nn.Module]] = {
    "Conv3d": nn.Conv3d,
    "InstanceNorm3d": nn.InstanceNorm3d,
    "LeakyReLU": nn.LeakyReLU,
    "ReLU": nn.ReLU,
    "Dropout3d": nn.Dropout3d,
}
IMPORTED = ("conv_op", "norm_op", "dropout_op", "nonlin")


class PlansError(Refused):
    """The plans do not describe a network that can be pretrained here."""

    code = "pretraining-plans"


@dataclass(frozen=True, slots=True)
class Preset:
    """A network, a patch and a voxel size that need no target dataset.

    Attributes
    ----------
    blocks
        Residual blocks (``residual``) or convolutions in each stage of the encoder.
    patch_size
        Voxels in array-axis order; a multiple of the total stride.
    """

    residual: bool
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    patch_size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    batch_size: int = 2


# Of intensities in the foreground, which ZScoreNormalization ignores; nnU-Net's preprocessing looks for the entry.
_UNKNOWN = {
    "max": 1.0,
    "mean": 0.0,
    "median": 0.0,
    "min": -1.0,
    "percentile_00_5": -1.0,
    "percentile_99_5": 1.0,
    "std": 1.0,
}
_LARGE = (32, 64, 128, 256, 320, 320)
PRESETS: Mapping[str, Preset] = {
    "ResEncL": Preset(True, _LARGE, (1, 3, 4, 6, 6, 6), (160, 160, 160), (1.0, 1.0, 1.0)),
    "Plain": Preset(False, _LARGE, (2, 2, 2, 2, 2, 2), (128, 128, 128), (1.0, 1.0, 1.0)),
    "small-residual": Preset(True, (8, 16, 32, 64), (1, 2, 2, 2), (40, 40, 40), (3.0, 3.0, 3.0)),
    "small": Preset(False, (8, 16, 32, 64), (2, 2, 2, 2), (40, 40, 40), (3.0, 3.0, 3.0)),
}


@dataclass(frozen=True, slots=True, eq=False)
class NetworkPlan:
    """What nnU-Net's plans say about one configuration: topology, patch, voxel size and normalisation.

    Attributes
    ----------
    plans
        The whole content of a ``plans.json``.
    configuration
        Name of a configuration in it.
    """

    plans: Mapping[str, Any]
    configuration: str = CONFIGURATION

    @property
    def settings(self) -> Mapping[str, Any]:
        """The configuration with everything that it inherits."""
        return _resolve(self.plans, self.configuration)

    @property
    def architecture(self) -> Mapping[str, Any]:
        """Class name and arguments of the network."""
        found: Mapping[str, Any] = self.settings["architecture"]
        return found

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels in array-axis order."""
        return _three(self.settings["patch_size"], int)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in array-axis order, mm."""
        return _three(self.settings["spacing"], float)

    @property
    def batch_size(self) -> int:
        """Patches in a batch."""
        return int(self.settings["batch_size"])

    @property
    def n_channels(self) -> int:
        """Number of input channels; nnU-Net has one normalisation scheme for each."""
        return len(self.settings["normalization_schemes"])

    @property
    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """Stride of each stage in array-axis order."""
        return tuple(_three(stride, int) for stride in self.architecture["arch_kwargs"]["strides"])

    @property
    def total_stride(self) -> tuple[int, int, int]:
        """Voxels of the patch that one place of the deepest stage stands for, in array-axis order."""
        total = [1, 1, 1]
        for stride in self.strides:
            total = [a * b for a, b in zip(total, stride, strict=True)]
        return total[0], total[1], total[2]


def plan_from_preset(name: str, *, n_channels: int = 1) -> NetworkPlan:
    """Return the plan of one of ``PRESETS``.

    Raises
    ------
    PlansError
        There is no preset of that name.
    """
    if name not in PRESETS:
        raise PlansError(
            f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}, or give the plans of a dataset"
        )
    return NetworkPlan(_plans_of(PRESETS[name], n_channels))


def read_plan(path: Path, configuration: str = CONFIGURATION) -> NetworkPlan:
    """Return the plan of one configuration of a target dataset's ``plans.json``.

    Raises
    ------
    PlansError
        The file is not the plans of a three-dimensional PlainConvUNet or ResidualEncoderUNet, or the configuration is
        missing.
    """
    try:
        plans = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PlansError(f"{path.name}: cannot be read as JSON ({error}); give the plans.json of a dataset") from error
    plan = NetworkPlan(plans, configuration)
    try:
        build_network(plan, n_classes=2, device=torch.device("meta"))
        _check_patch(plan)
    except PlansError as error:
        raise PlansError(f"{path.name}, configuration {configuration}: {error}") from error
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise PlansError(f"{path.name}, configuration {configuration}: {type(error).__name__} {error}") from error
    return plan


def build_network(plan: NetworkPlan, *, n_classes: int, device: torch.device | None = None) -> nn.Module:
    """Return the stock network of a plan with nnU-Net's own initialisation, without deep supervision.

    Parameters
    ----------
    n_classes
        Number of output channels; fine-tuning replaces the layers that depend on it.
    device
        Where the weights are made; ``meta`` only checks the plan.
    """
    architecture = plan.architecture
    network_class = NETWORKS.get(str(architecture["network_class_name"]).rsplit(".", 1)[-1])
    if network_class is None:
        raise PlansError(
            f"network {architecture['network_class_name']} is not supported; expected one of {', '.join(NETWORKS)}"
        )
    arguments = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        arguments[name] = _imported(name, arguments[name])
    with device or torch.device("cpu"):
        network = network_class(
            input_channels=plan.n_channels, num_classes=n_classes, deep_supervision=False, **arguments
        )
        if device is None or device.type != "meta":
            network.apply(cast("Callable[[nn.Module], None]", network.initialize))
    return network


def _check_patch(plan: NetworkPlan) -> None:
    if any(size % stride for size, stride in zip(plan.patch_size, plan.total_stride, strict=True)):
        raise PlansError(f"patch {plan.patch_size} is not a multiple of the total stride {plan.total_stride}")


def _imported(name: str, value: str | None) -> type[nn.Module] | None:
    if value is None:
        return None
    found = IMPORTABLE.get(value.rsplit(".", 1)[-1])
    if name not in IMPORTED or not value.startswith("torch.nn.") or found is None:
        raise PlansError(f"{name} {value} is not supported; expected one of {', '.join(IMPORTABLE)}")
    return found


def _resolve(plans: Mapping[str, Any], name: str, seen: tuple[str, ...] = ()) -> Mapping[str, Any]:
    configurations = plans.get("configurations", {})
    if name not in configurations or name in seen:
        raise PlansError(f"no configuration {name!r}; the plans have {', '.join(configurations) or 'none'}")
    found = dict(configurations[name])
    parent = found.pop("inherits_from", None)
    if parent is not None:
        return {**_resolve(plans, parent, (*seen, name)), **found}
    if "architecture" not in found:
        raise PlansError("the plans do not describe the network; plan the dataset again with nnU-Net 2.3 or newer")
    return found


def _three(values: Sequence[Any], kind: type[Any]) -> tuple[Any, Any, Any]:
    if len(values) != 3:
        raise PlansError(f"{len(values)} axes; only three-dimensional configurations can be pretrained")
    first, second, third = (kind(value) for value in values)
    return first, second, third


def _plans_of(preset: Preset, n_channels: int) -> dict[str, Any]:
    """Return a complete ``plans.json`` for a preset; nnU-Net fills in the reader when it moves plans to a dataset."""
    n_stages = len(preset.features)
    blocks = "n_blocks_per_stage" if preset.residual else "n_conv_per_stage"
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": preset.batch_size,
        "patch_size": list(preset.patch_size),
        "median_image_size_in_voxels": [float(size) for size in preset.patch_size],
        "spacing": list(preset.spacing_mm),
        "normalization_schemes": ["ZScoreNormalization"] * n_channels,
        "use_mask_for_norm": [False] * n_channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            + ("ResidualEncoderUNet" if preset.residual else "PlainConvUNet"),
            "arch_kwargs": {
                "n_stages": n_stages,
                "features_per_stage": list(preset.features),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3] for _ in range(n_stages)],
                "strides": [[1, 1, 1], *([2, 2, 2] for _ in range(n_stages - 1))],
                blocks: list(preset.blocks),
                "n_conv_per_stage_decoder": [1 if preset.residual else 2] * (n_stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": list(IMPORTED),
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": "Pretrain",
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": list(preset.spacing_mm),
        "original_median_shape_after_transp": list(preset.patch_size),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "pretraining",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(number): _UNKNOWN for number in range(n_channels)},
    }
