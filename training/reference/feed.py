"""Samples from a process of their own, kept in a reservoir so that simulation never holds up a step."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
from collections import deque
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch

from training.cohort import load_cohort
from training.samples import Sample, draw_samples

log = logging.getLogger(__name__)
Group = list[Sample]


def draw_forever(data: Path, work: Path, seed: int, first: int, groups: Queue[Group]) -> None:
    """Put sample groups number ``first``, ``first`` + 1 and so on of ``seed`` into the queue."""
    os.setsid()  # a scheduling group of its own: simulation must not take the steps' share of a busy machine
    torch.set_num_threads(1)
    cohort = load_cohort(data, work, frozenset({"train"}))
    number = first
    while True:
        rng = np.random.default_rng([seed, number])
        try:
            group = draw_samples(cohort, rng)
        except (ValueError, IndexError, ZeroDivisionError):
            log.exception("sample %d of seed %d could not be drawn", number, seed)
        else:
            _put(groups, group)
        number += 1


def _put(groups: Queue[Group], group: Group) -> None:
    """Wait for room in the queue, and end with the process that reads it."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        try:
            groups.put(group, timeout=10)
        except queue.Full:
            continue
        return
    raise SystemExit


class Reservoir:
    """The last drawn groups; batches are taken from it at random and with repetition."""

    def __init__(self, data: Path, work: Path, *, seed: int, first: int, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.queue: Queue[Group] = context.Queue(maxsize=6)
        self.worker = context.Process(target=draw_forever, args=(data, work, seed, first, self.queue), daemon=True)
        self.worker.start()
        self.groups: deque[Group] = deque(maxlen=size)
        self.n_drawn = first
        self.rng = np.random.default_rng([seed, first, 1])

    def refill(self, *, at_least: int = 0) -> None:
        """Take what is ready; wait until ``at_least`` groups are there."""
        while True:
            try:
                self.groups.append(self.queue.get(block=len(self.groups) < at_least, timeout=600))
                self.n_drawn += 1
            except queue.Empty:
                return

    def batch(self, size: int, *, paired: bool) -> list[Sample]:
        """``size`` samples: a defaced head and the same one intact or stripped when ``paired``, else of any draws."""
        chosen: list[Sample] = []
        while len(chosen) < size:
            group = self.groups[self.rng.integers(len(self.groups))]
            if paired:
                chosen.append(group[0])
                if len(group) > 1:
                    chosen.append(group[self.rng.integers(1, len(group))])
            else:
                chosen.append(group[self.rng.integers(len(group))])
        return chosen[:size]
