"""Run many tasks over a cluster: a few at a time for each worker, each again elsewhere if its worker dies."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dicom_node.cluster.errors import ClusterLostError, ClusterWorkerKilledError, NoWorkersError
from dicom_node.cluster.pool import FitWorker, Pool, ResultLostError, take_result

if TYPE_CHECKING:
    from distributed import Future

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD: Final = 2  # tasks of each worker: one is computed, the next one read
MAX_DEATHS: Final = 3  # of workers on one task, until it counts as their cause
LOOK_S: Final = 1.0  # between two looks at who is there
REFUSED_WAIT_S: Final = 10.0  # for a worker that may take part, while there are only others


@dataclass(frozen=True, slots=True)
class _Begun:
    index: int
    worker: FitWorker
    n_places: int  # of the worker's `AHEAD`


class Stream(Generic[Task, Result]):
    """One run of a function over many tasks.

    Parameters
    ----------
    function
        Importable on a worker; called with one task.
    task_of
        Returns the task with an index below ``n_tasks``; asked when it is begun, so that few exist at a time.
    wait_s
        How long there may be no worker at all; None for as long as it takes, as for jobs that queue.
    on_workers
        Told how many workers take part, when it changes.
    """

    def __init__(
        self,
        pool: Pool,
        function: Callable[[Task], Result],
        n_tasks: int,
        task_of: Callable[[int], Task],
        *,
        wait_s: float | None,
        on_workers: Callable[[int], None],
    ) -> None:
        self._pool = pool
        self._function = function
        self._task_of = task_of
        self._wait_s = wait_s
        self._on_workers = on_workers
        self._todo = deque(range(n_tasks))
        self._begun: dict[Future, _Begun] = {}
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._deaths: Counter[int] = Counter()
        self._n_workers = 0
        self._has_begun = False
        self._looked_at = -LOOK_S
        self._alone_since = time.monotonic()

    def results(self) -> Generator[tuple[int, Result | BaseException], None, None]:
        """Yield the index of each task with its result or its error, in the order in which they end.

        Raises
        ------
        NoWorkersError
            Nobody was there to work for ``wait_s``, or everybody there was refused; nothing was begun.
        ClusterLostError
            Later, the scheduler did not come back, or nobody was there to work for ``wait_s``.
        """
        try:
            while self._todo or self._begun:
                yield from self._look()
                self._begin()
                yield from self._end_next()
        finally:
            for future in self._begun:
                with suppress(OSError, RuntimeError):  # after an interrupt the client may be closed already
                    future.cancel()

    def _look(self) -> Iterator[tuple[int, Result | BaseException]]:
        """See who is there, and take back the tasks of those that are gone."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._pool.refresh()
        for future, begun in list(self._begun.items()):
            if self._pool.fit.get(begun.worker.address) is not begun.worker:
                del self._begun[future]
                yield from self._again(begun.index, is_death=self._pool.is_reached and future.status == "pending")
                future.cancel()
        if len(self._pool.fit) != self._n_workers:
            self._n_workers = len(self._pool.fit)
            self._on_workers(self._n_workers)
        self._check_for_workers(now)

    def _check_for_workers(self, now: float) -> None:
        if self._pool.fit or self._pool.is_deciding:
            self._alone_since = now
            return
        waited_s = now - self._alone_since
        limit_s = REFUSED_WAIT_S if self._pool.refused else self._wait_s
        if limit_s is None or waited_s < limit_s:
            return
        if self._has_begun:
            raise ClusterLostError(f"for {waited_s:.0f} s it has had no workers")
        raise NoWorkersError(waited_s, self._pool.refused)

    def _begin(self) -> None:
        while self._todo:
            # A task on which a worker died has the next one to itself, so that no other is blamed for it.
            n_places = AHEAD if self._deaths[self._todo[0]] else 1
            worker = self._pool.worker_with(n_places, AHEAD)
            if worker is None:
                return
            index = self._todo.popleft()
            self._has_begun = True
            worker.n_tasks += n_places
            future = self._pool.submit(worker, self._function, self._task_of(index))
            self._begun[future] = _Begun(index, worker, n_places)
            future.add_done_callback(self._ended.put)

    def _end_next(self) -> Iterator[tuple[int, Result | BaseException]]:
        """Wait a moment for a task to end."""
        from distributed import KilledWorker

        try:
            future = self._ended.get(timeout=LOOK_S if self._begun else 0.05)
        except Empty:
            return
        begun = self._begun.pop(future, None)
        if begun is None:  # its worker was given up before
            return
        begun.worker.n_tasks -= begun.n_places
        error = future.exception() if future.status == "error" else None
        if future.status == "finished":
            try:
                yield begun.index, take_result(future, lambda: self._is_there(begun.worker))
            except ResultLostError:  # it is done again, and nothing speaks for that it killed the worker
                yield from self._again(begun.index, is_death=False)
        elif error is None or isinstance(error, KilledWorker):
            yield from self._again(begun.index, is_death=error is not None)
        else:
            yield begun.index, error

    def _is_there(self, worker: FitWorker) -> bool:
        self._pool.refresh()
        return self._pool.fit.get(worker.address) is worker

    def _again(self, index: int, *, is_death: bool) -> Iterator[tuple[int, Result | BaseException]]:
        """Put a task back to the front, unless too many workers died on it."""
        self._deaths[index] += is_death
        if self._deaths[index] >= MAX_DEATHS:
            yield index, ClusterWorkerKilledError(MAX_DEATHS)
        else:
            self._todo.appendleft(index)
