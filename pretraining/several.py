"""Work in several processes on this machine: start them, pass on signals, hand back what they return or raise."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Final, Self

import torch

from pretraining.devices import Processes, leave
from pretraining.errors import PretrainingError, StoppedError, WorkerKilledError

_FAILED: Final = 3  # exit code of a process whose error is in the queue
_GRACE_S: Final = 5.0  # for the others to end after one has failed

Work = Callable[[Processes, str], int]  # with its place and the address to meet at


def in_processes(work: Work, n_processes: int) -> int:
    """Return what ``work`` returns in each of the processes.

    Parameters
    ----------
    work
        Pickles; is called in each process, and returns the same number in each.

    Raises
    ------
    PretrainingError
        What one of them raised; ``WorkerKilledError`` if a signal ended one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    answers: SimpleQueue[Any] = context.SimpleQueue()
    places = [Processes(rank, n_processes, rank) for rank in range(n_processes)]
    processes = [context.Process(target=_begin, args=(work, place, address, answers)) for place in places]
    for process in processes:
        process.start()
    with _PassedOn(processes):
        try:
            return _wait(processes, answers)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _wait(processes: Sequence[SpawnProcess], answers: SimpleQueue[Any]) -> int:
    living: dict[Any, SpawnProcess] = {process.sentinel: process for process in processes}
    number, error = 0, None
    # A process that was stopped is waited for: the first one may still be saving the state.
    while living and (error is None or isinstance(error, StoppedError)):
        for sentinel in wait(list(living)):
            process = living.pop(sentinel)
            process.join()
            while not answers.empty():
                answer = answers.get()
                number, error = (answer, error) if isinstance(answer, int) else (number, error or answer)
            if process.exitcode not in (0, _FAILED) and error is None:
                error = WorkerKilledError("a process that trains", "use fewer --devices")
    if error is not None:
        wait(list(living), _GRACE_S)
        raise error
    return number


def _begin(work: Work, place: Processes, address: str, answers: SimpleQueue[Any]) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // place.size))
    try:
        answers.put(work(place, address))
    except PretrainingError as error:
        answers.put(error)
        sys.exit(_FAILED)
    except Exception as error:  # noqa: BLE001 - handed to the process that waits, which reports it
        answers.put(RuntimeError(f"{type(error).__name__} in process {place.rank}\n{traceback.format_exc()}"))
        sys.exit(_FAILED)
    finally:
        leave()


class _PassedOn:
    """While entered, SIGTERM goes to the processes. A terminal sends SIGINT to them too, so the first is theirs."""

    def __init__(self, processes: Sequence[SpawnProcess]) -> None:
        self._processes = processes
        self._is_interrupted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number, handler in ((signal.SIGTERM, self._terminate), (signal.SIGINT, self._interrupt)):
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        for process in self._processes:
            process.terminate()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_interrupted:
            raise KeyboardInterrupt
        self._is_interrupted = True
