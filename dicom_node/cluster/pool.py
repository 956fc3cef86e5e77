"""The workers of a cluster that may take part, and how many tasks each has.

Tasks are given to a worker by name, never to the cluster as a whole: so a worker gets its first one only after it was
compared, none waits for a worker that is gone, and the scheduler holds a few tasks for each worker, however many
there are to do (docs/decisions/0160).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dicom_node.cluster.errors import ClusterLostError
from dicom_node.cluster.on_worker import WorkerFacts, introduce
from dicom_node.cluster.sameness import Wanted

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

TAKE_S: Final = 5.0  # to fetch a result from its worker, before it is asked whether the worker is still there
GPU: Final = "GPU"  # the resource that workers with a GPU are started with, as in Dask's own documentation


class ResultLostError(Exception):
    """A task had ended, and its worker is gone before the result was fetched from it."""


@dataclass(slots=True)
class FitWorker:
    """A worker that may take part."""

    address: str
    has_gpu: bool
    n_tasks: int = 0


class Pool:
    """The workers that may take part; not for several threads at once.

    Parameters
    ----------
    on_refused
        Told the name of a worker that may not take part, and why, once for each.
    """

    def __init__(self, client: Client, wanted: Wanted, on_refused: Callable[[str, str], None]) -> None:
        self._client = client
        self._wanted = wanted
        self._on_refused = on_refused
        self._asked: dict[str, tuple[bool, Future]] = {}
        self.fit: dict[str, FitWorker] = {}
        self.refused: dict[str, str] = {}
        self.is_reached = True

    @property
    def is_deciding(self) -> bool:
        """Whether some worker has not answered yet."""
        return bool(self._asked)

    def refresh(self) -> None:
        """Learn which workers there are; ask the new ones, forget those that are gone.

        Raises
        ------
        ClusterLostError
            The connection is closed for good. While Dask's client tries to connect again, nobody is there.
        """
        # Not Client.scheduler_info(): it hides errors, and returns what a periodic update without workers left there.
        try:
            present = self._client.sync(self._client.scheduler.identity, n_workers=-1)["workers"]
        except (OSError, AttributeError, RuntimeError) as error:  # what a client raises in each state of being lost
            if self._client.status in ("closing", "closed"):
                raise ClusterLostError("its scheduler does not answer") from error
            log.warning("scheduler does not answer", extra={"error": type(error).__name__})
            present = {}
            self.is_reached = False
        else:
            self.is_reached = True
        for known in (self.fit, self.refused, self._asked):
            for address in [address for address in known if address not in present]:
                del known[address]
        for address, facts in present.items():
            if address not in self.fit and address not in self.refused and address not in self._asked:
                self._asked[address] = (bool(facts.get("resources", {}).get(GPU)), self._ask(address))
        self._hear()

    def worker_with(self, n_places: int, of: int) -> FitWorker | None:
        """Return the worker with the fewest tasks, if so many of its places are free."""
        chosen = min(self._usable(), key=lambda worker: worker.n_tasks, default=None)
        return chosen if chosen is not None and chosen.n_tasks + n_places <= of else None

    def submit(self, worker: FitWorker, function: Callable[..., Any], *args: object) -> Future:
        """Give a worker a task; the caller counts it in ``n_tasks``."""
        return self._client.submit(
            function,
            *args,
            workers=[worker.address],
            resources={GPU: 1} if worker.has_gpu and self._wanted.device != "cpu" else None,
            pure=False,
            retries=0,
        )

    def _usable(self) -> list[FitWorker]:
        """Return the fit workers; only those with a GPU if there are any and one may be used."""
        with_gpu = [worker for worker in self.fit.values() if worker.has_gpu]
        return with_gpu if with_gpu and self._wanted.device != "cpu" else list(self.fit.values())

    def _ask(self, address: str) -> Future:
        return self._client.submit(introduce, self._wanted, workers=[address], pure=False, retries=0)

    def _hear(self) -> None:
        for address, (has_gpu, future) in list(self._asked.items()):
            if not future.done():
                continue
            del self._asked[address]
            if future.status == "finished":
                try:
                    facts: WorkerFacts = take_result(future, lambda: False)
                except ResultLostError:
                    continue
                reason = facts.unfit
            elif future.status == "error":  # the package is not there, or so old that it knows no such question
                error = future.exception()
                reason = f"cannot run dicom-node {dict(self._wanted.versions)['dicom-node']} ({error})"
            else:
                continue  # lost with its worker or the scheduler; whoever is there is asked again
            if reason is None:
                self.fit[address] = FitWorker(address, has_gpu)
                log.info("worker takes part", extra={"worker": address, "has_gpu": has_gpu})
            else:
                self.refused[address] = reason
                self._on_refused(address, reason)


def take_result(future: Future, is_there: Callable[[], bool]) -> Any:  # noqa: ANN401 - whatever the task returned
    """Return the result of a task that has ended; it lies on the worker until it is fetched.

    Parameters
    ----------
    is_there
        Whether the worker is still there; asked every `TAKE_S`, because Dask's client would wait for ever.

    Raises
    ------
    ResultLostError
        The worker or the scheduler is gone.
    """
    while True:
        try:
            return future.result(timeout=TAKE_S)
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            raise ResultLostError from error
        except TimeoutError as error:
            if not is_there():
                raise ResultLostError from error
