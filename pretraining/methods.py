"""The methods, by name: their options, how they are built, what to cite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pretraining import anatomask, volume_fusion
from pretraining.checkpoints import Citation
from pretraining.method import Method
from pretraining.networks import NetworkPlan


@dataclass(frozen=True, slots=True)
class Entry:
    """A method."""

    title: str
    options: type[Any]
    build: Callable[..., Method]
    citation: Citation
    keeps_decoder: bool  # whether the decoder is trained too


_VOLUME_FUSION = (
    "@article{wang2023misfm, title={MIS-FM: 3D Medical Image Segmentation using Foundation Models Pretrained on a "
    "Large-Scale Unannotated Dataset}, author={Wang, Guotai and others}, journal={arXiv:2306.16925}, year={2023}}"
)
_ANATOMASK = (
    "@inproceedings{li2024anatomask, title={AnatoMask: Enhancing Medical Image Segmentation with Reconstruction-guided "
    "Self-masking}, author={Li, Yuheng and others}, booktitle={ECCV}, year={2024}}"
)
METHODS: Mapping[str, Entry] = {
    "volume-fusion": Entry(
        "Volume Fusion",
        volume_fusion.Options,
        volume_fusion.build,
        Citation("Pretraining Method", "Volume Fusion", (_VOLUME_FUSION,)),
        keeps_decoder=True,
    ),
    "anatomask": Entry(
        "AnatoMask",
        anatomask.Options,
        anatomask.build,
        Citation("Pretraining Method", "AnatoMask", (_ANATOMASK,)),
        keeps_decoder=False,
    ),
}


def build(name: str, options: Any, plan: NetworkPlan, *, use_masks: bool) -> Method:  # noqa: ANN401 - of the method
    """Build a method."""
    return METHODS[name].build(options, plan, use_masks=use_masks)
