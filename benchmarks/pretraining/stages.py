"""Order the work of the benchmark: every start and its learning rate, then run after run, in a pool of processes."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.pretraining.cases import LabelHeads, read_label_heads
from benchmarks.pretraining.heads import read_heads
from benchmarks.pretraining.protocol import PERMUTED_FROM, PRETRAINED, Protocol, Start
from benchmarks.pretraining.starts import permute, pretrain, supervise
from benchmarks.pretraining.tuning import choose_rate, tune


@dataclass(frozen=True, slots=True)
class _Prepared:
    checkpoint: Path | None
    rate: float


def start_worker() -> None:
    """Let a process of the pool use one thread, and log."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)


def run_all(protocol: Protocol, data: Path, work: Path, pool: Executor) -> None:
    """Make all starts and choose a rate for each, then run seed by seed."""
    start_worker()
    heads = read_label_heads(data, work, protocol)
    for split in ("train", "val"):
        read_heads(data, work, split)  # the workers read what is kept
    longest_first = (*PRETRAINED, Start.SUPERVISED, Start.SCRATCH)
    chosen = {start: pool.submit(_prepare_start, start, protocol, data, heads, work) for start in longest_first}
    chosen[PERMUTED_FROM].result()
    chosen[Start.PERMUTED] = pool.submit(_prepare_start, Start.PERMUTED, protocol, data, heads, work)
    starts = {start: future.result() for start, future in chosen.items()}
    runs = [
        pool.submit(tune, start, starts[start].checkpoint, heads, protocol, work, seed=seed, rate=starts[start].rate)
        for seed in protocol.seeds
        for start in Start
    ]
    for run in runs:
        run.result()


def _prepare_start(start: Start, protocol: Protocol, data: Path, heads: LabelHeads, work: Path) -> _Prepared:
    match start:
        case Start.SCRATCH:
            checkpoint = None
        case Start.SUPERVISED:
            checkpoint = supervise(protocol, heads.control, work)
        case Start.PERMUTED:
            checkpoint = permute(work / "starts" / PERMUTED_FROM.value, protocol, work)
        case _:
            checkpoint = pretrain(start, protocol, data, work)
    return _Prepared(checkpoint, choose_rate(start, checkpoint, heads, protocol, work))
