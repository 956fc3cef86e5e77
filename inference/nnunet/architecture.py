"""Build the network that a plans.json describes.

Only classes of a fixed list are used; another class name is refused, never imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from inference.nnunet.document import Node
from inference.nnunet.errors import UnsupportedModelError
from inference.nnunet.plans import MAX_STAGES

NETWORKS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}
)
# Plans name classes in full ("torch.nn.modules.conv.Conv3d"); the last part is enough to find them here.
OPERATIONS: Mapping[str, Mapping[str, type[nn.Module]]] = MappingProxyType(
    {
        "conv_op": {"Conv3d": nn.Conv3d},
        "norm_op": {"InstanceNorm3d": nn.InstanceNorm3d, "BatchNorm3d": nn.BatchNorm3d},
        "dropout_op": {"Dropout3d": nn.Dropout3d},
        "nonlin": {"LeakyReLU": nn.LeakyReLU, "ReLU": nn.ReLU, "GELU": nn.GELU, "SiLU": nn.SiLU},
    }
)
PER_STAGE = ("features_per_stage", "n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder")
PLAIN = ("conv_bias", "nonlin_first", "stem_channels", "bottleneck_channels")
KEYWORD_MAPPINGS = ("norm_op_kwargs", "dropout_op_kwargs", "nonlin_kwargs")
MAX_FEATURES = 4096
BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def build_network(architecture: Node, patch_size: tuple[int, int, int], n_channels: int, n_heads: int) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    architecture
        Entry ``architecture`` of a plans.json configuration.
    patch_size
        Voxels along the network's axes (z, y, x).
    n_channels, n_heads
        Number of input channels and of output channels. The network takes (tile, channel, z, y, x) and returns
        (tile, head, z, y, x).

    Raises
    ------
    ModelError
        A class is not in the list, an argument is unknown, or the strides do not divide the patch.
    """
    full_name = architecture["network_class_name"].text()
    network_class = NETWORKS.get(full_name.rpartition(".")[2])
    if network_class is None:
        raise UnsupportedModelError(architecture.file, f"network class {full_name!r}", " and ".join(NETWORKS))
    node = architecture["arch_kwargs"]
    arguments = {key: _argument(key, value) for key, value in node.nodes() if key != "deep_supervision"}
    _check_strides(node["strides"], patch_size)
    try:
        return network_class(input_channels=n_channels, num_classes=n_heads, deep_supervision=False, **arguments)
    except BUILD_ERRORS as error:
        raise node.wrong(f"arguments of {network_class.__name__} ({error})") from error


def _argument(key: str, node: Node) -> object:
    """Return the value of one constructor argument after checking it."""
    if key in OPERATIONS:
        return _operation(key, node)
    if key in PER_STAGE:
        return _counts(node)
    if key in ("kernel_sizes", "strides"):
        return [[side.integer(1, 64) for side in stage.items(3)] for stage in node.items()]
    if key == "n_stages":
        return node.integer(1, MAX_STAGES)
    if key in KEYWORD_MAPPINGS:
        return _keywords(node)
    if key in PLAIN:
        return node.value if isinstance(node.value, bool) or node.value is None else _counts(node)
    raise UnsupportedModelError(node.file, f"{node.key} = {node.shown}", "the arguments of nnU-Net's planners")


def _operation(key: str, node: Node) -> type[nn.Module] | None:
    if node.value is None:
        return None
    module, _, name = node.text().rpartition(".")
    operation = OPERATIONS[key].get(name)
    if operation is None or not f"{module}.".startswith("torch.nn."):
        raise UnsupportedModelError(node.file, f"{node.key} = {node.value!r}", ", ".join(OPERATIONS[key]))
    return operation


def _counts(node: Node) -> int | list[int]:
    if isinstance(node.value, int):
        return node.integer(1, MAX_FEATURES)
    return [item.integer(1, MAX_FEATURES) for item in node.items()]


def _keywords(node: Node) -> dict[str, Any] | None:
    if node.value is None:
        return None
    for _, value in node.nodes():
        if not isinstance(value.value, bool | int | float | str):
            raise value.wrong("a number, text, true or false")
    return dict(node.mapping())


def _check_strides(node: Node, patch_size: tuple[int, int, int]) -> None:
    """Raise unless the product of the strides divides the patch along each axis, as skip connections need."""
    for axis, side in enumerate(patch_size):
        product = math.prod(stage.items(3)[axis].integer(1, 64) for stage in node.items())
        if side % product:
            raise node.wrong(f"strides along axis {axis} whose product ({product}) divides the patch ({side})")
