"""Peers that open connections and do not associate: nobody is kept out, and the log says it once."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import ssl
import time
from collections.abc import Iterator

import httpx
import pytest

from dicom_node.dimse import connection_log, connections
from dicom_node.dimse.recurring import RecurringEvent
from dicom_node.upper_layer.pdu_stream import PduType
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import RawPeer, associate_rq, echo_command, p_data

LOGGER = "dicom_node.dimse.recurring"


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dicom_node.dimse")


@contextlib.contextmanager
def silent_peers(port: int, number: int, *, n_hosts: int = 1) -> Iterator[list[RawPeer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RawPeer(port, host=f"127.0.1.{1 + index % n_hosts}")) for index in range(number)]


def is_open(peer: RawPeer) -> bool:
    """Whether the node has left a silent connection open."""
    peer.socket.setblocking(False)
    try:
        return peer.socket.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        peer.socket.settimeout(20)


def wait_until_closed(peers: list[RawPeer], number: int) -> list[bool]:
    """Whether each peer's connection is open, once ``number`` of them are not, or after some time."""
    end_at = time.monotonic() + 60
    while True:
        opened = [is_open(peer) for peer in peers]
        if opened.count(False) >= number or time.monotonic() > end_at:
            return opened
        time.sleep(0.02)


def lines(caplog: pytest.LogCaptureFixture, *, level: int = logging.INFO) -> list[str]:
    """What the node logged of connections that came to nothing."""
    return [record.getMessage() for record in caplog.records if record.name == LOGGER and record.levelno >= level]


@pytest.mark.parametrize("n_hosts", [1, 20])
def test_two_hundred_silent_connections_keep_nobody_out_and_are_two_lines(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, n_hosts: int
) -> None:
    with start_node(max_associations=4, artim_timeout_s=60.0) as node, RawPeer(node.port) as before:
        before.associate()
        with silent_peers(node.port, 200, n_hosts=n_hosts):
            began = time.monotonic()
            with RawPeer(node.port, host="127.0.2.1") as late:
                late.associate()
                assert late.release() == PduType.RELEASE_RP
            assert time.monotonic() - began < 30
            before.send(p_data((1, 3, echo_command())))
            assert before.status() == 0
        node.server.stop()
    first, summary = (line for line in lines(caplog) if "too many like it" in line)
    # The first 32 of one host, or all 68 connections less one of an association, are let in.
    n_evicted = 200 - 32 if n_hosts == 1 else 200 + 2 - 68
    assert "repeated" not in first
    assert f"(repeated, {n_evicted - 1} in " in summary


