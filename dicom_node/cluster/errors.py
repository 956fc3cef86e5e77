"""Errors of computing on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from dicom_node.errors import NodeError, Refused, Transient

_MAX_SHOWN = 5


class ClusterError(NodeError):
    """Base of the errors about a cluster."""

    code: ClassVar[str] = "cluster"


class ClusterMissingError(ClusterError, Refused):
    """What a cluster needs is not installed; arguments: the package."""

    code = "cluster-missing"

    def __init__(self, package: str) -> None:
        super().__init__(package)

    def __str__(self) -> str:
        return f"a cluster needs {self.args[0]}, which is not installed; pip install 'dicom-node[cluster]'"


class ClusterAddressError(ClusterError, Refused):
    """What was given names no cluster; arguments: what was given, what is wrong with it."""

    code = "cluster-address"

    def __init__(self, given: str, finding: str) -> None:
        super().__init__(given, finding)

    def __str__(self) -> str:
        given, finding = self.args
        return f"cluster {given!r}: {finding}; expected local:4, slurm:4, tls://HOST:PORT or tcp://HOST:PORT"


class ClusterPlaintextError(ClusterError, Refused):
    """The address is one of another machine, and without TLS; arguments: address, how to allow it."""

    code = "cluster-plaintext"

    def __init__(self, address: str, allow: str) -> None:
        super().__init__(address, allow)

    def __str__(self) -> str:
        address, allow = self.args
        return (
            f"{address}: without TLS, whoever reaches this port runs any program on the workers and reads the images; "
            f"use tls:// with certificates, or {allow} where nobody else reaches the network"
        )


class ClusterCertificateError(ClusterError, Refused):
    """A certificate or key for the cluster cannot be used; arguments: which, what is wrong."""

    code = "cluster-certificate"

    def __init__(self, what: str, finding: str) -> None:
        super().__init__(what, finding)

    def __str__(self) -> str:
        what, finding = self.args
        return f"{what}: {finding}; a tls:// cluster needs three PEM files, of the authority, the certificate, its key"


class ClusterUnreachableError(ClusterError, Transient):
    """The scheduler does not answer; arguments: address, reason."""

    code = "cluster-unreachable"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)

    def __str__(self) -> str:
        address, reason = self.args
        return f"{address}: no Dask scheduler answers ({reason}); check that it runs, and whether it uses TLS"


class NoWorkersError(ClusterError, Transient):
    """No worker of the cluster may take part; arguments: the waiting time in seconds, reasons by worker."""

    code = "no-workers"

    def __init__(self, waited_s: float, refused: Mapping[str, str]) -> None:
        super().__init__(waited_s, dict(refused))

    def __str__(self) -> str:
        waited_s, refused = self.args
        if not refused:
            return f"the cluster has no workers, also after {waited_s:.0f} s; start some, then run the command again"
        shown = "\n".join(f"worker {name}: {why}" for name, why in list(refused.items())[:_MAX_SHOWN])
        more = f"\nand {len(refused) - _MAX_SHOWN} more" if len(refused) > _MAX_SHOWN else ""
        return f"none of the cluster's workers may take part\n{shown}{more}"


class ClusterLostError(ClusterError, Transient):
    """The cluster went away in the middle of a run; arguments: what happened."""

    code = "cluster-lost"

    def __init__(self, finding: str) -> None:
        super().__init__(finding)

    def __str__(self) -> str:
        return f"the cluster was lost: {self.args[0]}; what was finished stays, run the same command again to go on"


class WorkerUnfitError(ClusterError, Refused):
    """A worker would compute something else; arguments: how it differs."""

    code = "worker-unfit"

    def __init__(self, differences: str) -> None:
        super().__init__(differences)

    def __str__(self) -> str:
        return f"not used: {self.args[0]}"


class ClusterWorkerKilledError(ClusterError, Transient):
    """Workers ended while they worked on this input; arguments: how often."""

    code = "cluster-worker-killed"

    def __init__(self, n_deaths: int) -> None:
        super().__init__(n_deaths)

    def __str__(self) -> str:
        n = self.args[0]
        return (
            f"{n} workers ended while they worked on this input, perhaps because memory ran out; give workers more "
            "memory, and run the command again"
        )
