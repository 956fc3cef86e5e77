"""Volume Fusion as a method of the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from pretraining.errors import SettingRefused
from pretraining.method import Batch, Moment, Outcome, Panel, Sampler
from pretraining.networks import NetworkPlan, build_network
from pretraining.volume_fusion.coefficients import N_COEFFICIENTS, box_coefficients, default_boxes, default_cells
from pretraining.volume_fusion.fusing import fuse, fusion_weights
from pretraining.volume_fusion.losses import fusion_loss
from pretraining.volume_fusion.sampling import CropSampler, GridSampler

LEARNING_RATE: Final = 1e-3
WEIGHT_DECAY: Final = 1e-5
N_HALVINGS: Final = 4  # parts of the run, each with half the learning rate of the one before
_COLOURS = np.array([[20, 20, 20], [66, 112, 214], [64, 170, 110], [233, 180, 60], [214, 72, 64]], np.uint8)


class Variant(StrEnum):
    """Which version of Volume Fusion."""

    GRID = "grid"
    BOXES = "boxes"


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the method.

    Attributes
    ----------
    variant
        ``grid``: the version released with the journal paper. ``boxes``: the preprint's, over two volumes.
    learning_rate
        At the start; halved after each quarter of the run.
    """

    variant: Variant = Variant.GRID
    learning_rate: float = LEARNING_RATE
    weight_decay: float = WEIGHT_DECAY


@dataclass(slots=True, eq=False)
class VolumeFusion:
    """The method: one network, K + 1 classes."""

    network: nn.Module
    sampler: Sampler
    options: Options = field(default_factory=Options)
    clip_norm: float | None = None

    @property
    def module(self) -> nn.Module:
        """All that learns."""
        return self.network

    def configure(self, n_steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return Adam, and the schedule that halves its rate three times."""
        options = self.options
        optimizer = torch.optim.Adam(
            (one for one in self.network.parameters() if one.requires_grad),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
        )
        every = max(1, -(-n_steps // N_HALVINGS))
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=0.5)

    def loss(self, module: nn.Module, batch: Batch, moment: Moment, rng: np.random.Generator) -> Outcome:  # noqa: ARG002
        """Return the loss of a batch."""
        fused = self._fused(batch, rng)
        found = fusion_loss(module(fused["image"]), fused["classes"], fused["weights"])
        values = {
            "cross_entropy": found.cross_entropy,
            "dice_loss": found.dice,
            "accuracy": found.accuracy,
            "majority_share": found.majority,
            "weighted_share": fused["weights"].mean(),
            "fused_share": (fused["classes"] > 0).float().mean(),
        }
        return Outcome(found.loss, values)

    def after_step(self, moment: Moment) -> None:
        """Do nothing."""

    def draw(self, batch: Batch, moment: Moment, rng: np.random.Generator) -> Sequence[Panel]:  # noqa: ARG002
        """Return the middle plane of the fused patch, its classes, the network's classes, and the weights."""
        fused = self._fused(batch, rng)
        was_training = self.network.training
        self.network.eval()
        answer = self.network(fused["image"][:1]).argmax(1, keepdim=True)
        self.network.train(was_training)
        return (
            Panel("fused patch", _plane(fused["image"]).astype(np.float32).clip(0, 1)),
            Panel("classes", _COLOURS[_plane(fused["classes"])]),
            Panel("answer", _COLOURS[_plane(answer)]),
            Panel("weights", _plane(fused["weights"]).astype(np.float32)),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the network is all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back nothing."""

    def _fused(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Return the batch of the grid version as it is; fuse each sample with the next one for the preprint's."""
        if "classes" in batch:
            return batch
        image, body, altered = batch["image"], batch["body"], batch["altered"]
        patch = image.shape[2], image.shape[3], image.shape[4]
        boxes = default_boxes(patch)
        drawn = np.stack([box_coefficients(patch, boxes, rng) for _ in range(image.shape[0])])
        classes = torch.from_numpy(drawn)[:, None].to(image.device)
        others = [tensor.roll(-1, 0) for tensor in (image, body, altered)]
        weights = fusion_weights(classes, (body, others[1]), (altered, others[2]))
        return {"image": fuse(image, others[0], classes), "classes": classes, "weights": weights}


def build(options: Options, plan: NetworkPlan, *, use_masks: bool) -> VolumeFusion:
    """Build the method.

    Raises
    ------
    SettingRefused
        The preprint's version needs two samples in a batch.
    """
    patch = plan.patch_size
    if options.variant == Variant.BOXES:
        if plan.batch_size < 2:
            raise SettingRefused("--variant boxes", "fuses samples of one batch; use --batch 2 or more")
        sampler: Sampler = CropSampler(patch, use_masks)
    else:
        sampler = GridSampler(patch, default_cells(patch), use_masks)
    network = build_network(plan, n_classes=N_COEFFICIENTS + 1)
    for layer in list(network.get_submodule("decoder.seg_layers").children())[:-1]:
        layer.requires_grad_(False)  # no loss reaches them without deep supervision
    return VolumeFusion(network, sampler, options)


def _plane(tensor: Tensor) -> Any:  # noqa: ANN401 - of any type
    """Return the middle plane of the first sample."""
    return (
        tensor[0, 0, tensor.shape[2] // 2]
        .detach()
        .float()
        .cpu()
        .numpy()
        .astype(np.float32 if tensor.is_floating_point() else np.int64)
    )
