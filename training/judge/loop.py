"""A resumable training loop on patches from a folder that a simulating process fills; hard ones are used more often.

References
----------
F. Milletari et al., V-Net, 3DV (2016), soft Dice loss. I. Loshchilov and F. Hutter, Decoupled weight decay
regularization, ICLR (2019), AdamW. A. Shrivastava et al., Training region-based object detectors with online hard
example mining, CVPR (2016).
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections import deque
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inference.judge.load import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from inference.nnunet.checkpoint import load_weights, read_checkpoint
from training.judge.network import build_network
from training.judge.patches import read_patch
from training.judge.simulate import CHECKPOINT_FILE, CORE_FILE, COUNTER_FILE, WAITING_FILE, simulated_core_s
from training.judge.widen import widen
from training.samples import IGNORE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Training settings. The learning rate falls with the square root of the steps, so that a run has no fixed end."""

    batch_size: int = 4
    learning_rate: float = 2e-3
    full_rate_steps: int = 1500
    cool_down_steps: int = 0  # before the last step of a run, in which the rate falls to nothing
    warm_up_steps: int = 50  # also after a run continues from exported weights, without the optimiser's state
    weight_decay: float = 1e-3
    ema_decay: float = 0.998
    least_changed: int = 200  # changed voxels in a batch from which Dice is part of the loss
    most_patches: int = 2500  # in the folder
    most_uses: float = 4.0  # of a patch on average; training waits for new ones rather than learn few by heart
    kept_hard: int = 300  # patches with false positives, which are kept longer than others
    hard_life: int = 4  # times as long as others
    checkpoint_s: float = 120.0
    is_bfloat16: bool | None = None  # precision of convolutions; None: bfloat16 where the machine is fast at it
    seed: int = 1


