"""The simulating process: draw cases one by one and write their patches to a folder of limited size."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.cohort import load_cohort
from training.judge.cases import draw_case
from training.judge.heads import sort_heads
from training.judge.network import build_network
from training.judge.patches import draw_patches, load_coarse_networks, write_patches

log = logging.getLogger(__name__)

MOST_UNUSED = 1200  # patches not used yet, from which the simulation pauses; new cases help more than seen ones
WAITING_FILE = "waiting"  # number of patches not used yet, written by the training process
CHECKPOINT_FILE, CORE_FILE, COUNTER_FILE = "checkpoint.pt", "simulated_core_s", "next_case"
LEAST_STEPS, READ_EVERY_S = 300, 600.0  # training steps from which a checkpoint is used, and how often it is read
LARGEST_FOLDER = 4500  # patches in the folder, in case the training process does not delete old ones


def simulate(
    data: Path,
    cohort_folder: Path,
    work: Path,
    models: Path,
    *,
    seed: int,
    n_cases: int | None = None,
    left_out: frozenset[str] = frozenset(),
) -> int:
    """Write the patches of consecutive cases, starting after the last one; return the number of the next case.

    Ends when the parent process has ended, or after ``n_cases``. Tools that are ``left_out`` are not simulated.
    """
    torch.set_num_threads(1)
    folder = work / "patches"
    folder.mkdir(parents=True, exist_ok=True)
    heads = sort_heads(load_cohort(data, cohort_folder, frozenset({"train"})), cohort_folder / "geometry")
    networks = load_coarse_networks(models)
    counter = work / COUNTER_FILE
    number = int(counter.read_text("utf-8")) if counter.is_file() else 0
    judge, last_used = LatestJudge(work / CHECKPOINT_FILE), 0.0
    parent, last = os.getppid(), None if n_cases is None else number + n_cases
    while number != last and os.getppid() == parent:
        if n_cases is None and not has_room(folder, work / WAITING_FILE):
            time.sleep(2)
            continue
        rng = np.random.default_rng([seed, number])
        started_at = time.perf_counter()
        try:
            case = draw_case(heads, rng, left_out)
            drawn_s = time.perf_counter() - started_at
            patches = draw_patches(case, networks, rng, judge.network())
        except (ValueError, IndexError, ZeroDivisionError, FloatingPointError):
            log.exception("case %d of seed %d could not be drawn", number, seed)
        else:
            write_patches(patches, folder, f"{number:08d}")
            total_s = time.perf_counter() - started_at
            log.info("case %d %s %s drawn %.1f s, all %.1f s", number, case.kind, case.voxels.shape, drawn_s, total_s)
        number += 1
        _write(counter, str(number))
        used = time.process_time()
        _write(work / CORE_FILE, f"{simulated_core_s(work) + used - last_used:.1f}")
        last_used = used
    return number


def simulated_core_s(work: Path) -> float:
    """Return the CPU seconds of all simulation for a run."""
    path = work / CORE_FILE
    return float(path.read_text("utf-8")) if path.is_file() else 0.0


class LatestJudge:
    """The averaged network of the checkpoint, which is read again when it is newer."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._network: nn.Module | None = None
        self._read_at = 0.0

    def network(self) -> nn.Module | None:
        """Return the network; None before it was trained for ``LEAST_STEPS``."""
        written_at = self._checkpoint.stat().st_mtime if self._checkpoint.is_file() else 0.0
        if written_at > self._read_at + READ_EVERY_S:
            self._read_at = written_at
            state = torch.load(self._checkpoint, weights_only=True)
            if state["steps"] >= LEAST_STEPS:
                self._network = build_network()
                self._network.load_state_dict(state["average"])
                self._network.eval().to(memory_format=torch.channels_last_3d)
        return self._network


def has_room(folder: Path, waiting: Path) -> bool:
    """Whether patches are used as fast as they are written; the file ``waiting`` holds the number of unused ones."""
    n_waiting = int(waiting.read_text("utf-8") or 0) if waiting.is_file() else 0
    return n_waiting < MOST_UNUSED and sum(1 for _ in folder.glob("*.npy")) < LARGEST_FOLDER


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.replace(path)
