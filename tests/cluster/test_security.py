"""Who may connect to a cluster: a real scheduler with TLS, and callers with good, wrong and no certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.cluster import connect
from dicom_node.cluster.address import RunningScheduler
from dicom_node.cluster.connect import open_cluster
from dicom_node.cluster.errors import (
    ClusterCertificateError,
    ClusterPlaintextError,
    ClusterUnreachableError,
)
from dicom_node.cluster.sameness import as_here
from dicom_node.cluster.security import ClusterCredentials, security_for
from tests.certificates import Authority
from tests.cluster.dask_processes import DaskProcesses
from tests.cluster.tasks import Step, take


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def tls_dask(tmp_path: Path, authority: Authority) -> Iterator[DaskProcesses]:
    """A scheduler that speaks TLS only, and shows a certificate of the authority."""
    own = authority.issue("cluster")
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder, tls={"ca-file": authority.path, "cert": own.certificate, "key": own.key})
    try:
        processes.start_scheduler()
        yield processes
    finally:
        processes.stop()


def credentials(authority: Authority, ca: Path | None = None) -> ClusterCredentials:
    pair = authority.issue("caller")
    return ClusterCredentials(ca or authority.path, pair.certificate, pair.key)


def test_certificates_of_the_clusters_authority_open_it_and_others_do_not(
    tls_dask: DaskProcesses, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_dask.start_worker()
    scheduler = RunningScheduler(tls_dask.url)
    with open_cluster(scheduler, credentials(authority), allow_plain="") as cluster:
        ended = cluster.run(
            take, 1, lambda _: Step(tmp_path, "one"), as_here(), on_refused=pytest.fail, on_workers=lambda _: None
        )
        assert [str(result).split()[0] for _, result in ended] == ["one"]

    monkeypatch.setattr(connect, "CONNECT_S", 2.0)
    other = Authority(tmp_path / "other", "other")
    strangers = {
        "a certificate of another authority": (scheduler, credentials(other, ca=authority.path)),
        "the cluster is not of our authority": (scheduler, credentials(authority, ca=other.path)),
        "without TLS": (RunningScheduler(tls_dask.url.replace("tls:", "tcp:")), ClusterCredentials()),
    }
    for name, (address, shown) in strangers.items():
        with (
            pytest.raises(ClusterUnreachableError, match="no Dask scheduler answers"),
            open_cluster(address, shown, allow_plain=""),
        ):
            pytest.fail(name)


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "tcp://head.example.org:8786", "tcp://0.0.0.0:8786"])
def test_another_machine_is_not_called_without_tls_unless_that_is_allowed(address: str) -> None:
    with pytest.raises(ClusterPlaintextError, match=r"runs any program on the workers .* or ALLOW where nobody else"):
        security_for(RunningScheduler(address), ClusterCredentials(), allow="ALLOW")

    assert security_for(RunningScheduler(address), ClusterCredentials(may_be_plain=True), allow="ALLOW") is None


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786"])
def test_this_machine_may_be_called_without_tls(address: str) -> None:
    assert security_for(RunningScheduler(address), ClusterCredentials(), allow="ALLOW") is None


def test_files_that_cannot_be_used_are_named_before_anything_is_called(authority: Authority, tmp_path: Path) -> None:
    scheduler = RunningScheduler("tls://192.0.2.1:8786")
    good = credentials(authority)
    another = authority.issue("another")
    (tmp_path / "text.pem").write_text("no certificate")
    wrong = {
        r"CA file: .*nowhere\.pem is no file": ClusterCredentials(
            tmp_path / "nowhere.pem", good.certificate_file, good.key_file
        ),
        r"CA file: .*text\.pem holds no certificate": ClusterCredentials(
            tmp_path / "text.pem", good.certificate_file, good.key_file
        ),
        r"key file: is not named": ClusterCredentials(authority.path, good.certificate_file),
        r"caller\.pem and .*another\.key do not fit": ClusterCredentials(
            authority.path, good.certificate_file, another.key
        ),
    }
    for said, shown in wrong.items():
        with pytest.raises(ClusterCertificateError, match=said):
            security_for(scheduler, shown, allow="")
