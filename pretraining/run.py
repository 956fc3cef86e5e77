"""One run from the dataset to the checkpoint, in one process or several."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
import torch.distributed as dist

from pretraining.card import fine_tuning_lines, write_card
from pretraining.checkpoint_state import is_disk_full, load_state
from pretraining.checkpoints import Plain, write_checkpoint
from pretraining.dataset import StoredVolume
from pretraining.devices import (
    Processes,
    choose_device,
    join,
    leave,
    peak_memory_bytes,
    started_by_torchrun,
    uses_bf16,
)
from pretraining.errors import DiskFullError, MemoryShortError, SettingRefused, WorkerKilledError
from pretraining.loop import LoopSettings, Training, measure_step_s, train
from pretraining.methods import METHODS, build
from pretraining.networks import NetworkPlan
from pretraining.patches import Samples
from pretraining.prepare_all import prepare_dataset
from pretraining.progress_bar import duration, watching
from pretraining.request import HOURS, Request, config_of, plan_of, prepare_settings
from pretraining.run_folder import open_run, volumes_digest, write_volumes
from pretraining.several import in_processes
from pretraining.stopping import StopSignals
from pretraining.survey import Survey, survey

LARGE_ON_CPU: Final = 64**3  # voxels of a patch
MEASURED_FROM: Final = 500  # a run of fewer steps is not timed before it starts
_LOADER_TEXT: Final = "DataLoader worker"  # in what PyTorch raises when a loader process is killed
_MEMORY_TEXT: Final = "can't allocate memory"  # in what it raises when the CPU has none left

Tell = Callable[[str], None]
Preparing = Callable[[], AbstractContextManager[tuple[Callable[[int], None], Callable[[], None]]]]


def _not_shown() -> AbstractContextManager[tuple[Callable[[int], None], Callable[[], None]]]:
    return nullcontext((lambda _: None, lambda: None))


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """All that a process needs to train; it pickles."""

    request: Request
    plan: NetworkPlan
    options: Any
    volumes: tuple[StoredVolume, ...]


def pretrain(
    request: Request,
    tell: Tell,
    *,
    made_with: str = "pretraining",
    preparing: Preparing = _not_shown,
) -> list[str]:
    """Pretrain as requested, or resume; return the commands that fine-tune from the result.

    Parameters
    ----------
    tell
        Is told what the run will do before it starts, a line at a time.
    preparing
        Is entered while volumes are prepared; what it yields is told their number, and of each one.

    Raises
    ------
    PretrainingError
        Something named is in the way; the last saved state can be resumed.
    """
    try:
        return _pretrain(request, tell, made_with, preparing)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(str(request.folder)) from error
        raise
    finally:
        leave()


def _pretrain(request: Request, tell: Tell, made_with: str, preparing: Preparing) -> list[str]:
    entry = METHODS[request.method]
    options = entry.options(**request.options)
    plan = plan_of(request)
    processes = started_by_torchrun()
    n_processes = processes.size if processes else request.n_devices
    if plan.batch_size % n_processes:
        raise SettingRefused("--batch", f"{plan.batch_size} cannot be divided among {n_processes} processes")
    for local_rank in [processes.local_rank] if processes else range(n_processes):
        choose_device(request.device, Processes(local_rank, n_processes, local_rank))
    if processes:
        join(processes, choose_device(request.device, processes))
        if not processes.is_first:
            dist.barrier()
    with preparing() as (on_begin, on_volume):
        prepared = prepare_dataset(
            request.dataset,
            prepare_settings(plan, use_masks=request.use_masks),
            plan.patch_size,
            folder=request.prepared,
            workers=max(1, request.workers),
            on_begin=on_begin,
            on_volume=on_volume,
        )
    config = config_of(request, plan, options, volumes_digest(prepared.volumes))
    seen = survey(prepared.volumes, len(prepared.refused), plan.patch_size, use_masks=request.use_masks)
    if processes is None or processes.is_first:
        is_resumed = open_run(request.folder, config)
        write_volumes(request.folder, prepared.volumes, prepared.refused)
        for line in _announcement(request, plan, seen, is_resumed=is_resumed):
            tell(line)
        for name, refused in prepared.refused.items():
            tell(f"not used: {name}: {refused} [{refused.reason_code}]")
    job = Job(request, plan, options, prepared.volumes)
    if processes:
        if processes.is_first:
            dist.barrier()
        n_steps = _train(job, processes)
    elif request.n_devices > 1:
        n_steps = in_processes(partial(_train, job), request.n_devices)
    else:
        n_steps = _train(job, Processes())
    commands = fine_tuning_lines(
        request.folder,
        plan.configuration,
        str(plan.plans.get("plans_name")),
        has_target_plans=request.plans is not None,
    )
    if processes is None or processes.is_first:
        write_card(request.folder, entry, config, seen, commands, n_steps=n_steps, made_with=made_with)
    return commands


def _announcement(request: Request, plan: NetworkPlan, seen: Survey, *, is_resumed: bool) -> list[str]:
    patch = " x ".join(map(str, plan.patch_size))
    length = f"{request.n_steps} steps" if request.n_steps is not None else f"{request.hours or HOURS:g} h"
    masks = "with masks" if request.use_masks else "without masks"
    refused = f", {seen.n_refused} refused" if seen.n_refused else ""
    seen_told = f"patches of {patch} voxels"
    if request.use_masks:
        seen_told += f" hold {seen.body_share:.0%} body; {seen.altered_share:.1%} of body and altered area are altered"
    lines = [
        f"{METHODS[request.method].title} {masks}, {length}{', resumed' if is_resumed else ''}: {request.folder}",
        f"{seen.n_volumes} volumes{refused}; {seen_told}",
    ]
    if choose_device(request.device).type == "cpu" and math.prod(plan.patch_size) > LARGE_ON_CPU:
        lines.append("no GPU is used: steps of such patches take minutes and many gigabytes; try --preset small first")
    return lines


def _train(job: Job, processes: Processes, address: str | None = None) -> int:
    """Train in this process, and write the checkpoint in the first one; return the number of steps."""
    request = job.request
    device = choose_device(request.device, processes)
    if address is not None:
        join(processes, device, address)
    torch.manual_seed(request.seed)
    method = build(request.method, job.options, job.plan, use_masks=request.use_masks)
    training = Training(method, device, uses_bf16(request.precision, device), processes)
    samples = Samples(job.volumes, method.sampler, request.seed)
    settings = LoopSettings(
        request.seed, job.plan.batch_size, workers=request.workers, checkpoint_s=request.checkpoint_s
    )
    try:
        with StopSignals() as signals, watching(signals.is_stopped, is_shown=processes.is_first) as watch:
            if load_state(request.folder) is None:
                training.begin(_length(training, samples, settings, request))
            train(training, samples, request.folder, settings, watch)
    except RuntimeError as error:
        if _LOADER_TEXT in str(error):
            raise WorkerKilledError("a loader process", "use a smaller --workers") from error
        if isinstance(error, torch.OutOfMemoryError) or _MEMORY_TEXT in str(error):
            raise MemoryShortError(device.type) from error
        raise
    if processes.is_first:
        _write_result(job, training)
    return training.n_steps


def _length(training: Training, samples: Samples, settings: LoopSettings, request: Request) -> int:
    """Return the number of steps; measure how long one takes where that matters, and say it."""
    if request.n_steps is not None and request.n_steps < MEASURED_FROM:
        return request.n_steps
    step_s = measure_step_s(training, samples, settings)
    n_steps = request.n_steps or max(1, int((request.hours or HOURS) * 3600 / step_s))
    if training.processes.is_first:
        memory = peak_memory_bytes(training.device) / 2**30
        kind = "GPU memory" if training.device.type == "cuda" else "memory of this process"
        number = "bfloat16" if training.bf16 else "float32"
        sys.stderr.write(
            f"{n_steps} steps of {step_s:.3g} s, {duration(n_steps * step_s)} in all; "
            f"on {training.device} in {number}, {memory:.1f} GiB {kind}\n"
        )
        sys.stderr.flush()
    return n_steps


def _write_result(job: Job, training: Training) -> None:
    request = job.request
    facts: dict[str, Plain] = {
        "method": request.method,
        "steps": training.n_steps,
        "batch": job.plan.batch_size,
        "masks": request.use_masks,
        "seed": request.seed,
        "volumes": len(job.volumes),
        "volumes_sha256": volumes_digest(job.volumes),
    }
    citation = METHODS[request.method].citation
    try:
        write_checkpoint(request.folder, training.method.network, job.plan, citations=[citation], facts=facts)
    except RuntimeError as error:
        if is_disk_full(error):
            raise DiskFullError(str(request.folder)) from error
        raise
