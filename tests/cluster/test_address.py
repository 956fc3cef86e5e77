"""Which cluster is meant."""

from __future__ import annotations

import pytest

from dicom_node.cluster.address import ClusterChoice, LocalWorkers, RunningScheduler, SlurmJobs, parse_cluster
from dicom_node.cluster.errors import ClusterAddressError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("local:4", LocalWorkers(4)),
        ("local", LocalWorkers(1)),
        ("slurm", SlurmJobs(1)),
        ("slurm:16", SlurmJobs(16)),
        ("tls://head:8786", RunningScheduler("tls://head:8786")),
        ("tcp://[::1]:8786/", RunningScheduler("tcp://[::1]:8786")),
    ],
)
def test_what_names_a_cluster(given: str, meant: ClusterChoice) -> None:
    assert parse_cluster(given) == meant


@pytest.mark.parametrize(
    "given", ["", "4", "local:", "local:-1", "local:0", "http://head:8786", "tls://head", "tls://:8786", "tls://h:x"]
)
def test_what_names_none_is_refused_with_what_does(given: str) -> None:
    with pytest.raises(ClusterAddressError, match="expected local:4, slurm:4, tls://HOST:PORT or tcp://HOST:PORT"):
        parse_cluster(given)
