"""The judge's network, and its architecture in the format of nnU-Net plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from inference.judge.channels import CHANNEL_NAMES

LABELS = {"background": 0, "removed": 1, "smoothed": 2, "replaced": 3}
FEATURES = (16, 32, 64, 128)  # multiples of 16, for which convolutions on CPUs are fastest
N_STAGES = len(FEATURES)
# Batch normalisation keeps how a patch differs from others. Instance normalisation would lose it: a face that is smooth
# everywhere would look like any other. At inference it costs nothing, and tiles may have any size.
ARCHITECTURE: dict[str, Any] = {
    "n_stages": N_STAGES,
    "features_per_stage": list(FEATURES),
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * N_STAGES,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * (N_STAGES - 1),
    "n_conv_per_stage": [1, 1, 2, 2],
    "n_conv_per_stage_decoder": [1] * (N_STAGES - 1),
    "conv_bias": True,
    "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
MOMENTUM = 0.02  # of the running statistics; low because a batch has only a few patches


def build_network(features: Sequence[int] | None = None) -> PlainConvUNet:
    """Return the network with random weights; it takes (patch, channel, slice, row, column).

    Parameters
    ----------
    features
        Of each stage; None for those of ``ARCHITECTURE``.
    """
    arguments = dict(ARCHITECTURE)
    if features is not None:
        arguments["features_per_stage"] = list(features)
    arguments["conv_op"] = torch.nn.Conv3d
    arguments["norm_op"] = torch.nn.BatchNorm3d
    arguments["nonlin"] = torch.nn.LeakyReLU
    network = PlainConvUNet(
        input_channels=len(CHANNEL_NAMES), num_classes=len(LABELS), deep_supervision=False, **arguments
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = MOMENTUM
    return network
