"""Threads that bring things at once share commits, and each gets its own answer in time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_node.store.group_commit import GroupCommit, Part


class Number(Part):
    def __init__(self, number: int, *, patience_s: float = 30.0) -> None:
        super().__init__(time.monotonic() + patience_s)
        self.number = number


def bring(group: GroupCommit[Number], part: Number) -> bool:
    if group.join(part):
        group.lead(part)
        return True
    return group.wait(part)


def settle_all(batch: Sequence[Number]) -> None:
    for part in batch:
        part.settle()


def run(commit: Callable[[Sequence[Number]], None], parts: Sequence[Number]) -> list[bool]:
    group = GroupCommit[Number](commit)
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(lambda part: bring(group, part), parts))


def test_every_part_is_committed_once_and_one_batch_at_a_time() -> None:
    committed: list[int] = []
    running = threading.Lock()

    def commit(batch: Sequence[Number]) -> None:
        assert running.acquire(blocking=False)
        time.sleep(random.random() / 500)
        committed.extend(part.number for part in batch)
        settle_all(batch)
        running.release()

    group = GroupCommit[Number](commit)

    def bring_many(first: int) -> None:
        for number in range(first, first + 50):
            part = Number(number)
            assert bring(group, part)
            assert part.is_settled

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(bring_many, range(0, 800, 50)))
    assert sorted(committed) == list(range(800))


def test_those_who_come_during_a_commit_share_the_next() -> None:
    sizes: list[int] = []
    all_there = threading.Event()

    def commit(batch: Sequence[Number]) -> None:
        if not sizes:
            all_there.wait(10)
            time.sleep(0.2)  # the last of them has joined, or is about to
        sizes.append(len(batch))
        settle_all(batch)

    group = GroupCommit[Number](commit)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(bring, group, Number(0))
        others = [pool.submit(bring, group, Number(number)) for number in range(1, 9)]
        all_there.set()
        assert first.result()
        assert all(other.result() for other in others)
    assert sizes == [1, 8]


def test_a_commit_that_raises_fails_its_batch_and_not_the_next() -> None:
    def commit(batch: Sequence[Number]) -> None:
        if batch[0].number == 0:
            raise RuntimeError("defect")
        settle_all(batch)

    group = GroupCommit[Number](commit)
    first = Number(0)
    with pytest.raises(RuntimeError, match="defect"):
        bring(group, first)
    assert isinstance(first.error, RuntimeError)
    second = Number(1)
    assert bring(group, second)
    assert second.error is None


def test_a_part_that_is_left_unsettled_goes_into_the_next_batch() -> None:
    seen: list[int] = []

    def commit(batch: Sequence[Number]) -> None:
        for part in batch:
            seen.append(part.number)
            if part.number != 2 or seen.count(2) == 3:
                part.settle()

    assert all(run(commit, [Number(number) for number in range(5)]))
    assert sorted(seen) == [0, 1, 2, 2, 2, 3, 4]


def test_a_part_that_nobody_takes_up_leaves_at_its_deadline_and_is_not_committed() -> None:
    may_end = threading.Event()
    committed: list[int] = []

    def commit(batch: Sequence[Number]) -> None:
        may_end.wait(10)
        committed.extend(part.number for part in batch)
        settle_all(batch)

    group = GroupCommit[Number](commit)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(bring, group, Number(0))
        while not group._has_leader:
            time.sleep(0.001)
        impatient = Number(1, patience_s=0.1)
        began = time.monotonic()
        assert not bring(group, impatient)
        assert 0.1 <= time.monotonic() - began < 5
        may_end.set()
        assert slow.result()
        assert bring(group, Number(2))
    assert committed == [0, 2]
