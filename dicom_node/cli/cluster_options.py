"""Options of the commands that can compute on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from dicom_node.cluster.address import ClusterChoice
    from dicom_node.cluster.connect import ComputeCluster
    from dicom_node.cluster.security import ClusterCredentials

ALLOW_PLAIN: Final = "--cluster-plain"

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="CLUSTER",
        help="Compute on Dask workers: local:N starts N here, slurm:N asks SLURM for N jobs, tls://HOST:PORT and "
        "tcp://HOST:PORT use a scheduler that runs. Needs the extra cluster.",
    ),
]
ClusterCa = Annotated[
    Path | None,
    typer.Option("--cluster-ca", metavar="FILE", help="PEM: authority of the cluster's certificates, for tls://."),
]
ClusterCert = Annotated[
    Path | None, typer.Option("--cluster-cert", metavar="FILE", help="PEM: certificate to show, for tls://.")
]
ClusterKey = Annotated[
    Path | None, typer.Option("--cluster-key", metavar="FILE", help="PEM: its private key, for tls://.")
]
ClusterPlain = Annotated[
    bool,
    typer.Option(ALLOW_PLAIN, help="Allow tcp:// to another machine: whoever reaches it runs anything there."),
]

GivenCluster = tuple["ClusterChoice", "ClusterCredentials"]


def cluster_of(
    given: str | None, ca: Path | None, certificate: Path | None, key: Path | None, *, may_be_plain: bool
) -> GivenCluster | None:
    """Return the cluster that the options name, if any."""
    if given is None:
        return None
    from dicom_node.cluster.address import parse_cluster
    from dicom_node.cluster.security import ClusterCredentials

    return parse_cluster(given), ClusterCredentials(ca, certificate, key, may_be_plain=may_be_plain)


@contextmanager
def cluster_for_run(given: GivenCluster) -> Iterator[ComputeCluster]:
    """Start or reach the cluster within the block, and say where Dask shows it."""
    from dicom_node.cluster.connect import open_cluster

    with open_cluster(*given, allow_plain=ALLOW_PLAIN) as cluster:
        if cluster.dashboard:
            typer.echo(f"Dask's dashboard: {cluster.dashboard}", err=True)
        yield cluster


@cache
def tell_refused(worker: str, reason: str) -> None:
    """Say once that a worker does not take part."""
    typer.echo(f"worker {worker}: {reason}", err=True)
