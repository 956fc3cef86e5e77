"""A cluster that computes a node's jobs: one task at a time for each thread, which waits for it.

One thread keeps the connection and looks who is there; it connects again as often as it takes.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from dicom_node.cluster.address import RunningScheduler
from dicom_node.cluster.connect import connected
from dicom_node.cluster.errors import ClusterError, ClusterLostError, ClusterWorkerKilledError
from dicom_node.cluster.pool import FitWorker, Pool, ResultLostError, take_result
from dicom_node.cluster.sameness import Wanted
from dicom_node.cluster.security import ClusterCredentials, security_for
from dicom_node.cluster.stream import AHEAD, LOOK_S
from dicom_node.logs import RepeatedFailure

if TYPE_CHECKING:
    from distributed import Future

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

AGAIN_S: Final = 5.0  # between two attempts to reach the scheduler

Told = tuple[str, float | None]  # a stage, and the share of it that is done


class Crew:
    """The workers of a scheduler, for the time of the ``with`` block.

    Raises
    ------
    ClusterPlaintextError, ClusterCertificateError
        The scheduler may not be called like this. That it does not answer is no error: it may be back later.
    """

    def __init__(
        self, scheduler: RunningScheduler, credentials: ClusterCredentials, wanted: Wanted, *, allow_plain: str
    ) -> None:
        self._scheduler = scheduler
        self._security = security_for(scheduler, credentials, allow=allow_plain)
        self._wanted = wanted
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._topic = f"dicom-node-{uuid.uuid4().hex}"
        self._told: dict[str, Told] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="cluster", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(2 * LOOK_S)

    @property
    def n_workers(self) -> int:
        """How many workers may take part at the moment."""
        with self._lock:
            return 0 if self._pool is None else len(self._pool.fit)

    def has_place(self) -> bool:
        """Return whether a worker could begin a task."""
        with self._lock:
            return self._pool is not None and self._pool.worker_with(1, AHEAD) is not None

    def compute(
        self, function: Callable[[Task, str, str], Result], task: Task, *, on_told: Callable[[Told | None], None]
    ) -> Result:
        """Let a worker compute ``function(task, topic, key)``; return its result or raise its error.

        Parameters
        ----------
        function
            Importable on a worker. What it logs under the topic, as ``(key, stage, share)``, is passed on.
        on_told
            Called about every second, with what the worker said last; whatever it raises gives the task up.

        Raises
        ------
        ClusterWorkerKilledError
            The worker ended.
        ClusterLostError
            The scheduler ended.
        """
        key = uuid.uuid4().hex
        pool, worker = self._take_place(lambda: on_told(None))
        future: Future | None = None
        try:
            with self._lock:
                future = pool.submit(worker, function, task, self._topic, key)
            result: Result = self._await(pool, worker, future, lambda: on_told(self._told.get(key)))
            return result
        finally:
            if future is not None:
                future.cancel()
            with self._lock:
                worker.n_tasks -= 1
                self._told.pop(key, None)

    def _take_place(self, poll: Callable[[], None]) -> tuple[Pool, FitWorker]:
        while True:
            with self._lock:
                worker = None if self._pool is None else self._pool.worker_with(1, AHEAD)
                if self._pool is not None and worker is not None:
                    worker.n_tasks += 1
                    return self._pool, worker
            poll()
            self._stopping.wait(LOOK_S)

    def _await(self, pool: Pool, worker: FitWorker, future: Future, poll: Callable[[], None]) -> Any:  # noqa: ANN401
        def is_there() -> bool:
            with self._lock:
                return pool is self._pool and pool.fit.get(worker.address) is worker

        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        while not ended.wait(LOOK_S):
            poll()
            if not is_there() and not ended.is_set():
                raise ClusterWorkerKilledError(1) if pool is self._pool and pool.is_reached else _lost()
        if future.status == "error":
            raise future.exception()
        if future.status != "finished":
            raise _lost()
        try:
            return take_result(future, is_there)
        except ResultLostError as error:
            raise _lost() from error

    def _look_after(self) -> None:
        failure = RepeatedFailure(log, "no cluster; tried again", "the cluster is reached again")
        while not self._stopping.is_set():
            try:
                with ExitStack() as leave:
                    client = leave.enter_context(connected(self._scheduler.url, self._security))
                    client.subscribe_topic(self._topic, self._hear)
                    pool = Pool(client, self._wanted, _tell_refused)
                    leave.callback(self._forget)
                    failure.worked()
                    self._look_on(pool)
            except ClusterError as error:
                failure.failed(error)
            except Exception as error:  # noqa: BLE001 - the thread survives whatever Dask raises
                failure.failed(error)
            self._stopping.wait(AGAIN_S)

    def _look_on(self, pool: Pool) -> None:
        while not self._stopping.is_set():
            with self._lock:
                pool.refresh()
                self._pool = pool
            self._stopping.wait(LOOK_S)

    def _forget(self) -> None:
        with self._lock:
            self._pool = None

    def _hear(self, event: tuple[float, tuple[str, str, float | None]]) -> None:
        _, (key, stage, share) = event
        self._told[key] = (stage, share)


def _lost() -> ClusterLostError:
    return ClusterLostError("its scheduler does not answer")


def _tell_refused(worker: str, reason: str) -> None:
    log.error("worker refused", extra={"worker": worker, "reason": reason})
