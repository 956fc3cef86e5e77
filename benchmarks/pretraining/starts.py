"""Make the checkpoints that fine-tuning starts from, and measure each pretext task on held-out heads."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pretraining.cases import LabelHead, draw_batch, render
from benchmarks.pretraining.heads import read_heads, without_masks
from benchmarks.pretraining.plots import draw_panels
from benchmarks.pretraining.protocol import PRETRAINED, SPACING_MM, TARGETS, Protocol, Start
from pretraining import anatomask, volume_fusion
from pretraining.checkpoints import read_checkpoint, write_checkpoint
from pretraining.dataset import ArrayVolume
from pretraining.method import Method, Moment, sample_rng, stack, step_rng
from pretraining.networks import NetworkPlan, build_network, plan_from_preset

log = logging.getLogger(__name__)
SEED = 1
MEASURE_EVERY = 20  # steps between two lines of the log
N_HELD_OUT = 12  # batches


def plan_of(protocol: Protocol) -> NetworkPlan:
    """Return the plan of the small network, 8-16-32-64, for the protocol's patch."""
    plans = plan_from_preset("small").plans
    settings = {
        **plans["configurations"]["3d_fullres"],
        "patch_size": [protocol.patch] * 3,
        "spacing": [SPACING_MM] * 3,
        "batch_size": protocol.batch_size,
    }
    return NetworkPlan({**plans, "configurations": {"3d_fullres": settings}})


def build_method(protocol: Protocol, name: str, *, use_masks: bool) -> Method:
    """Return a method; AnatoMask learns faster and has a shorter memory than in a run of 1000 epochs."""
    torch.manual_seed(SEED)
    plan = plan_of(protocol)
    if name == "anatomask":
        options = anatomask.Options(learning_rate=1e-3, decay=(0.99, 0.999), decoder_width=protocol.decoder_width)
        return anatomask.build(options, plan, use_masks=use_masks)
    return volume_fusion.build(volume_fusion.Options(), plan, use_masks=use_masks)


