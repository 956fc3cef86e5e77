"""AnatoMask, told where the body is and which voxels were altered.

A teacher, the moving average of the student, reconstructs a first random mask; the blocks that it reconstructs worst
are hidden from the student. Only blocks of the body are hidden and scored, and altered voxels count nowhere.

References
----------
Y. Li et al., AnatoMask: Enhancing Medical Image Segmentation with Reconstruction-guided Self-masking, ECCV (2024),
arXiv 2407.06468. The released code compares the teacher's output, which predicts normalised blocks, with raw values,
and so prefers bright blocks: ``importance="raw"``. The default compares like with like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pretraining.anatomask import blocks
from pretraining.anatomask.pictures import panels
from pretraining.anatomask.reconstruct import Reconstructor, stage_sides
from pretraining.anatomask.sampling import PatchSampler
from pretraining.anatomask.schedules import hard_share, learning_rate_schedule, teacher_decay
from pretraining.errors import SettingRefused
from pretraining.method import Batch, Moment, Outcome, Panel
from pretraining.networks import NetworkPlan, build_network


@dataclass(frozen=True, slots=True)
class Options:
    """The published settings, for one GPU.

    Attributes
    ----------
    importance
        What the teacher's reconstruction is compared with: normalised blocks, or raw values as in the released code.
    block
        Voxels of a block, in array-axis order; None for the total stride of the network.
    decoder_width
        Channels of the decoder at its lowest resolution; None for those of the encoder's deepest stage.
    decay
        Of the teacher, at the start and from the first quarter on, per step.
    warm_up_share
        Share of the run in which the learning rate rises from a hundredth.
    augment
        Turn, scale and mirror samples.
    """

    hidden_share: float = 0.6
    importance: Literal["normalized", "raw"] = "normalized"
    block: tuple[int, int, int] | None = None
    decoder_width: int | None = None
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    decay: tuple[float, float] = (0.999, 0.9999)
    warm_up_share: float = 0.02
    clip_norm: float = 12.0
    augment: bool = True


class AnatoMask:
    """AnatoMask as a method of the training loop; build it with ``build``."""

    def __init__(self, options: Options, plan: NetworkPlan, *, use_masks: bool) -> None:
        self.options = options
        self.side = options.block or plan.total_stride
        _check(options, plan)
        self.grid = blocks.grid_of(plan.patch_size, self.side)
        self.network = build_network(plan, n_classes=2)
        self.module: Reconstructor = Reconstructor(
            self.network.get_submodule("encoder"),
            n_channels=plan.n_channels,
            side=self.side,
            width=options.decoder_width,
        )
        self.teacher = AveragedModel(self.module, use_buffers=True)
        self.teacher.update_parameters(self.module)  # the first update copies; the average starts with the second
        self.teacher.eval()
        self.sampler = PatchSampler(plan.patch_size, self.side, use_masks=use_masks, augment=options.augment)
        self.clip_norm: float | None = options.clip_norm

    def configure(self, n_steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """Return AdamW and a warm-up with a cosine to 0."""
        optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        warm_up = round(self.options.warm_up_share * n_steps)
        return optimizer, learning_rate_schedule(optimizer, n_steps, warm_up=warm_up)

    def loss(self, module: nn.Module, batch: Batch, moment: Moment, rng: np.random.Generator) -> Outcome:
        """Return the error in hidden blocks of the body, the worst of which the teacher chose."""
        asked = self._ask(batch)
        share = hard_share(moment.step, moment.n_steps)
        scored = self._choose(asked, share, rng)[0]
        prediction = module(asked.image, self.visible(asked.roles, scored))
        errors = blocks.block_errors(blocks.to_blocks(prediction.float(), self.side), asked.target, asked.weights)
        chosen = torch.from_numpy(scored).to(errors.device)
        loss = blocks.mean_over_scored(errors, chosen.float())
        true_body = blocks.to_blocks((batch["body"] & ~batch["altered"]).float(), self.side).mean(-1)
        values = {
            "hidden_body_share": blocks.mean_over_scored(true_body, chosen.float()),
            "hidden_blocks": chosen.sum(1).float().mean(),
            "body_share": true_body.mean(),
        }
        return Outcome(loss, values)

    def after_step(self, moment: Moment) -> None:
        """Move the teacher towards the student."""
        start, end = self.options.decay
        decay = teacher_decay(moment.step, moment.n_steps, start=start, end=end)
        self.teacher.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.teacher.update_parameters(self.module)

    def draw(self, batch: Batch, moment: Moment, rng: np.random.Generator) -> Sequence[Panel]:
        """Return a plane of the image, of what the student sees and reconstructs, and the importance of blocks."""
        asked = self._ask({key: value[:1] for key, value in batch.items()})
        scored, importance = self._choose(asked, max(hard_share(moment.step, moment.n_steps), 1e-9), rng, always=True)
        was_training = self.module.training
        self.module.eval()
        with torch.no_grad():
            prediction = self.module(asked.image, self.visible(asked.roles, scored)).float()
        self.module.train(was_training)
        hidden = scored | asked.roles.untrue
        return panels(asked.image, prediction, asked.weights, hidden, scored, importance, self.grid, self.side)

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher, and the network's own decoder, which does not learn."""
        decoder = {
            key: value
            for key, value in self.network.state_dict().items()
            if key.startswith("decoder.") and not key.startswith("decoder.encoder.")
        }
        return {"teacher": self.teacher.state_dict(), "decoder": decoder}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` returned."""
        self.teacher.load_state_dict(state["teacher"])
        self.network.load_state_dict(state["decoder"], strict=False)

    def visible(self, roles: blocks.BlockRoles, scored: NDArray[np.bool_]) -> Tensor:
        """Return the visible blocks, bool (sample, *grid), on the network's device."""
        device = next(self.module.parameters()).device
        return torch.from_numpy(~(scored | roles.untrue)).to(device).reshape(-1, *self.grid)

    def _ask(self, batch: Batch) -> _Asked:
        image, weights = batch["image"], (~batch["altered"]).float().expand_as(batch["image"])
        roles = blocks.find_roles(batch["body"], batch["altered"], self.side)
        roles.candidate[~roles.is_enough] = False  # nothing is hidden or scored in such a sample
        values, weights = (blocks.to_blocks(voxels, self.side) for voxels in (image, weights))
        return _Asked(image, values, blocks.normalize_blocks(values, weights), weights, roles)

    def _choose(
        self, asked: _Asked, share: float, rng: np.random.Generator, *, always: bool = False
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return the blocks to hide from the student, and the importance of those that were hidden from the teacher.

        The teacher is asked only if it would choose a block, or ``always``.
        """
        first = blocks.draw_mask(asked.roles, rng, self.options.hidden_share)
        importance = np.zeros(first.shape, np.float32)
        if always or any(blocks.hard_count(int(count), share) for count in first.sum(1)):
            importance = self.importance(asked, first)
        return blocks.draw_hard_mask(asked.roles, first, importance, share, rng), importance

    @torch.no_grad()
    def importance(self, asked: _Asked, hidden: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the teacher's error in each block, (sample, n_blocks); altered voxels do not count."""
        self.teacher.to(asked.image.device).eval()
        prediction = self.teacher(asked.image, self.visible(asked.roles, hidden)).float()
        target = asked.target if self.options.importance == "normalized" else asked.values
        errors = blocks.block_errors(blocks.to_blocks(prediction, self.side), target, asked.weights)
        return np.asarray(errors.cpu().numpy() * hidden, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A batch in blocks: raw values, normalised target and weights (sample, n_blocks, n_values), and roles."""

    image: Tensor
    values: Tensor
    target: Tensor
    weights: Tensor
    roles: blocks.BlockRoles


def _check(options: Options, plan: NetworkPlan) -> None:
    """Refuse settings that cannot work, before anything is built."""
    if options.importance not in ("normalized", "raw"):
        raise SettingRefused("--importance", f"{options.importance} is unknown; expected normalized or raw")
    if not 0 < options.hidden_share < 1:
        raise SettingRefused("hidden_share", f"{options.hidden_share} is not between 0 and 1")
    sides = stage_sides(plan.strides)
    if options.block is not None and tuple(options.block) not in sides:
        raise SettingRefused("--block", f"{options.block} is not the total stride of a stage; expected one of {sides}")
    n_blocks = math.prod(blocks.grid_of(plan.patch_size, options.block or plan.total_stride))
    if n_blocks < blocks.LEAST_CANDIDATES:
        raise SettingRefused(
            "--patch", f"{plan.patch_size} has {n_blocks} blocks; at least {blocks.LEAST_CANDIDATES} are needed"
        )


def build(options: Options, plan: NetworkPlan, *, use_masks: bool) -> AnatoMask:
    """Return the method for a network; without masks it is the published one."""
    return AnatoMask(options, plan, use_masks=use_masks)
