"""The training loop: steps, checkpoints, log, pictures. It knows methods by ``pretraining.method`` only."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pretraining.checkpoint_state import load_state, save_state
from pretraining.devices import Processes, greatest, means
from pretraining.errors import LossNotFiniteError, StoppedError
from pretraining.method import Method, Moment, Outcome, step_rng
from pretraining.patches import Samples, StepKeys, batches
from pretraining.progress_log import RunLog

MEASURED_S: Final = 30.0  # how long steps are timed, after some that do not count
WARM_UP_STEPS, MOST_MEASURED = 3, 50
LEAST_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a run is trained and watched; only ``seed`` and ``batch_size`` decide its result.

    Attributes
    ----------
    batch_size
        Samples of a step over all processes.
    checkpoint_s
        Seconds between saved states.
    """

    seed: int
    batch_size: int
    workers: int = 2
    log_every: int = 10
    picture_every: int = 500
    checkpoint_s: float = 600.0


@dataclass(slots=True, eq=False)
class Training:
    """A method in training: its optimiser, where it runs, and how far it is."""

    method: Method
    device: torch.device
    bf16: bool
    processes: Processes
    n_steps: int = 0
    step: int = 0
    rate: float = 0.0  # of learning, in the last step
    module: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    schedule: torch.optim.lr_scheduler.LRScheduler = field(init=False)

    def __post_init__(self) -> None:
        self.method.module.to(self.device)
        self.method.module.train()
        self.module = self.method.module
        if self.processes.size > 1:
            on = [self.device] if self.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.method.module, device_ids=on)

    def begin(self, n_steps: int) -> None:
        """Make optimiser and schedule for a run of so many steps."""
        self.n_steps = n_steps
        self.optimizer, self.schedule = self.method.configure(n_steps)

    def advance(self, batch: Mapping[str, Tensor], seed: int) -> Outcome:
        """Do one step."""
        moment = Moment(self.step, self.n_steps)
        rng = step_rng(seed, self.step, self.processes.rank)
        torch.manual_seed(int(np.random.default_rng((seed, self.step, 0, self.processes.rank, 1)).integers(1 << 62)))
        there = {key: tensor.to(self.device, non_blocking=True) for key, tensor in batch.items()}
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            outcome = self.method.loss(self.module, there, moment, rng)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        if self.method.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.method.clip_norm)
        self.rate = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        self.schedule.step()
        self.method.after_step(moment)
        self.step += 1
        return outcome

    def state(self) -> dict[str, Any]:
        """Return all that a resumed run needs."""
        return {
            "step": self.step,
            "n_steps": self.n_steps,
            "module": self.method.module.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back such a state."""
        self.begin(int(state["n_steps"]))
        self.method.module.load_state_dict(state["module"])
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = int(state["step"])


@dataclass(frozen=True, slots=True)
class Watch:
    """What the loop tells and asks while it runs."""

    on_begin: Callable[[int, int], None] = lambda *_: None  # steps done, steps of the run
    on_step: Callable[[int, float | None], None] = lambda *_: None  # steps done; the loss where it is logged
    is_stopped: Callable[[], bool] = lambda: False


def measure_step_s(training: Training, samples: Samples, settings: LoopSettings) -> float:
    """Return the seconds of one step, loading included, by doing some and taking them back."""
    training.begin(LEAST_STEPS * MOST_MEASURED)
    before = copy.deepcopy(training.state())
    times: list[float] = []
    started = last = time.monotonic()
    for batch in _batches(training, samples, settings):
        training.advance(batch, settings.seed)
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        now = time.monotonic()
        times.append(now - last)
        last = now
        counted = times[WARM_UP_STEPS:]
        is_enough = len(counted) >= LEAST_STEPS and (now - started > MEASURED_S or len(counted) >= MOST_MEASURED)
        if greatest(float(is_enough), training.device) > 0:
            break
    training.restore(before)
    return greatest(float(np.mean(times[WARM_UP_STEPS:])), training.device)


def train(training: Training, samples: Samples, folder: Path, settings: LoopSettings, watch: Watch) -> None:
    """Train to the last step, from the state in ``folder`` if there is one.

    Raises
    ------
    StoppedError
        ``watch.is_stopped`` said so; the state is saved.
    LossNotFiniteError
        The loss became NaN or infinite; the state that was saved before is kept.
    """
    state = load_state(folder)
    if state is not None:
        training.restore(state)
    elif training.processes.is_first:
        save_state(folder, training.state())
    watch.on_begin(training.step, training.n_steps)
    if training.processes.is_first:
        with RunLog(folder, training.step) as log:
            _run(training, samples, folder, settings, watch, log)
    else:
        _run(training, samples, folder, settings, watch, None)


def _run(
    training: Training, samples: Samples, folder: Path, settings: LoopSettings, watch: Watch, log: RunLog | None
) -> None:
    saved_at = last = time.monotonic()
    for batch in _batches(training, samples, settings):
        outcome = training.advance(batch, settings.seed)
        is_last = training.step == training.n_steps
        loss: float | None = None
        if is_last or training.step % settings.log_every == 0:
            found = {key: float(value.detach()) for key, value in outcome.values.items()}
            values = means({"loss": _finite_loss(training, outcome), **found}, training.device)
            loss = values["loss"]
            if log is not None:
                now = time.monotonic()
                log.write(training.step, {**values, "learning_rate": training.rate, "seconds": now - last})
                last = now
        watch.on_step(training.step, loss)
        if log is not None and (is_last or training.step % settings.picture_every == 0):
            _draw(training, batch, settings, log)
        is_stopped = greatest(float(watch.is_stopped()), training.device) > 0
        is_due = greatest(float(time.monotonic() - saved_at > settings.checkpoint_s), training.device) > 0
        if is_last or is_stopped or is_due:
            _finite_loss(training, outcome)
            if training.processes.is_first:
                save_state(folder, training.state())
            saved_at = time.monotonic()
        if is_stopped and not is_last:
            raise StoppedError(training.step, training.n_steps)


def _batches(training: Training, samples: Samples, settings: LoopSettings) -> Iterator[dict[str, Tensor]]:
    size = settings.batch_size // training.processes.size
    keys = StepKeys(training.step, training.n_steps, size, training.processes.rank)
    return batches(samples, keys, workers=settings.workers, device=training.device)


def _finite_loss(training: Training, outcome: Outcome) -> float:
    """Return the loss; raise in every process if it is not finite in one of them."""
    loss = outcome.loss.item()
    if greatest(float(not np.isfinite(loss)), training.device) > 0:
        raise LossNotFiniteError(training.step)
    return float(loss)


def _draw(training: Training, batch: Mapping[str, Tensor], settings: LoopSettings, log: RunLog) -> None:
    there = {key: tensor.to(training.device) for key, tensor in batch.items()}
    with torch.no_grad():
        rng = step_rng(settings.seed, training.step, training.processes.rank)
        panels = training.method.draw(there, Moment(training.step, training.n_steps), rng)
    log.draw(training.step, panels)
