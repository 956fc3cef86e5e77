"""Associations with TLS towards the node: who gets in, who does not, and what the log says of it."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dicom_node.dimse.connections import SPARE_PER_HOST
from tests.certificates import Authority, Pair, self_signed
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import associate_rq
from tests.factories import ct_series
from tests.peer_servers import run_tool

AES_CBC = "TLS_RSA_WITH_AES_128_CBC_SHA"  # the AES profile, retired


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def tls(authority: Authority) -> dict[str, object]:
    """Settings of a node that wants certificates of the authority."""
    own = authority.issue("node")
    return {"port": 0, "certificate_file": own.certificate, "key_file": own.key, "ca_file": authority.path}


@pytest.fixture
def tls_node(start_node: StartNode, tls: dict[str, object]) -> Iterator[ListeningNode]:
    with start_node(tls=tls) as node:
        yield node


@pytest.mark.peers
def test_a_plain_and_a_tls_port_take_associations_side_by_side(
    tls_node: ListeningNode, authority: Authority, tmp_path: Path
) -> None:
    plain, encrypted = list(ct_series(n_slices=2))
    for index, (instance, options, port) in enumerate(
        ((plain, (), tls_node.port), (encrypted, dcmtk(authority.issue("pacs"), authority), tls_node.server.tls_port))
    ):
        path = tmp_path / f"{index}.dcm"
        path.write_bytes(instance.part10)
        sent = run_tool("storescu", "-v", *options, "-aec", "NODE", "127.0.0.1", port, path)
        assert sent.returncode == 0, sent.stdout
    assert len(tls_node.instances()) == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda authority: authority.expired(), "the peer's certificate has expired"),
        (lambda authority: self_signed(authority.folder), "the peer's certificate is self-signed and not in ca_file"),
        (
            lambda authority: Authority(authority.folder, "stranger").issue("other"),
            "the peer's certificate comes from an authority that is not in ca_file",
        ),
    ],
    ids=["expired", "self-signed", "other-authority"],
)
@pytest.mark.peers
def test_a_requestor_with_a_certificate_that_nobody_should_trust_gets_no_association(
    tls_node: ListeningNode,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Authority], Pair],
    says: str,
) -> None:
    answer = echo(tls_node.server.tls_port, *dcmtk(make(authority), authority))
    assert answer.returncode != 0
    assert says in logged(caplog)


@pytest.mark.peers
def test_a_requestor_without_a_certificate_gets_in_only_if_the_settings_say_so(
    start_node: StartNode, tls: dict[str, object], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    anonymous = ("+tla", "+cf", authority.path)
    with start_node("strict", tls=tls) as node:
        assert echo(node.server.tls_port, *anonymous).returncode != 0
        assert "shows no certificate" in logged(caplog)
    with start_node("open", tls=tls | {"require_certificate": False}) as node:
        assert echo(node.server.tls_port, *anonymous).returncode == 0
        expired = echo(node.server.tls_port, *dcmtk(authority.expired(), authority))
        assert expired.returncode != 0, "a certificate that is shown is checked all the same"


@pytest.mark.peers
def test_cipher_suites_without_authenticated_encryption_are_not_negotiated(
    tls_node: ListeningNode, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    old = echo(tls_node.server.tls_port, *dcmtk(authority.issue("pacs"), authority), "+pa", "+cs", AES_CBC)
    assert old.returncode != 0
    assert "no cipher suite of the profile" in logged(caplog)


def test_versions_of_tls_before_1_2_are_not_negotiated(
    tls_node: ListeningNode, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    context = requestor(authority, authority.issue("old"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", tls_node.server.tls_port)) as plain:
        context.wrap_socket(plain, server_hostname="localhost")
    assert "no TLS version in common" in logged(caplog)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_the_profile_carry_associations(
    tls_node: ListeningNode, authority: Authority, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    context = requestor(authority, authority.issue("pacs"))
    context.minimum_version = context.maximum_version = version
    with (
        caplog.at_level(logging.INFO),
        socket.create_connection(("127.0.0.1", tls_node.server.tls_port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as peer,
    ):
        peer.sendall(associate_rq())
        assert peer.recv(1) == b"\x02"
        wait_for(lambda: any("association accepted" in each.message for each in caplog.records))
    (accepted,) = [each for each in caplog.records if each.message == "association accepted"]
    assert vars(accepted)["tls"] == version.name.replace("_", ".")
    assert vars(accepted)["certificate"] == "pacs"


def test_dicom_without_tls_on_the_tls_port_is_named_in_the_log(
    tls_node: ListeningNode, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", tls_node.server.tls_port), timeout=20) as peer:
        peer.sendall(associate_rq())
        assert peer.recv(1) == b""
    assert "the peer speaks DICOM without TLS on the port for TLS" in logged(caplog)


@pytest.mark.peers
def test_tls_on_the_plain_port_is_named_in_the_log(
    tls_node: ListeningNode, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    assert echo(tls_node.port, *dcmtk(authority.issue("pacs"), authority)).returncode != 0
    assert "peer speaks TLS, but DICOM without TLS was expected here" in logged(caplog)


def test_a_handshake_that_drips_ends_in_time_and_takes_no_slot(
    start_node: StartNode, tls: dict[str, object], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    hello = client_hello()
    pacs = authority.issue("pacs")
    with start_node(tls=tls, artim_timeout_s=1.0, max_associations=1) as node:
        address = ("127.0.0.1", node.server.tls_port)
        with socket.create_connection(address, timeout=20) as half, socket.create_connection(address) as dripping:
            half.sendall(hello[:20])
            began = time.monotonic()
            with (
                socket.create_connection(address, timeout=20) as plain,
                requestor(authority, pacs).wrap_socket(plain, server_hostname="localhost") as peer,
            ):
                peer.sendall(associate_rq())
                assert peer.recv(1) == b"\x02", "the only slot is free"
            for byte in hello:
                try:
                    dripping.sendall(bytes((byte,)))
                except OSError:
                    break
                time.sleep(0.05)
            assert half.recv(1) == b""
            assert time.monotonic() - began < 15.0
    assert "the handshake was not complete within 1 s" in logged(caplog)


def test_half_open_handshakes_are_closed_for_others_and_let_senders_in(
    start_node: StartNode, tls: dict[str, object], authority: Authority
) -> None:
    hello, pacs = client_hello(), authority.issue("pacs")
    with start_node(tls=tls, artim_timeout_s=120.0) as node, ExitStack() as stack:
        address = ("127.0.0.1", node.server.tls_port)
        silent = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(SPARE_PER_HOST + 8)]
        for peer in silent:
            with suppress(OSError):  # it may have been closed already
                peer.sendall(hello[:20])
        with (
            socket.create_connection(address, timeout=20) as plain,
            requestor(authority, pacs).wrap_socket(plain, server_hostname="localhost") as sender,
        ):
            sender.sendall(associate_rq())
            assert sender.recv(1) == b"\x02"
        assert is_closed(silent[0]), "the oldest had to go, long before its handshake was late"
        assert not is_closed(silent[-1], within_s=0.2)


def test_a_stop_does_not_wait_for_a_handshake(start_node: StartNode, tls: dict[str, object]) -> None:
    with start_node(tls=tls) as node, socket.create_connection(("127.0.0.1", node.server.tls_port)) as peer:
        peer.sendall(client_hello()[:20])
        wait_for(lambda: bool(node.server._connections.snapshot()))
        began = time.monotonic()
        node.server.stop()
        assert time.monotonic() - began < 8.0


def test_a_renewed_certificate_counts_without_a_restart(
    tls_node: ListeningNode, tls: dict[str, object], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pacs, renewed = authority.issue("pacs"), authority.issue("renewed")

    def shown() -> str:
        with (
            socket.create_connection(("127.0.0.1", tls_node.server.tls_port), timeout=20) as plain,
            requestor(authority, pacs).wrap_socket(plain, server_hostname="localhost") as peer,
        ):
            return str(dict(peer.getpeercert()["subject"][0])["commonName"])

    assert shown() == "node"
    shutil.copy(renewed.certificate, str(tls["certificate_file"]))  # the key has not been copied yet
    assert shown() == "node"
    assert "new TLS files cannot be used" in logged(caplog)
    shutil.copy(renewed.key, str(tls["key_file"]))
    assert shown() == "renewed"


def test_an_open_association_outlives_a_renewed_certificate_and_a_broken_one_is_named_once(
    tls_node: ListeningNode, tls: dict[str, object], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pacs, renewed = authority.issue("pacs"), authority.issue("renewed")
    instances = list(ct_series(n_slices=3))
    ae = AE("PACS")
    ae.add_requested_context(CTImageStorage)
    ae.add_requested_context(Verification)

    def associate() -> Association:
        association = ae.associate(
            "127.0.0.1", tls_node.server.tls_port, ae_title="NODE", tls_args=(requestor(authority, pacs), "localhost")
        )
        assert association.is_established
        return association

    def shown_to(association: Association) -> str:
        return str(dict(association.dul.socket.socket.getpeercert()["subject"][0])["commonName"])

    first = associate()
    assert first.send_c_store(instances[0].dataset()).Status == 0
    shutil.copy(renewed.certificate, str(tls["certificate_file"]))
    shutil.copy(renewed.key, str(tls["key_file"]))
    second = associate()
    assert (shown_to(first), shown_to(second)) == ("node", "renewed")
    assert first.send_c_store(instances[1].dataset()).Status == 0, "the open association works on"

    Path(str(tls["certificate_file"])).write_text("not a certificate")
    others = [associate() for _ in range(3)]
    assert [shown_to(each) for each in others] == ["renewed"] * 3, "the last certificate that worked stays in use"
    assert second.send_c_store(instances[2].dataset()).Status == 0
    assert [status.Status for status in (first.send_c_echo(), others[-1].send_c_echo())] == [0, 0]
    for association in (first, second, *others):
        association.release()
    said = [each.getMessage() for each in caplog.records if "new TLS files cannot be used" in each.message]
    assert len(said) == 1
    assert "dimse.tls.certificate_file" in said[0]
    assert "holds no certificate in PEM" in said[0]
    assert len(tls_node.instances()) == 3


def dcmtk(own: Pair, authority: Authority) -> tuple[object, ...]:
    """Options of dcmtk's requestors for TLS with a certificate."""
    return ("+tls", own.key, own.certificate, "+cf", authority.path)


def echo(port: int, *options: object):
    return run_tool("echoscu", "-v", "-to", 10, "-ta", 10, *options, "-aec", "NODE", "127.0.0.1", port)


def requestor(authority: Authority, own: Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    context.load_cert_chain(own.certificate, own.key)
    return context


def is_closed(peer: socket.socket, within_s: float = 20.0) -> bool:
    """Whether the node closes a connection within some time."""
    peer.settimeout(within_s)
    try:
        return peer.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def client_hello() -> bytes:
    """The first record of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    return outgoing.read()


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """All messages, once there is a warning: the node may log a little later than the peer sees the end."""
    wait_for(lambda: any(each.levelno >= logging.WARNING for each in caplog.records))
    return "\n".join(each.getMessage() for each in caplog.records)


def wait_for(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    end_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_at, "not within time"
        time.sleep(0.02)