class PretextLearner:
    """A method while it learns its pretext task, with its optimizer and schedule."""

    def __init__(self, method: Method, n_steps: int) -> None:
        self.method, self.n_steps = method, n_steps
        self.optimizer, self.schedule = method.configure(n_steps)

    def take(self, step: int, volumes: list[ArrayVolume], batch_size: int) -> dict[str, float]:
        """Take one step; return its loss and the method's other values."""
        method, moment = self.method, Moment(step, self.n_steps)
        method.module.train()
        batch = draw_samples(method, volumes, step, batch_size)
        outcome = method.loss(method.module, batch, moment, step_rng(SEED, step))
        self.optimizer.zero_grad()
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        if method.clip_norm is not None:
            nn.utils.clip_grad_norm_(method.module.parameters(), method.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        method.after_step(moment)
        return {"loss": float(outcome.loss.detach()), **{key: float(v) for key, v in outcome.values.items()}}


def pretrain(start: Start, protocol: Protocol, data: Path, work: Path) -> Path:
    """Return the folder of a start's checkpoint; it is made unless it is there."""
    folder = work / "starts" / start.value
    if (folder / "measured.json").is_file():
        return folder
    name, use_masks = PRETRAINED[start]
    train, held_out = read_heads(data, work, "train"), read_heads(data, work, "val")
    if not use_masks:
        train, held_out = ([without_masks(volume) for volume in volumes] for volumes in (train, held_out))
    method = build_method(protocol, name, use_masks=use_masks)
    n_steps = protocol.pretraining_steps[name]
    began, lines = time.process_time(), []
    learner = PretextLearner(method, n_steps)
    for step in range(n_steps):
        lines.append(learner.take(step, train, protocol.batch_size))
        if step % MEASURE_EVERY == 0:
            log.info("%s step %d: %.3f", start.value, step, np.mean([line["loss"] for line in lines[-MEASURE_EVERY:]]))
    measured = {
        "steps": n_steps,
        "cpu_s": time.process_time() - began,
        "curve": [mean_of(lines[at : at + MEASURE_EVERY]) for at in range(0, n_steps, MEASURE_EVERY)],
        "held_out": measure_pretext(method, protocol, held_out, n_steps),
    }
    write_checkpoint(folder, method.network, plan_of(protocol), citations=[], facts={"start": start.value})
    batch = draw_samples(method, held_out, n_steps, protocol.batch_size)
    with torch.no_grad():
        draw_panels(method.draw(batch, Moment(n_steps - 1, n_steps), step_rng(SEED, n_steps)), folder / "picture.png")
    _write(folder, measured)
    return folder


def draw_samples(method: Method, volumes: list[ArrayVolume], step: int, size: int) -> dict[str, Tensor]:
    """Return the batch of a step."""
    rng = step_rng(SEED, step, rank=1)
    chosen = rng.integers(len(volumes), size=size)
    return stack(method.sampler(volumes[number], sample_rng(SEED, step, at)) for at, number in enumerate(chosen))


@torch.no_grad()
def measure_pretext(
    method: Method, protocol: Protocol, volumes: list[ArrayVolume], first: int, *, n_batches: int = N_HELD_OUT
) -> dict[str, float]:
    """Return loss and values on held-out heads, with the masks that the method uses, as in the last step of a run.

    Parameters
    ----------
    first
        Number of the first batch; every number stands for other patches.
    """
    method.module.eval()
    lines = []
    for at in range(first, first + n_batches):
        batch = draw_samples(method, volumes, at, protocol.batch_size)
        outcome = method.loss(method.module, batch, Moment(first - 1, first), step_rng(SEED, at))
        lines.append({"loss": float(outcome.loss), **{key: float(v) for key, v in outcome.values.items()}})
        lines[-1] |= _shares(batch)
    return mean_of(lines)


def _shares(batch: dict[str, Tensor]) -> dict[str, float]:
    """Return which share of the patch is unaltered body, where the batch tells."""
    if "body" not in batch:
        return {}
    return {"patch_body_share": float((batch["body"] & ~batch["altered"]).float().mean())}


def supervise(protocol: Protocol, heads: tuple[LabelHead, ...], work: Path) -> Path:
    """Return the folder of the control that learned the task itself, from other heads."""
    folder = work / "starts" / Start.SUPERVISED.value
    if not (folder / "measured.json").is_file():
        began = time.process_time()
        torch.manual_seed(SEED)
        network = build_network(plan_of(protocol), n_classes=len(TARGETS) + 1)
        n_steps = protocol.pretraining_steps["supervised"]
        curve = learn(network, heads, n_steps, protocol, rate=4e-3, seed=10_000 + SEED)
        write_checkpoint(folder, network, plan_of(protocol), citations=[], facts={"start": Start.SUPERVISED.value})
        _write(folder, {"steps": n_steps, "cpu_s": time.process_time() - began, "curve": curve})
    return folder


def permute(source: Path, protocol: Protocol, work: Path) -> Path:
    """Return the folder of the control with the values of another start's tensors permuted within each."""
    folder = work / "starts" / Start.PERMUTED.value
    if not (folder / "measured.json").is_file():
        network = build_network(plan_of(protocol), n_classes=len(TARGETS) + 1)
        weights = read_checkpoint(source / "checkpoint_final.pth")["network_weights"]
        rng = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                if weights[key].shape == parameter.shape:
                    order = torch.randperm(parameter.numel(), generator=rng)
                    parameter.copy_(weights[key].flatten()[order].reshape(parameter.shape))
        write_checkpoint(folder, network, plan_of(protocol), citations=[], facts={"start": Start.PERMUTED.value})
        _write(folder, {"steps": 0, "cpu_s": 0.0, "source": source.name})
    return folder


def learn(
    network: nn.Module,
    heads: tuple[LabelHead, ...],
    n_steps: int,
    protocol: Protocol,
    *,
    rate: float,
    seed: int,
    after: dict[int, Callable[[], None]] | None = None,
) -> list[float]:
    """Train on rendered heads with Dice and cross-entropy; return the loss of each step.

    Every start of a seed sees the same batches in the same order.

    Parameters
    ----------
    after
        What to call after some numbers of steps.
    """
    rng = np.random.default_rng((seed, 1))
    cases = [render(head, rng) for head in heads for _ in range(4)]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=n_steps, power=0.9)
    losses = []
    for step in range(n_steps):
        network.train()
        images, targets = draw_batch(cases, protocol.batch_size, protocol.patch, np.random.default_rng((seed, 2, step)))
        loss = task_loss(network(torch.from_numpy(images)), torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if after is not None and step + 1 in after:
            after[step + 1]()
    return losses


def task_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return cross-entropy plus one minus the mean soft Dice of the targets over the batch."""
    probabilities = logits.softmax(1)[:, 1:]
    truth = nn.functional.one_hot(targets, logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    axes = (0, 2, 3, 4)
    dice = (2 * (probabilities * truth).sum(axes) + 1) / (probabilities.sum(axes) + truth.sum(axes) + 1)
    return nn.functional.cross_entropy(logits, targets) + 1 - dice.mean()


def mean_of(lines: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each value over several lines."""
    return {key: float(np.mean([line[key] for line in lines])) for key in lines[0]}


def _write(folder: Path, content: dict[str, object]) -> None:
    part = folder / "measured.part"
    part.write_text(json.dumps(content, indent=1), "utf-8")
    part.replace(folder / "measured.json")
