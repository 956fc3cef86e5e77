"""Start or reach a cluster, and leave it: what was started for a run ends with it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from dicom_node.cluster.address import ClusterChoice, LocalWorkers, RunningScheduler, SlurmJobs
from dicom_node.cluster.errors import ClusterAddressError, ClusterMissingError, ClusterUnreachableError
from dicom_node.cluster.sameness import Wanted
from dicom_node.cluster.security import ClusterCredentials, security_for

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster as DaskCluster
    from distributed.security import Security

Task = TypeVar("Task")
Result = TypeVar("Result")

CONNECT_S: Final = 30.0
NOBODY_S: Final = 120.0  # without any worker, for clusters whose workers do not have to queue
LOCAL_THREADS: Final = 2  # of each worker: one computes, one reads ahead, as in a run without a cluster
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ComputeCluster:
    """A cluster for the time of a run.

    Attributes
    ----------
    dashboard
        URL of Dask's own page on it; empty if there is none.
    is_here
        Whether its workers run on this machine, in this directory.
    wait_s
        How long there may be no worker; None for as long as it takes.
    """

    client: Client
    dashboard: str
    is_here: bool
    wait_s: float | None

    def run(
        self,
        function: Callable[[Task], Result],
        n_tasks: int,
        task_of: Callable[[int], Task],
        wanted: Wanted,
        *,
        on_refused: Callable[[str, str], None],
        on_workers: Callable[[int], None],
    ) -> Generator[tuple[int, Result | BaseException], None, None]:
        """Run a function over tasks; yield the index of each with its result or error, as they end.

        Close the generator before the cluster: it then takes back the tasks that have not ended.

        Raises
        ------
        NoWorkersError
            Nobody is there to work, or everybody there was refused.
        """
        from dicom_node.cluster.pool import Pool
        from dicom_node.cluster.stream import Stream

        pool = Pool(self.client, wanted, on_refused)
        return Stream(pool, function, n_tasks, task_of, wait_s=self.wait_s, on_workers=on_workers).results()


@contextmanager
def open_cluster(
    choice: ClusterChoice, credentials: ClusterCredentials, *, allow_plain: str
) -> Iterator[ComputeCluster]:
    """Start or reach the cluster for the time of the block.

    Parameters
    ----------
    allow_plain
        What a person types to allow another machine's address without TLS.

    Raises
    ------
    ClusterError
        It cannot be started or reached, or may not be called like this.
    """
    require_dask()
    _set_up_dask()
    if isinstance(choice, RunningScheduler):
        with connected(choice.url, security_for(choice, credentials, allow=allow_plain)) as client:
            yield ComputeCluster(client, _dashboard(client), is_here=False, wait_s=NOBODY_S)
        return
    with _started(choice) as cluster, connected(cluster, cluster.security) as client:
        is_here = isinstance(choice, LocalWorkers)
        yield ComputeCluster(client, _dashboard(client), is_here, wait_s=NOBODY_S if is_here else None)


def require_dask() -> None:
    """Raise ClusterMissingError unless the extra ``cluster`` is installed."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ClusterMissingError(str(error.name)) from error


@contextmanager
def connected(scheduler: str | DaskCluster, security: Security | None) -> Iterator[Client]:
    """Be a client of a scheduler within the block.

    Raises
    ------
    ClusterUnreachableError
        It does not answer.
    """
    from distributed import Client

    try:
        client = Client(scheduler, security=security, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        address = scheduler if isinstance(scheduler, str) else scheduler.scheduler_address
        raise ClusterUnreachableError(address, type(error).__name__) from error
    try:
        yield client
    finally:
        client.close(timeout=5)


@contextmanager
def _started(choice: LocalWorkers | SlurmJobs) -> Iterator[DaskCluster]:
    cluster = _local(choice.n_workers) if isinstance(choice, LocalWorkers) else _slurm(choice.n_jobs)
    try:
        yield cluster
    finally:
        cluster.close(timeout=10)


def _local(n_workers: int) -> DaskCluster:
    """Start workers here; TLS with certificates of this run keeps the machine's other users out."""
    from distributed import LocalCluster
    from distributed.security import Security

    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=LOCAL_THREADS,
        processes=True,
        host=_LOOPBACK,
        protocol="tls://",
        security=Security.temporary(),
        dashboard_address=f"{_LOOPBACK}:0",
        memory_limit=None,  # a volume takes what it takes, as without a cluster
        silence_logs=logging.ERROR,
    )


def _slurm(n_jobs: int) -> DaskCluster:
    """Ask SLURM for workers; queue, cores, memory and time are in Dask's configuration (jobqueue.slurm)."""
    import dask

    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise ClusterMissingError(str(error.name)) from error
    if shutil.which("sbatch") is None:
        raise ClusterAddressError("slurm", "sbatch is not installed here; run the command where jobs are submitted")
    asked = dask.config.get("jobqueue.slurm", {})
    missing = [key for key in ("cores", "memory") if not asked.get(key)]
    if missing:
        finding = f"Dask's configuration does not say jobqueue.slurm.{missing[0]}, in ~/.config/dask/jobqueue.yaml"
        raise ClusterAddressError("slurm", finding)
    cluster = SLURMCluster(
        protocol="tls://",
        security=True,  # certificates for this run; jobs read them from a shared folder closed to others
        shared_temp_directory=asked.get("shared-temp-directory") or "~",
        scheduler_options={"dashboard_address": f"{_LOOPBACK}:0", **asked.get("scheduler-options", {})},
        silence_logs="error",
    )
    cluster.scale(jobs=n_jobs)
    return cluster


def _set_up_dask() -> None:
    """Keep Dask's log to what no message of ours says, and its sampling profiler off: a task takes seconds."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")  # of workers that are started here
    import dask

    dask.config.set({"distributed.worker.profile.enabled": False})
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def _dashboard(client: Client) -> str:
    try:
        import bokeh  # noqa: F401 - without it Dask serves no page
    except ImportError:
        return ""
    return client.dashboard_link or ""


def n_local_threads(n_workers: int) -> int:
    """Return how many threads each local worker's models get, so that all cores are used once."""
    return max(1, len(os.sched_getaffinity(0)) // n_workers)
