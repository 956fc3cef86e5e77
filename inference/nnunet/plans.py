"""Read and check one configuration of a plans.json: what a trained nnU-Net expects of its input.

Names are nnU-Net's. All triples are in the order of the network's axes, that is after ``transpose_forward``.

References
----------
F. Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, Nature
Methods 18 (2021); file format of nnU-Net version 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.nnunet.document import Node, read_json
from inference.nnunet.errors import ModelKeyError, UnsupportedModelError

MAX_STAGES = 12
MAX_PATCH_VOXELS = 2**27  # 512 cubed; a larger patch cannot be trained, so it is a mistake or an attack
NORMALIZATIONS = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
# Readers that reorient every image to right-anterior-superior before training; all others use the stored array.
RAS_READERS = frozenset({"SimpleITKIOWithReorient", "NibabelIOWithReorient"})

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Normalization:
    """How one channel is normalised; the statistics are those of the training data and used by CTNormalization only."""

    scheme: str
    use_mask: bool = False
    mean: float = 0.0
    std: float = 1.0
    lower: float = -math.inf
    upper: float = math.inf


@dataclass(frozen=True, slots=True)
class Resampling:
    """How values are interpolated."""

    order: int  # of the spline
    order_z: int  # of the spline along the thick axis, if that axis is resampled separately
    force_separate_z: bool | None  # None: decided by the spacing
    is_clipped: bool  # to the range of the input, as scikit-image does


@dataclass(frozen=True, slots=True)
class Plans:
    """One configuration of plans.json."""

    configuration: str
    spacing_mm: Triple
    patch_size: tuple[int, int, int]
    transpose_forward: tuple[int, int, int]
    normalizations: tuple[Normalization, ...]
    data_resampling: Resampling
    logits_resampling: Resampling
    is_ras: bool
    architecture: Node

    @property
    def n_channels(self) -> int:
        """Number of input channels of the network."""
        return len(self.normalizations)


def read_plans(path: Path, configuration: str) -> Plans:
    """Read one configuration of a plans.json.

    Raises
    ------
    ModelError
        The file is missing, a key is missing or wrong, or the configuration is 2D or a cascade.
    """
    document = read_json(path, needed_for="the preprocessing and the architecture")
    node = _with_inherited(document["configurations"], configuration)
    if node.get("previous_stage") is not None and node["previous_stage"].value:
        raise UnsupportedModelError(str(path), f"configuration {configuration}, a cascade", "a single stage")
    if len(node["patch_size"].items()) != 3:
        raise UnsupportedModelError(str(path), f"configuration {configuration} in 2D", "3d_fullres and 3d_lowres")
    reader = document.get("image_reader_writer")
    return Plans(
        configuration=configuration,
        spacing_mm=_spacing(node["spacing"]),
        patch_size=_patch_size(node["patch_size"]),
        transpose_forward=_axes(document["transpose_forward"]),
        normalizations=_normalizations(document, node),
        data_resampling=_resampling(node, "resampling_fn_data"),
        logits_resampling=_resampling(node, "resampling_fn_probabilities"),
        is_ras=reader is not None and reader.text() in RAS_READERS,
        architecture=node.get("architecture") or _old_architecture(node),
    )


def _with_inherited(configurations: Node, name: str) -> Node:
    """Return the configuration, completed with the entries it inherits."""
    merged: dict[str, Any] = {}
    seen: list[str] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise configurations[name].wrong(f"inherits_from without a circle, not {' -> '.join([*seen, current])}")
        seen.append(current)
        if current not in configurations.mapping():
            known = ", ".join(configurations.mapping())
            raise ModelKeyError(configurations.file, f"configurations.{current}", "nothing", f"one of {known}")
        node = configurations[current]
        merged = {**node.mapping(), **merged}
        parent = node.get("inherits_from")
        current = parent.text() if parent is not None else None
    return Node(configurations.file, f"configurations.{name}", merged)


def _spacing(node: Node) -> Triple:
    first, second, third = (item.number(above=0.0) for item in node.items(3))
    return first, second, third


def _patch_size(node: Node) -> tuple[int, int, int]:
    first, second, third = (item.integer(1, 4096) for item in node.items(3))
    if first * second * third > MAX_PATCH_VOXELS:
        raise node.wrong(f"at most {MAX_PATCH_VOXELS} voxels")
    return first, second, third


def _axes(node: Node) -> tuple[int, int, int]:
    first, second, third = (item.integer(0, 2) for item in node.items(3))
    if {first, second, third} != {0, 1, 2}:
        raise node.wrong("an order of the axes 0, 1, 2")
    return first, second, third


def _normalizations(document: Node, node: Node) -> tuple[Normalization, ...]:
    schemes = node["normalization_schemes"].items()
    masks = node["use_mask_for_norm"].items(len(schemes))
    properties = document.get("foreground_intensity_properties_per_channel") or document.get(
        "foreground_intensity_properties_by_modality"  # the name until nnU-Net 2.0
    )
    found = []
    for index, (scheme, mask) in enumerate(zip(schemes, masks, strict=True)):
        name, use_mask = scheme.text(*NORMALIZATIONS), mask.flag()
        if name != "CTNormalization":
            found.append(Normalization(name, use_mask))
            continue
        if properties is None:
            raise ModelKeyError(
                document.file,
                "foreground_intensity_properties_per_channel",
                "nothing",
                "a mapping, for CTNormalization",
            )
        values = properties[str(index)]
        mean, std = values["mean"].number(), values["std"].number(above=0.0)
        lower, upper = values["percentile_00_5"].number(), values["percentile_99_5"].number()
        found.append(Normalization(name, use_mask, mean, std, lower, upper))
    return tuple(found)


def _resampling(node: Node, key: str) -> Resampling:
    """Return the interpolation that nnU-Net's resampling function of this name does."""
    name = node[key].text("resample_data_or_seg_to_shape", "resample_torch_fornnunet")
    options = node[f"{key}_kwargs"]
    force = options.get("force_separate_z")
    force_separate_z = None if force is None or force.value is None else force.flag()
    if name == "resample_torch_fornnunet":
        mode, thick_mode = options.get("mode"), options.get("aniso_axis_mode")
        if mode is not None:
            mode.text("linear")
        if thick_mode is not None:
            thick_mode.text("nearest-exact")
        return Resampling(1, 0, force_separate_z, is_clipped=False)
    order = options["order"].integer(0, 5)
    order_z = options["order_z"].integer(0, 5)
    return Resampling(order, order_z, force_separate_z, is_clipped=True)


def _old_architecture(node: Node) -> Node:
    """Return an ``architecture`` entry made from the keys that plans had before nnU-Net 2.4."""
    name = node["UNet_class_name"].text("PlainConvUNet", "ResidualEncoderUNet")
    base, most = node["UNet_base_num_features"].integer(1, 4096), node["unet_max_num_features"].integer(1, 4096)
    per_stage = node["n_conv_per_stage_encoder"]
    n_stages = len(per_stage.items())
    if n_stages > MAX_STAGES:
        raise per_stage.wrong(f"at most {MAX_STAGES} stages")
    arguments: Mapping[str, Any] = {
        "n_stages": n_stages,
        "features_per_stage": [min(base * 2**stage, most) for stage in range(n_stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": node["conv_kernel_sizes"].value,
        "strides": node["pool_op_kernel_sizes"].value,
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": per_stage.value,
        "n_conv_per_stage_decoder": node["n_conv_per_stage_decoder"].value,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return Node(node.file, f"{node.key}.UNet_class_name", {"network_class_name": name, "arch_kwargs": dict(arguments)})
