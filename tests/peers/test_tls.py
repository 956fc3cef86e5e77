"""The node calls peers with TLS: whom it trusts, what it shows of itself, and what each failure says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dicom_node.dimse import DimseServer
from dicom_node.failures import ErrorKind, classify
from dicom_node.peers import check_peer, deliver
from dicom_node.settings import DimsePeer, DimseSettings, PeerTlsSettings
from dicom_node.store import Store
from tests.certificates import Authority, Pair, self_signed
from tests.factories import ct_series
from tests.new_store import NewStore
from tests.peer_servers import free_port, orthanc_tls_settings, start_orthanc, start_storescp
from tests.peers.objects import to_send


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "peer") as opened:
        yield opened


@contextmanager
def listening(store: Store, own: Pair, authority: Authority) -> Iterator[int]:
    """A peer that wants certificates of the authority; gives its port for TLS."""
    tls = {"port": 0, "certificate_file": own.certificate, "key_file": own.key, "ca_file": authority.path}
    settings = DimseSettings(host="127.0.0.1", port=0, plain=False, tls=tls)
    with DimseServer(store, settings, ae_title="PEER") as server:
        yield server.tls_port


def peer(port: int, authority: Authority, own: Pair | None = None, **tls: object) -> DimsePeer:
    shown = {} if own is None else {"certificate_file": own.certificate, "key_file": own.key}
    settings = PeerTlsSettings(**({"ca_file": authority.path} | shown | tls))
    return DimsePeer(name="pacs", ae_title="PEER", host="127.0.0.1", port=port, tls=settings)


def test_a_peer_with_the_right_certificate_answers(store: Store, authority: Authority) -> None:
    with listening(store, authority.issue("pacs"), authority) as port:
        assert check_peer(peer(port, authority, authority.issue("node")), calling_ae_title="NODE") is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda authority: authority.expired(), "the peer's certificate has expired; have it renewed"),
        (lambda authority: self_signed(authority.folder), "is self-signed and not in ca_file; add this certificate"),
        (
            lambda authority: Authority(authority.folder, "stranger").issue("other"),
            "comes from an authority that is not in ca_file",
        ),
        (
            lambda authority: authority.issue("elsewhere", host_names=("elsewhere.example.org",)),
            "is not for the expected IP address; set tls.host_name",
        ),
    ],
    ids=["expired", "self-signed", "other-authority", "other-host"],
)
def test_a_peer_with_a_certificate_that_does_not_fit_gets_nothing(
    store: Store, authority: Authority, make: Callable[[Authority], Pair], says: str
) -> None:
    with listening(store, make(authority), authority) as port:
        error = check_peer(peer(port, authority, authority.issue("node")), calling_ae_title="NODE")
    assert error is not None
    assert (classify(error), error.code) == (ErrorKind.TRANSIENT, "tls-failed")
    assert says in str(error)


def test_the_settings_may_name_the_host_in_the_certificate(store: Store, authority: Authority) -> None:
    own, name = authority.issue("pacs", host_names=("pacs.example.org",)), "pacs.example.org"
    with listening(store, own, authority) as port:
        node = authority.issue("node")
        assert check_peer(peer(port, authority, node, host_name=name), calling_ae_title="NODE") is None
        other = check_peer(peer(port, authority, node, host_name="other.example.org"), calling_ae_title="NODE")
    assert "is not for the expected host name" in str(other)


def test_a_single_certificate_can_be_trusted_by_itself(store: Store, authority: Authority) -> None:
    own = self_signed(authority.folder)
    with listening(store, own, authority) as port:
        trusting = peer(port, authority, authority.issue("node"), ca_file=own.certificate)
        assert check_peer(trusting, calling_ae_title="NODE") is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda authority: None, "wants a certificate of ours and has got none"),
        (lambda authority: authority.expired("old"), "the peer says that our certificate has expired"),
        (lambda authority: self_signed(authority.folder, "own"), "the peer does not know the authority"),
    ],
    ids=["none", "expired", "self-signed"],
)
def test_a_peer_that_does_not_accept_our_certificate_is_quoted(
    store: Store, authority: Authority, make: Callable[[Authority], Pair | None], says: str
) -> None:
    with listening(store, authority.issue("pacs"), authority) as port:
        error = check_peer(peer(port, authority, make(authority)), calling_ae_title="NODE")
    assert error is not None
    assert error.code == "tls-failed"
    assert says in str(error)


def test_a_missing_key_is_named_and_nothing_is_sent(store: Store, authority: Authority) -> None:
    own = authority.issue("node")
    own.key.unlink()
    error = check_peer(peer(free_port(), authority, own), calling_ae_title="NODE")
    assert error is not None
    assert str(error) == f"peer pacs: peers.pacs.tls.key_file: {own.key}: no such file; tried again later"


def test_a_peer_without_tls_is_named(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def abort_in_plain() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(bytes.fromhex("07000000000400000000"))

        thread = threading.Thread(target=abort_in_plain)
        thread.start()
        error = check_peer(peer(listener.getsockname()[1], authority), calling_ae_title="NODE")
        thread.join()
    assert "the peer does not use TLS" in str(error)


def test_a_peer_that_drips_its_handshake_is_left_in_time(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16384 bytes begins
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"\0")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        error = check_peer(peer(listener.getsockname()[1], authority), calling_ae_title="NODE", timeout_s=1.0)
        stop.set()
        thread.join()
    assert "the handshake was not complete within 1 s" in str(error)


@pytest.mark.peers
def test_storescp_gets_what_is_sent_with_tls(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("storescp")
    options = ("+tls", own.key, own.certificate, "+cf", authority.path)
    with start_storescp(tmp_path, tls_options=options) as server:
        node = authority.issue("node")
        to = peer(server.port, authority, node).model_copy(update={"ae_title": server.ae_title})
        outcomes = deliver(to, to_send(ct_series(n_slices=3)), calling_ae_title="NODE")
        stranger = peer(server.port, authority, self_signed(authority.folder))
        refused = deliver(stranger, to_send(ct_series(n_slices=1)), calling_ae_title="NODE")
        assert len(list(server.folder.iterdir())) == 3
    assert all(outcome.is_delivered for outcome in outcomes)
    assert {outcome.error.code for outcome in refused if outcome.error is not None} == {"tls-failed"}


@pytest.mark.peers
def test_orthanc_gets_what_is_sent_with_tls(tmp_path: Path, authority: Authority) -> None:
    settings = orthanc_tls_settings(authority.issue("orthanc"), authority)
    with start_orthanc(tmp_path, settings=settings) as orthanc:
        to = peer(orthanc.port, authority).model_copy(update={"ae_title": orthanc.ae_title})
        outcomes = deliver(to, to_send(ct_series(n_slices=3)), calling_ae_title="NODE")
        assert len(httpx.get(f"{orthanc.url}/instances", trust_env=False).json()) == 3
    assert all(outcome.is_delivered for outcome in outcomes)
