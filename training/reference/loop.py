"""A simple, resumable training loop for both networks on the same samples, with more steps for the anonymised area.

References
----------
I. Loshchilov and F. Hutter, SGDR, ICLR (2017), cosine schedule; Decoupled weight decay regularization, ICLR (2019),
AdamW.
"""

from __future__ import annotations

import json
import logging
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.reference.export import export_model
from training.reference.feed import Reservoir, remember
from training.reference.loss import dice_and_cross_entropy
from training.reference.network import DESIGNS, Design, build_network
from training.samples import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Training settings; the learning rate follows a cosine over ``minutes``.

    If a finished run is given more minutes, it continues with a second, lower cosine over the added minutes.
    """

    minutes: float = 256.0
    batch_size: int = 2
    learning_rate: float = 2e-3
    second_rate: float = 1.2e-3
    weight_decay: float = 1e-3
    warm_up_steps: int = 50
    ema_decay: float = 0.998
    foreground_every: int = 2  # steps of the anonymised network per step of the foreground one
    reservoir_groups: int = 250
    checkpoint_s: float = 120.0
    export_s: float = 600.0
    seed: int = 1


@dataclass(eq=False)
class Learner:
    """One network with its optimiser and its moving average."""

    design: Design
    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int = 0
    losses: list[float] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def make_learner(role: str, settings: Settings) -> Learner:
    """Return a learner with a new network; channels-last is the faster layout on CPUs."""
    torch.manual_seed(settings.seed)
    network = build_network(DESIGNS[role]).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return Learner(DESIGNS[role], network, deepcopy(network).requires_grad_(requires_grad=False), optimizer)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cosine of the learning rate, from second ``from_s`` of the run to second ``until_s``."""

    rate: float
    from_s: float
    until_s: float

    def rate_at(self, spent_s: float) -> float:
        """Return the learning rate; at the end it is a fiftieth of ``rate``."""
        progress = min(1.0, (spent_s - self.from_s) / max(self.until_s - self.from_s, 1.0))
        return self.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    def state(self) -> dict[str, float]:
        """Return the values to store in the checkpoint."""
        return asdict(self)


def schedule_of(settings: Settings, spent_s: float, earlier: Schedule | None) -> Schedule:
    """Return the first cosine or, after a finished run, the cosine over the added minutes."""
    until_s = settings.minutes * 60
    if earlier is None:
        return Schedule(settings.learning_rate, 0.0, until_s)
    if until_s <= spent_s:
        return earlier
    if spent_s >= earlier.until_s:
        return Schedule(settings.second_rate, earlier.until_s, until_s)
    return replace(earlier, until_s=until_s)


def learn(learner: Learner, samples: list[Sample], rate: float, settings: Settings) -> list[float]:
    """Train one step with a learning rate, which is reduced during warm-up.

    Returns
    -------
    list of float
        For each sample, the mean probability of false positives over its voxels.
    """
    for group in learner.optimizer.param_groups:
        group["lr"] = rate * min(1.0, (learner.steps + 1) / settings.warm_up_steps)
    channels, target = as_batch(samples, learner.design.role)
    logits = learner.network(channels)
    loss = dice_and_cross_entropy(logits, target, learner.design.dice_labels)
    learner.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learner.network.parameters(), 5.0)
    learner.optimizer.step()
    learner.steps += 1
    learner.losses.append(float(loss.detach()))
    decay = min(settings.ema_decay, learner.steps / (learner.steps + 20))
    with torch.no_grad():
        for kept, new in zip(learner.average.parameters(), learner.network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
        painted = logits.softmax(1)[:, list(learner.design.dice_labels)].sum(1) * (target == 0)
        return [float(share) for share in painted.mean((1, 2, 3))]


def as_batch(samples: list[Sample], role: str) -> tuple[Tensor, Tensor]:
    """Stack samples to (sample, channel, slice, row, column) and labels; half of the batches are mirrored."""
    channels = torch.from_numpy(np.stack([sample.channels for sample in samples]).astype(np.float32))
    labels = [sample.foreground if role == "foreground" else sample.anonymized for sample in samples]
    target = torch.from_numpy(np.stack(labels)).long()
    if torch.rand(()) < 0.5:
        channels, target = channels.flip(-1), target.flip(-1)
    return channels.contiguous(memory_format=torch.channels_last_3d), target


def train(data: Path, work: Path, models: Path, settings: Settings) -> None:
    """Train until ``settings.minutes`` of loop time are spent; resume from ``work/checkpoint.pt``."""
    learners = {role: make_learner(role, settings) for role in DESIGNS}
    checkpoint = work / "checkpoint.pt"
    spent_s, first, earlier = 0.0, 0, None
    if checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        spent_s, first = kept["spent_s"], kept["n_drawn"]
        earlier = Schedule(**kept["schedule"])
        for role, learner in learners.items():
            learner.restore(kept[role])
        log.info("resumed after %.0f s", spent_s)
    reservoir = Reservoir(data, work, seed=settings.seed, first=first, size=settings.reservoir_groups)
    reservoir.refill(at_least=40)
    schedule = schedule_of(settings, spent_s, earlier)
    kept_at = exported_at = last = time.monotonic()
    step = 0
    while spent_s < schedule.until_s:
        reservoir.refill()
        rate = schedule.rate_at(spent_s)
        samples, groups = reservoir.batch(settings.batch_size, paired=True)
        remember(groups, learn(learners["anonymized"], samples, rate, settings))
        if step % settings.foreground_every == 0:
            samples, _ = reservoir.batch(settings.batch_size, paired=False)
            learn(learners["foreground"], samples, rate, settings)
        step += 1
        now = time.monotonic()
        spent_s, last = spent_s + now - last, now
        if now - kept_at > settings.checkpoint_s:
            keep(checkpoint, learners, spent_s, reservoir.n_drawn, schedule)
            report(work / "log.jsonl", learners, spent_s, reservoir)
            kept_at = now
        if now - exported_at > settings.export_s:
            export_all(models, learners)
            exported_at = now
    keep(checkpoint, learners, spent_s, reservoir.n_drawn, schedule)
    export_all(models, learners)
    reservoir.worker.terminate()


def export_checkpoint(work: Path, models: Path, settings: Settings) -> None:
    """Write the models of the last checkpoint."""
    learners = {role: make_learner(role, settings) for role in DESIGNS}
    kept = torch.load(work / "checkpoint.pt", weights_only=True)
    for role, learner in learners.items():
        learner.restore(kept[role])
    export_all(models, learners)


def export_all(models: Path, learners: dict[str, Learner]) -> None:
    """Write the averaged networks as trained-model folders."""
    for role, learner in learners.items():
        export_model(models / role, DESIGNS[role], learner.average, steps=learner.steps)


def keep(path: Path, learners: dict[str, Learner], spent_s: float, n_drawn: int, schedule: Schedule) -> None:
    """Write the checkpoint atomically."""
    part = path.with_suffix(".part")
    states = {role: learner.state() for role, learner in learners.items()}
    torch.save({**states, "spent_s": spent_s, "n_drawn": n_drawn, "schedule": schedule.state()}, part)
    part.replace(path)


def report(path: Path, learners: dict[str, Learner], spent_s: float, reservoir: Reservoir) -> None:
    """Append one line of progress to the log."""
    line: dict[str, Any] = {"minutes": round(spent_s / 60, 1), "groups_drawn": reservoir.n_drawn}
    for role, learner in learners.items():
        line[role] = {"steps": learner.steps, "loss": round(float(np.mean(learner.losses[-60:])), 4)}
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")
    log.info("%s", line)
