"""Peers that break the rules: each ends alone, and the node goes on."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from dicom_node.upper_layer.pdu_stream import PduType
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import RawPeer, associate_rq, dataset_part, echo_command, p_data, store_command
from tests.factories import ct_series


@pytest.fixture
def still_works(node: ListeningNode) -> Iterator[None]:
    """After the test the node answers an echo and holds no association."""
    yield
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((1, 3, echo_command())))
        assert peer.status() == 0
        assert peer.release() == PduType.RELEASE_RP
    end_at = time.monotonic() + 60
    while node.server.n_associations and time.monotonic() < end_at:
        time.sleep(0.01)
    assert node.server.n_associations == 0
    assert node.instances() == []


def expect_abort(peer: RawPeer, reason: int) -> None:
    number, body = peer.receive()
    assert (number, tuple(body[2:])) == (PduType.ABORT, (2, reason))
    assert peer.receive() == (0, b"")


@pytest.mark.usefixtures("still_works")
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", 1),
        (bytes(64), 1),
        (struct.pack(">BBI", 1, 0, 0xFFFFFFFF), 6),
        (struct.pack(">BBI", 1, 0, 10) + bytes(10), 6),
        (struct.pack(">BBI", 4, 0, 4) + bytes(4), 2),
        (struct.pack(">BBI", 5, 0, 4) + bytes(4), 2),
    ],
    ids=["http", "zeros", "length-lie", "short-request", "data-first", "release-first"],
)
def test_what_is_no_association_request_is_aborted_with_its_reason(
    node: ListeningNode, sent: bytes, reason: int
) -> None:
    with RawPeer(node.port) as peer:
        peer.send(sent)
        expect_abort(peer, reason)


@pytest.mark.usefixtures("still_works")
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (associate_rq(), 2),
        (struct.pack(">BBI", 4, 0, 0xFFFFFF00), 6),
        (struct.pack(">BBI", 4, 0, 6) + struct.pack(">IBB", 0xFFFFFFFF, 1, 3), 6),
        (p_data((1, 3, b"\xff" * 30)), 6),
        (p_data((9, 3, echo_command())), 6),
        (p_data((3, 2, b"data")), 5),
        (p_data(*[(1, 1, bytes(1000))] * 100), 6),
        (b"\x42" * 100, 1),
    ],
    ids=["second-request", "pdu-length", "pdv-length", "command", "context", "data-first", "endless-command", "type"],
)
def test_nonsense_within_an_association_is_aborted_with_its_reason(
    node: ListeningNode, sent: bytes, reason: int
) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(sent)
        expect_abort(peer, reason)


@pytest.mark.usefixtures("still_works")
def test_garbage_after_any_valid_beginning_ends_that_connection_only(node: ListeningNode) -> None:
    seed = random.Random(4)
    valid = associate_rq() + p_data((3, 3, store_command("2.25.1")), (3, 0, bytes(500)))
    for _ in range(40):
        with RawPeer(node.port) as peer:
            peer.send(valid[: seed.randrange(len(valid))] + seed.randbytes(200))
            peer.socket.shutdown(1)
            while peer.receive()[0]:
                pass


def test_a_peer_that_connects_and_says_nothing_is_closed_after_artim(
    start_node: StartNode,
) -> None:
    with start_node(artim_timeout_s=0.3) as node, RawPeer(node.port) as peer:
        began = time.monotonic()
        assert peer.receive()[0] == PduType.ABORT
        assert time.monotonic() - began < 30


def test_a_peer_that_falls_silent_loses_its_place(start_node: StartNode) -> None:
    with start_node(max_associations=1, idle_timeout_s=1.0) as node:
        with RawPeer(node.port) as peer:
            peer.associate()
            assert peer.receive()[0] == PduType.ABORT
        with RawPeer(node.port) as peer:
            peer.associate()
            peer.send(p_data((3, 3, store_command("2.25.1")), (3, 0, b"half")))
            assert peer.receive()[0] == PduType.ABORT
        assert node.instances() == []


def test_a_message_that_drips_a_byte_a_pdu_is_ended(start_node: StartNode) -> None:
    with start_node(idle_timeout_s=0.5) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, store_command("2.25.1"))))
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    peer.send(p_data((3, 0, b"x")))
                except OSError:
                    return

        dripper = threading.Thread(target=drip)
        dripper.start()
        number, _ = peer.receive()
        stop.set()
        dripper.join()
    assert number == PduType.ABORT


def test_a_line_as_slow_as_a_modem_is_not_taken_for_dripping(start_node: StartNode) -> None:
    """1200 bytes/s, as over 9600 baud, for several times the idle timeout."""
    (ct,) = ct_series(n_slices=1, rows=32, columns=32)
    uid, encoded = ct.dataset().SOPInstanceUID, dataset_part(ct.part10)
    with start_node(idle_timeout_s=0.6) as node, RawPeer(node.port) as peer:
        peer.associate()
        peer.send(p_data((3, 3, store_command(uid))))
        for begin in range(0, len(encoded), 60):
            time.sleep(0.05)
            is_last = begin + 60 >= len(encoded)
            peer.send(p_data((3, 2 if is_last else 0, encoded[begin : begin + 60])))
        assert peer.status() == 0
        assert len(encoded) / 1200 > 3 * 0.6
        assert node.dataset_bytes(uid) == encoded


def test_a_peer_with_tiny_pdus_still_gets_its_answers(node: ListeningNode) -> None:
    with RawPeer(node.port) as peer:
        peer.associate(max_pdu_bytes=8)
        peer.send(p_data((1, 3, echo_command())))
        assert peer.status() == 0


def test_several_messages_in_one_pdu_are_all_answered(node: ListeningNode) -> None:
    first, second = [(ct.dataset().SOPInstanceUID, dataset_part(ct.part10)) for ct in ct_series(n_slices=2, rows=16)]
    with RawPeer(node.port) as peer:
        peer.associate()
        peer.send(
            p_data(
                (3, 3, store_command(first[0], message_id=1)), (3, 2, first[1]),
                (3, 3, store_command(second[0], message_id=2)), (3, 2, second[1]),
                (1, 3, echo_command(3)),
            )
        )  # fmt: skip
        assert [peer.status() for _ in range(3)] == [0, 0, 0]
        assert peer.release() == PduType.RELEASE_RP
    assert node.dataset_bytes(first[0]) == first[1]
    assert node.dataset_bytes(second[0]) == second[1]
