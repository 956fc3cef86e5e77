"""Load the judge from its folder: ``judge.json`` describes it, ``weights.pth`` holds half-precision weights.

The weights have the format of an nnU-Net checkpoint and are read like one, without running code from the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import nn

from inference.judge.channels import CHANNEL_NAMES
from inference.models import file_sha256
from inference.nnunet.architecture import build_network
from inference.nnunet.checkpoint import load_weights, read_checkpoint
from inference.nnunet.cpu_layout import optimise_for_cpu
from inference.nnunet.document import Node, read_json
from inference.nnunet.errors import ChecksumMismatchError, ModelKeyError

DESCRIPTION_FILE: Final = "judge.json"
WEIGHTS_FILE: Final = "weights.pth"
LABELS: Final = ("background", "removed", "smoothed", "replaced")
PATCH: Final = (40, 48, 40)  # of training; a multiple of what the network's strides divide


def read_description(folder: Path) -> Node:
    """Read ``judge.json``; check that channels and labels match this code, and the weights' checksum.

    Raises
    ------
    ModelError
        A file is missing or was changed, or the judge was trained with other channels or labels.
    """
    description = read_json(folder / DESCRIPTION_FILE, needed_for="the judge's channels and labels")
    for key, known in (("channels", CHANNEL_NAMES), ("labels", LABELS)):
        found = tuple(item.text() for item in description[key].items())
        if found != known:
            raise ModelKeyError(description.file, key, ", ".join(found), ", ".join(known))
    expected, found_sha256 = description["sha256"].text(), file_sha256(folder / WEIGHTS_FILE)
    if found_sha256 != expected:
        raise ChecksumMismatchError(str(folder / WEIGHTS_FILE), found_sha256, expected)
    return description


def load_judge(folder: Path, device: torch.device) -> nn.Module:
    """Load the network of a folder onto a device, ready to predict.

    Raises
    ------
    ModelError
        As for ``read_description``, or the weights are unsafe or don't fit.
    """
    description = read_description(folder)
    network = build_network(description["architecture"], PATCH, len(CHANNEL_NAMES), len(LABELS))
    load_weights(network, read_checkpoint(folder / WEIGHTS_FILE))
    network = network.eval().to(device)
    return optimise_for_cpu(network) if device.type == "cpu" else network