def test_the_oldest_connection_of_the_same_host_goes_first(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SPARE_PER_HOST", 3)
    with start_node() as node, RawPeer(node.port, host="127.0.2.1") as other, silent_peers(node.port, 5) as peers:
        assert wait_until_closed(peers, 2) == [False, False, True, True, True]
        assert is_open(other)


def test_when_all_connections_are_taken_the_oldest_without_an_association_goes(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SPARE_CONNECTIONS", 3)
    with start_node(max_associations=1) as node, RawPeer(node.port, host="127.0.2.1") as first:
        first.associate()
        with silent_peers(node.port, 6, n_hosts=6) as peers:
            assert wait_until_closed(peers, 3) == [False, False, False, True, True, True]
            first.send(p_data((1, 3, echo_command())))
            assert first.status() == 0


def test_more_associations_of_a_host_than_its_share_are_told_to_come_back(start_node: StartNode) -> None:
    with (
        start_node(max_associations=3, max_associations_per_host=2) as node,
        RawPeer(node.port) as first,
        RawPeer(node.port) as second,
        RawPeer(node.port) as third,
        RawPeer(node.port, host="127.0.2.1") as other,
    ):
        first.associate()
        second.associate()
        third.send(associate_rq())
        number, body = third.receive()
        assert (number, tuple(body[1:])) == (PduType.ASSOCIATE_RJ, (2, 3, 2))
        other.associate()


def test_a_node_without_file_descriptors_says_so_once_and_recovers(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with start_node() as node, contextlib.ExitStack() as stack:
        n_open = max(int(name) for name in __import__("os").listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 12, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    stack.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=60))
            time.sleep(0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with RawPeer(node.port, host="127.0.2.1") as late:
            late.associate()
    assert len([line for line in lines(caplog) if "connection not accepted: Too many open files" in line]) <= 2


def test_a_tls_client_is_told_from_a_fault(node: ListeningNode, caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(3):
        with (
            socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            context.wrap_socket(connection)
    node.server.stop()
    first, summary = lines(caplog, level=logging.WARNING)
    assert first == (
        "no association: peer speaks TLS, but DICOM without TLS was expected here; connection closed, "
        "set the peer to DICOM without TLS or call another port"
    )
    assert "TLS" in summary
    assert "(repeated, 2 in " in summary
    assert not any("unknown type" in record.getMessage() for record in caplog.records)


def test_an_http_client_is_told_from_a_fault(node: ListeningNode, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{node.port}/", trust_env=False, timeout=10)
    assert [line.partition(",")[0] for line in lines(caplog, level=logging.WARNING)] == [
        "no association: peer speaks HTTP"
    ]


@pytest.mark.parametrize("leaves_by_reset", [False, True])
def test_probes_are_counted_in_one_line_that_is_no_warning(
    node: ListeningNode, caplog: pytest.LogCaptureFixture, leaves_by_reset: bool
) -> None:
    for _ in range(30):
        with RawPeer(node.port) as peer:
            if leaves_by_reset:  # as many load balancers do, to save the state TIME_WAIT
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with RawPeer(node.port) as peer:  # the others were accepted before it
        peer.associate()
    time.sleep(1.0)
    node.server.stop()
    (line,) = lines(caplog)
    assert line.startswith("connections without an association request (probes) (30 in ")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_connection_that_stays_silent_is_a_probe_too(start_node: StartNode, caplog: pytest.LogCaptureFixture) -> None:
    with start_node(artim_timeout_s=0.2) as node, RawPeer(node.port) as peer:
        assert peer.receive()[0] == PduType.ABORT
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_half_an_association_request_is_a_fault(start_node: StartNode, caplog: pytest.LogCaptureFixture) -> None:
    with start_node(artim_timeout_s=1.0) as node, RawPeer(node.port) as peer:
        peer.send(associate_rq()[:50])
        assert peer.receive()[0] == PduType.ABORT
    (line,) = lines(caplog, level=logging.WARNING)
    assert line.startswith("no association: no complete PDU within 1 s")


def test_recurring_events_are_summed_up_when_their_window_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    event = RecurringEvent(logging.WARNING, window_s=60, clock=lambda: now[0])
    for host in ("a", "b", "b", "c"):
        event.note("refused", host)
    event.sum_up()
    assert lines(caplog) == ["refused"]
    now[0] = 160.0
    event.sum_up()
    assert lines(caplog) == ["refused", "refused (repeated, 3 in 60 s)"]
    assert vars(caplog.records[-1])["hosts"] == "b (2), c (1)"
    event.sum_up(is_last=True)
    event.note("refused", "a")
    assert lines(caplog) == ["refused", "refused (repeated, 3 in 60 s)", "refused"]


def test_hosts_of_recurring_events_are_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.dimse.recurring.MAX_HOSTS", 2)
    event = RecurringEvent(logging.INFO, window_s=60, is_quiet=True)
    for number in range(10):
        event.note("probe", f"host{number}")
    event.sum_up(is_last=True)
    assert vars(caplog.records[-1])["hosts"] == "other hosts (8), host0 (1), host1 (1)"


def test_evicted_connections_are_no_faults(caplog: pytest.LogCaptureFixture) -> None:
    log = connection_log.ConnectionLog()
    left, right = socket.socketpair()
    with left, right:
        connection = connections.Connection(left, "a", is_evicted=True)
        log.note(connection_log.PeerGoneError("end of stream"), connection, has_sent=True)
    log.sum_up(is_last=True)
    assert lines(caplog, level=logging.DEBUG) == []
