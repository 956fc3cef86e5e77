"""The two networks, and their nnU-Net plans, from which nnU-Net builds the same networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from training.samples import CHANNEL_NAMES, MODEL_SPACING_MM, PATCH


@dataclass(frozen=True, slots=True)
class Design:
    """The differences between the two models. The first stage is narrow, because on a CPU it costs the most."""

    role: str
    labels: dict[str, int]
    dice_labels: tuple[int, ...]  # the other labels are trained with cross-entropy only, which does not reward guessing
    features: tuple[int, ...]
    encoder_convolutions: tuple[int, ...]

    @property
    def n_stages(self) -> int:
        """Number of resolutions of the network."""
        return len(self.features)

    @property
    def architecture(self) -> dict[str, Any]:
        """Keyword arguments of the network as in nnU-Net's plans, with names instead of classes."""
        return {
            "n_stages": self.n_stages,
            "features_per_stage": list(self.features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * self.n_stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (self.n_stages - 1),
            "n_conv_per_stage": list(self.encoder_convolutions),
            "n_conv_per_stage_decoder": [1] * (self.n_stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }


DESIGNS = {
    "foreground": Design("foreground", {"background": 0, "foreground": 1}, (1,), (8, 16, 32, 64), (1, 1, 2, 2)),
    "anonymized": Design(
        "anonymized",
        {"background": 0, "removed": 1, "smoothed": 2, "replaced": 3},
        (1, 2),
        (8, 24, 56, 112),
        (1, 1, 2, 3),
    ),
}


def build_network(design: Design) -> PlainConvUNet:
    """Return the network with random weights; it takes (sample, channel, slice, row, column)."""
    arguments = design.architecture
    arguments["conv_op"] = torch.nn.Conv3d
    arguments["norm_op"] = torch.nn.InstanceNorm3d
    arguments["nonlin"] = torch.nn.LeakyReLU
    return PlainConvUNet(
        input_channels=len(CHANNEL_NAMES), num_classes=len(design.labels), deep_supervision=False, **arguments
    )


def dataset_json(design: Design, *, n_training: int) -> dict[str, Any]:
    """Return ``dataset.json`` of the trained-model folder."""
    return {
        "channel_names": {str(index): name for index, name in enumerate(CHANNEL_NAMES)},
        "labels": design.labels,
        "numTraining": n_training,
        "file_ending": ".nii.gz",
    }


def plans_json(design: Design) -> dict[str, Any]:
    """Return ``plans.json`` of the trained-model folder: one configuration, all resampling linear."""
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": False}
    spacing = [MODEL_SPACING_MM] * 3
    configuration = {
        "data_identifier": "reference_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [80, 80, 60],
        "spacing": spacing,
        "normalization_schemes": ["ZScoreNormalization"] + ["NoNormalization"] * (len(CHANNEL_NAMES) - 1),
        "use_mask_for_norm": [False] * len(CHANNEL_NAMES),
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": design.architecture,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    intensity = {
        "max": 1.0,
        "mean": 0.0,
        "median": 0.0,
        "min": 0.0,
        "percentile_00_5": 0.0,
        "percentile_99_5": 1.0,
        "std": 1.0,
    }
    return {
        "dataset_name": f"Dataset001_{design.role}",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 2.0, 2.0],
        "original_median_shape_after_transp": [120, 120, 90],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(index): intensity for index in range(len(CHANNEL_NAMES))},
    }