@dataclass(eq=False)
class Learner:
    """The network, its moving average, its optimiser, and its errors on the patches."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int = 0
    core_s: float = 0.0  # CPU seconds, without simulation
    false_shares: dict[str, float] = field(default_factory=dict)  # of false positives when last used, by file name
    uses: dict[str, int] = field(default_factory=dict)  # by file name
    first_step: int = 0  # from which the optimiser has a state
    first_looks: deque[float] = field(default_factory=lambda: deque(maxlen=500))  # cross-entropy of patches never seen

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "core_s": self.core_s,
            "false_shares": self.false_shares,
            "uses": self.uses,
            "first_step": self.first_step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.core_s = state["steps"], state["core_s"]
        self.false_shares, self.uses = dict(state["false_shares"]), dict(state.get("uses", {}))
        self.first_step = state.get("first_step", 0)


def training_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether convolutions in bfloat16 are faster than in float32; on CPUs only with instructions for it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()  # type: ignore[no-any-return, no-untyped-call]  # noqa: SLF001


def make_learner(settings: Settings) -> Learner:
    """Return a learner with a new network; channels-last is the faster layout on CPUs."""
    torch.manual_seed(settings.seed)
    network = build_network().to(training_device(), memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return Learner(network, deepcopy(network).requires_grad_(requires_grad=False), optimizer)


def rate_at(steps: int, settings: Settings, *, first_step: int = 0, last_step: int | None = None) -> float:
    """Return the learning rate: warm-up from ``first_step``, then constant, then falling with the root of the steps.

    Before ``last_step``, if there is one, it falls to nothing during ``cool_down_steps``.
    """
    warmth = min(1.0, (steps - first_step + 1) / settings.warm_up_steps)
    if last_step is not None and settings.cool_down_steps:
        warmth *= min(1.0, max(0.0, (last_step - steps) / settings.cool_down_steps))
    return settings.learning_rate * warmth * min(1.0, (settings.full_rate_steps / max(steps, 1)) ** 0.5)


def loss_of(logits: Tensor, target: Tensor, least_changed: int) -> tuple[Tensor, float | None]:
    """Return the loss of a batch and the soft Dice of any change.

    The loss is cross-entropy, plus one minus Dice if enough voxels are changed; else Dice is None.

    Parameters
    ----------
    logits
        (patch, label, slice, row, column).
    target
        (patch, slice, row, column) labels; ``IGNORE`` is left out.
    """
    valid = target != IGNORE
    safe = torch.where(valid, target, torch.zeros_like(target))
    if not bool(valid.any()):
        return logits.sum() * 0.0, None
    cross_entropy = nn.functional.cross_entropy(logits, target, ignore_index=IGNORE)
    truth = (safe > 0).float()
    if float(truth.sum()) < least_changed:
        return cross_entropy, None
    changed = (1 - logits.softmax(1)[:, 0]) * valid
    dice = (2 * (changed * truth).sum() + 1) / (changed.sum() + truth.sum() + 1)
    return cross_entropy + 1 - dice, float(dice.detach())


def learn(
    learner: Learner, names: list[str], folder: Path, settings: Settings, *, last_step: int | None = None
) -> tuple[float, float | None]:
    """Train one step on some patches, perhaps near the last step of the run; return loss and soft Dice."""
    pairs = [read_patch(folder / name) for name in names]
    device = next(learner.network.parameters()).device
    channels = torch.from_numpy(np.stack([channels for channels, _ in pairs]).astype(np.float32)).to(device)
    target = torch.from_numpy(np.stack([target for _, target in pairs]).astype(np.int64)).to(device)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate_at(learner.steps, settings, first_step=learner.first_step, last_step=last_step)
    is_bfloat16 = has_fast_bfloat16(device) if settings.is_bfloat16 is None else settings.is_bfloat16
    learner.network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16):
        logits = learner.network(channels.contiguous(memory_format=torch.channels_last_3d))
    logits = logits.float()
    loss, dice = loss_of(logits, target, settings.least_changed)
    learner.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if bool(nn.utils.clip_grad_norm_(learner.network.parameters(), 5.0).isfinite()):
        learner.optimizer.step()
    else:
        log.warning("step %d: gradients are not finite; the weights stay as they are", learner.steps)
    learner.steps += 1
    decay = min(settings.ema_decay, learner.steps / (learner.steps + 20))
    with torch.no_grad():
        for kept, new in zip(learner.average.parameters(), learner.network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
        for kept, new in zip(learner.average.buffers(), learner.network.buffers(), strict=True):
            kept.lerp_(new, 1 - decay) if kept.is_floating_point() else kept.copy_(new)
        painted = ((1 - logits.softmax(1)[:, 0]) * (target == 0)).mean((1, 2, 3))
        each = nn.functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none").mean((1, 2, 3))
    learner.first_looks.extend(
        float(value) for name, value in zip(names, each, strict=True) if name not in learner.uses
    )
    learner.false_shares |= {name: round(float(share), 5) for name, share in zip(names, painted, strict=True)}
    learner.uses |= {name: learner.uses.get(name, 0) + 1 for name in names}
    return float(loss.detach()), dice


def draw_batch(learner: Learner, names: list[str], settings: Settings) -> list[str]:
    """Return the patches for the next step, which depend only on seed, step, names and shares of false positives.

    New patches are the most likely; patches with false positives are more likely than others.
    """
    rng = np.random.default_rng([settings.seed, learner.steps])
    known = learner.false_shares
    weights = np.array([1 + 30 * min(known[name], 0.1) if name in known else 4.0 for name in names])
    chosen = rng.choice(len(names), settings.batch_size, replace=False, p=weights / weights.sum())
    return [names[index] for index in chosen]


def has_enough(learner: Learner, names: list[str], settings: Settings) -> bool:
    """Whether there are enough patches to draw from, and these were not used too often yet."""
    n_uses = sum(learner.uses.get(name, 0) for name in names)
    return len(names) >= 10 * settings.batch_size and n_uses < settings.most_uses * len(names)


def take_away(learner: Learner, names: list[str], folder: Path, settings: Settings) -> list[str]:
    """Delete patches above the limit, the oldest first and hard ones later; return the remaining names."""
    excess = len(names) - settings.most_patches
    if excess <= 0:
        return names
    known = learner.false_shares
    newest = int(names[-1].split("-")[0])
    oldest_hard = newest - settings.hard_life * (newest - int(names[0].split("-")[0]))
    hard = set(
        sorted((name for name in names if known.get(name, 0) > 0.002), key=lambda name: known[name])[
            -settings.kept_hard :
        ]
    )
    hard = {name for name in hard if int(name.split("-")[0]) >= oldest_hard}
    gone = [name for name in names if name not in hard][:excess]
    for name in gone:
        (folder / name).unlink(missing_ok=True)
        known.pop(name, None)
        learner.uses.pop(name, None)
    left = set(gone)
    return [name for name in names if name not in left]


def patch_names(folder: Path) -> list[str]:
    """Return the names of the patches in a folder, oldest first."""
    return sorted(path.name for path in folder.glob("*.npy"))


def keep(learner: Learner, path: Path) -> None:
    """Write the checkpoint atomically."""
    part = path.with_suffix(".part")
    torch.save(learner.state(), part)
    part.replace(path)


def resume(work: Path, settings: Settings, exported: Path | None = None) -> Learner:
    """Return the learner of ``work/checkpoint.pt``, or else of an exported folder, or else a new one.

    An export has no state of the optimiser; counting of steps continues. Weights of a network with fewer features are
    widened.

    Raises
    ------
    ModelError
        The exported folder was changed or does not fit to this code.
    ValueError
        The exported network has more features than this one, or other stages.
    """
    learner = make_learner(settings)
    path = work / CHECKPOINT_FILE
    if path.is_file():
        learner.restore(torch.load(path, map_location=training_device(), weights_only=True))
        log.info("resumed at step %d after %.0f s of a core", learner.steps, learner.core_s)
    elif exported is not None and (exported / DESCRIPTION_FILE).is_file():
        description = read_description(exported)
        stages = description["architecture"]["arch_kwargs"]["features_per_stage"].items()
        narrow = build_network([features.integer(1, 10**4) for features in stages])
        load_weights(narrow, read_checkpoint(exported / WEIGHTS_FILE))
        widen(narrow, learner.network)
        learner.average.load_state_dict(learner.network.state_dict())
        learner.steps = learner.first_step = description["steps"].integer(0, 10**9)
        learner.core_s = description["training_core_hours"].number() * 3600
        # The simulation goes on with cases that were never drawn.
        _begin_with(work / COUNTER_FILE, str(description["simulated_cases"].integer(0, 10**9)))
        _begin_with(work / CORE_FILE, str(description["simulation_core_hours"].number() * 3600))
        log.info("continues from %s at step %d", exported, learner.steps)
    return learner


def _begin_with(path: Path, text: str) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


class _Ending:
    """Record whether a signal asked the run to end; the current step is finished and stored."""

    def __init__(self) -> None:
        self.is_asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.is_asked = True


def train(
    work: Path,
    settings: Settings,
    *,
    simulator: list[str] | None,
    until_step: int | None = None,
    exported: Path | None = None,
) -> Learner:
    """Resume the last run and train until a signal or a step.

    Parameters
    ----------
    simulator
        Command of the simulating process, which is restarted when it ends; None if the patches exist already.
    until_step
        Last step, counted over the whole run; the learning rate falls before it if ``settings`` say so.
    exported
        Folder of weights to continue from if there is no checkpoint.
    """
    folder = work / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    learner, ending, process = resume(work, settings, exported), _Ending(), None
    recent: deque[tuple[float, float | None]] = deque(maxlen=100)
    kept_at, last = time.monotonic(), time.process_time()
    try:
        while not ending.is_asked and learner.steps != until_step:
            if simulator is not None and (process is None or process.poll() is not None):
                process = subprocess.Popen(simulator)
            names = take_away(learner, patch_names(folder), folder, settings)
            if simulator is not None and not has_enough(learner, names, settings):
                time.sleep(2)
                continue
            batch = draw_batch(learner, names, settings)
            recent.append(learn(learner, batch, folder, settings, last_step=until_step))
            (work / WAITING_FILE).write_text(str(sum(name not in learner.false_shares for name in names)), "utf-8")
            used = time.process_time()
            learner.core_s, last = learner.core_s + used - last, used
            if time.monotonic() - kept_at > settings.checkpoint_s:
                keep(learner, work / CHECKPOINT_FILE)
                _report(learner, recent, names, work)
                kept_at = time.monotonic()
    finally:
        if process is not None:
            process.terminate()
        keep(learner, work / CHECKPOINT_FILE)
    return learner


def _report(learner: Learner, recent: deque[tuple[float, float | None]], names: list[str], work: Path) -> None:
    """Append one line of progress to the log."""
    dice = [dice for _, dice in recent if dice is not None]
    line = {
        "steps": learner.steps,
        "core_hours": round(learner.core_s / 3600, 3),
        "simulation_core_hours": round(simulated_core_s(work) / 3600, 3),
        "loss": round(float(np.mean([loss for loss, _ in recent])), 4),
        "dice": round(float(np.mean(dice)), 4) if dice else None,
        "first_look": round(float(np.mean(learner.first_looks)), 4) if learner.first_looks else None,
        "patches": len(names),
        "newest": names[-1],
        "hard": sum(share > 0.01 for share in learner.false_shares.values()),
    }
    with (work / "log.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")
    log.info("%s", line)


def simulator_command(arguments: list[str]) -> list[str]:
    """Return the command of the simulating process."""
    return [sys.executable, "-m", "training.judge", "simulate", *arguments]
