"""Processes that write volumes; fewer than two means this process."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from dicom_node.datasets.errors import WorkerKilledError

Group = TypeVar("Group")
Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 2  # tasks for each process that are begun before their turn


def run_groups(
    groups: Iterable[tuple[Group, Sequence[Task]]], run: Callable[[Task], Result], *, workers: int
) -> Generator[tuple[Group, list[Result]], None, None]:
    """Run the tasks of groups in processes; yield each group with its results as soon as all before it are done.

    Groups are asked for as they are needed, never many at once.

    Raises
    ------
    WorkerKilledError
        A process was killed.
    """
    if workers < 2:
        for group, tasks in groups:
            yield group, [run(task) for task in tasks]
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([module_of(run)])
    waiting: deque[tuple[Group, list[Future[Result]]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupts) as pool:
        try:
            for group, tasks in groups:
                waiting.append((group, [pool.submit(run, task) for task in tasks]))
                while sum(len(futures) for _, futures in waiting) > _AHEAD * workers:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        except BrokenProcessPool as error:
            raise WorkerKilledError from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # after an interrupt or an error nothing more is begun


def module_of(function: Callable[..., object]) -> str:
    """Return the module of a function, also of one with some arguments given."""
    return str((function.func if isinstance(function, partial) else function).__module__)


def _finished(group: Group, futures: Sequence[Future[Result]]) -> tuple[Group, list[Result]]:
    return group, [future.result() for future in futures]


def _ignore_interrupts() -> None:
    """Let a process finish its volume when the user interrupts the command; the others are not begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
