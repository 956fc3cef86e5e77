"""Draw samples in a separate process and keep them in a reservoir, so that training never waits for simulation.

References
----------
A. Shrivastava et al., Training region-based object detectors with online hard example mining, CVPR (2016).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import torch

from training.cohort import load_cohort
from training.samples import Sample, draw_samples

log = logging.getLogger(__name__)
Group = list[Sample]
EVEN_SHARE, LARGEST_SHARE = 0.01, 0.05  # of false positives in a patch: added to every weight, and its upper limit


def draw_forever(data: Path, work: Path, seed: int, first: int, groups: Queue[Group]) -> None:
    """Put sample groups ``first``, ``first`` + 1 and so on of ``seed`` into the queue, until the parent ends."""
    os.setsid()  # a separate scheduling group, so that simulation does not slow down training on a busy machine
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
    """Wait for room in the queue; end if the process that reads it has ended."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        try:
            groups.put(group, timeout=10)
        except queue.Full:
            continue
        return
    raise SystemExit


@dataclass(slots=True, eq=False)
class Drawn:
    """A group, and the share of its background that the network last labelled as anonymised."""

    samples: Group
    false_share: float = 0.0


class Reservoir:
    """The last drawn groups, from which batches are drawn at random with repetition.

    Groups with false positives are drawn more often (hard negatives): the weight of a group is its share of false
    positives when it was last used, within limits.
    """

    def __init__(self, data: Path, work: Path, *, seed: int, first: int, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.queue: Queue[Group] = context.Queue(maxsize=6)
        self.worker = context.Process(target=draw_forever, args=(data, work, seed, first, self.queue), daemon=True)
        self.worker.start()
        self.groups: deque[Drawn] = deque(maxlen=size)
        self.n_drawn = first
        self.rng = np.random.default_rng([seed, first, 1])

    def refill(self, *, at_least: int = 0) -> None:
        """Take all groups that are ready; wait until there are ``at_least`` groups."""
        while True:
            try:
                self.groups.append(Drawn(self.queue.get(block=len(self.groups) < at_least, timeout=600)))
                self.n_drawn += 1
            except queue.Empty:
                return

    def batch(self, size: int, *, paired: bool) -> tuple[list[Sample], list[Drawn]]:
        """Draw ``size`` samples; return them and the groups they come from.

        With ``paired``, each group contributes a defaced head and the same head intact or stripped, and hard groups are
        drawn more often. Otherwise all groups are equally likely and contribute one sample.
        """
        chosen: list[Sample] = []
        owners: list[Drawn] = []
        weights = np.array([EVEN_SHARE + min(group.false_share, LARGEST_SHARE) for group in self.groups])
        shares = weights / weights.sum() if paired else None
        while len(chosen) < size:
            group = self.groups[self.rng.choice(len(self.groups), p=shares)]
            taken = [0] if paired else [int(self.rng.integers(len(group.samples)))]
            if paired and len(group.samples) > 1:
                taken.append(int(self.rng.integers(1, len(group.samples))))
            chosen += [group.samples[index] for index in taken]
            owners += [group] * len(taken)
        return chosen[:size], owners[:size]


def remember(owners: Sequence[Drawn], false_shares: Sequence[float]) -> None:
    """Store the share of false positives of each group; the largest if it had several samples."""
    worst: dict[int, float] = {}
    for group, share in zip(owners, false_shares, strict=True):
        worst[id(group)] = max(share, worst.get(id(group), 0.0))
        group.false_share = worst[id(group)]
