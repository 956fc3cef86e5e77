"""Which cluster: started here, asked of a batch system, or running elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dicom_node.cluster.errors import ClusterAddressError

MAX_WORKERS = 10_000


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """Workers that are started on this machine, for this run."""

    n_workers: int


@dataclass(frozen=True, slots=True)
class SlurmJobs:
    """Workers that are jobs of SLURM, for this run; how each is asked for is in Dask's configuration."""

    n_jobs: int


@dataclass(frozen=True, slots=True)
class RunningScheduler:
    """A scheduler that runs already; what it computes for others is left alone."""

    url: str

    @property
    def is_encrypted(self) -> bool:
        """Whether the address asks for TLS."""
        return self.url.startswith("tls://")

    @property
    def host(self) -> str:
        """The scheduler's host name or address."""
        return urlsplit(self.url).hostname or ""


ClusterChoice = LocalWorkers | SlurmJobs | RunningScheduler


def parse_cluster(given: str) -> ClusterChoice:
    """Return the cluster that ``local:4``, ``slurm:4``, ``tls://host:8786`` or ``tcp://host:8786`` names.

    Raises
    ------
    ClusterAddressError
        It names none.
    """
    if match := re.fullmatch(r"(local|slurm)(?::(\d{1,5}))?", given):
        number = int(match[2] or "1")
        if not 1 <= number <= MAX_WORKERS:
            raise ClusterAddressError(given, f"{number} workers are wanted, from 1 to {MAX_WORKERS} are possible")
        return LocalWorkers(number) if match[1] == "local" else SlurmJobs(number)
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError as error:
        raise ClusterAddressError(given, str(error)) from error
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or port is None or parts.path.strip("/"):
        raise ClusterAddressError(given, "is no such address")
    return RunningScheduler(f"{parts.scheme}://{parts.netloc}")
