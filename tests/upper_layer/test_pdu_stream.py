"""Reading PDUs from a socket, however they are cut up."""

from __future__ import annotations

import io
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.upper_layer.errors import AbortReason, AbortSource, PeerGoneError, PeerTooSlowError, ProtocolError
from dicom_node.upper_layer.pdu_stream import (
    MAX_NEGOTIATION_BYTES,
    PduStream,
    PduType,
    abort_pdu,
    data_set_pdus,
    p_data_pdus,
    release_response,
    split_pdvs,
)

MAX_PDU_BYTES = 16384


@contextmanager
def stream_and_peer(*, pdu_timeout_s: float = 5.0) -> Iterator[tuple[PduStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield PduStream(ours, max_pdu_bytes=MAX_PDU_BYTES, pdu_timeout_s=pdu_timeout_s), theirs


def pdu(number: int, body: bytes) -> bytes:
    return struct.pack(">BBI", number, 0, len(body)) + body


@settings(max_examples=25, deadline=None)
@given(
    bodies=st.lists(st.tuples(st.integers(0, 16384), st.integers(0, 255)), min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 40_000), min_size=1, max_size=8),
)
def test_pdus_come_out_as_they_went_in_however_the_stream_is_cut(
    bodies: list[tuple[int, int]], cuts: list[int]
) -> None:
    sent = [bytes([value]) * length for length, value in bodies]
    wire = b"".join(pdu(4, body) for body in sent)

    def write(peer: socket.socket) -> None:
        offset, turn = 0, 0
        while offset < len(wire):
            size = cuts[turn % len(cuts)]
            peer.sendall(wire[offset : offset + size])
            offset, turn = offset + size, turn + 1

    with stream_and_peer() as (stream, peer):
        writer = threading.Thread(target=write, args=(peer,))
        writer.start()
        received = [bytes(stream.read().body) for _ in sent]
        writer.join()
    assert received == sent


@pytest.mark.parametrize("length", [MAX_PDU_BYTES + 7, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_longer_p_data_pdu_than_announced_is_refused_before_it_is_read(length: int) -> None:
    with stream_and_peer() as (stream, peer):
        peer.sendall(struct.pack(">BBI", 4, 0, length))
        with pytest.raises(ProtocolError, match=f"announces {length} bytes") as caught:
            stream.read()
    assert caught.value.abort_reason is AbortReason.INVALID_PDU_PARAMETER_VALUE


def test_an_association_request_has_a_limit_of_its_own() -> None:
    with stream_and_peer() as (stream, peer):
        peer.sendall(struct.pack(">BBI", 1, 0, MAX_NEGOTIATION_BYTES + 1))
        with pytest.raises(ProtocolError, match="ASSOCIATE_RQ"):
            stream.read()


@pytest.mark.parametrize(
    ("first", "named"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "peer speaks HTTP, but DICOM without TLS was expected here; connection closed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "peer speaks HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n", "peer speaks HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "peer speaks TLS"),
        (b"\x15\x03\x03\x00\x02\x02", "peer speaks TLS"),  # an alert: what a server says to a client without TLS
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 104\r\n", "peer speaks the PROXY protocol"),
        (b"\r\n\r\n\x00\r\nQUIT\n", "peer speaks the PROXY protocol"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "peer speaks SSH"),
        (b"\x00" * 6, "PDU of unknown type 0x00"),
        (b"GETTING", "PDU of unknown type 0x47"),
        (b"\x16\x04\x01\x02\x00\x01", "PDU of unknown type 0x16"),
    ],
)
def test_another_protocol_is_named_by_its_first_bytes(first: bytes, named: str) -> None:
    with stream_and_peer() as (stream, peer):
        peer.sendall(first)
        with pytest.raises(ProtocolError, match=re.escape(named)) as caught:
            stream.read()
    assert caught.value.abort_reason is AbortReason.UNRECOGNIZED_PDU


def test_a_stream_that_ends_within_a_pdu_is_a_peer_that_has_gone() -> None:
    with stream_and_peer() as (stream, peer):
        peer.sendall(pdu(4, bytes(100))[:50])
        peer.close()
        with pytest.raises(PeerGoneError, match="end of stream"):
            stream.read()


def test_a_pdu_that_drips_is_ended_when_its_time_is_over_though_bytes_still_come() -> None:
    with stream_and_peer(pdu_timeout_s=0.4) as (stream, peer):
        stop = threading.Event()

        def drip() -> None:
            for value in pdu(4, bytes(1000)):
                if stop.wait(0.05):
                    return
                peer.sendall(bytes([value]))

        dripper = threading.Thread(target=drip)
        dripper.start()
        began = time.monotonic()
        with pytest.raises(PeerTooSlowError, match="complete PDU"):
            stream.read()
        elapsed = time.monotonic() - began
        stop.set()
        dripper.join()
    assert 0.35 < elapsed < 30.0


def test_a_peer_that_does_not_take_our_answer_is_given_up() -> None:
    with stream_and_peer(pdu_timeout_s=0.3) as (stream, _peer), pytest.raises(PeerTooSlowError):
        stream.send(bytes(64 * 1024 * 1024))


def test_waiting_ends_by_the_word_to_stop_and_by_time() -> None:
    wake, waker = os.pipe()
    with stream_and_peer() as (stream, peer):
        with pytest.raises(PeerTooSlowError):
            stream.wait(0.05, wake)
        peer.sendall(b"x")
        assert stream.wait(5.0, wake)
    with stream_and_peer() as (stream, _peer):
        os.close(waker)
        assert not stream.wait(5.0, wake)
    os.close(wake)


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_p_data_body_gives_its_values_or_a_protocol_error(body: bytes) -> None:
    try:
        pdvs = list(split_pdvs(memoryview(body)))
    except ProtocolError:
        return
    rebuilt = b"".join(
        struct.pack(">IBB", len(pdv.fragment) + 2, pdv.context_id, pdv.control) + pdv.fragment for pdv in pdvs
    )
    assert rebuilt == body


@pytest.mark.parametrize(
    "body",
    [b"", bytes(5), struct.pack(">IBB", 1, 1, 3), struct.pack(">IBB", 0xFFFFFFFF, 1, 3), struct.pack(">IBB", 9, 1, 3)],
)
def test_a_presentation_data_value_that_lies_about_its_length_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(split_pdvs(memoryview(body)))


@settings(max_examples=100, deadline=None)
@given(command_set=st.binary(min_size=1, max_size=400), max_pdu_bytes=st.one_of(st.just(0), st.integers(1, 500)))
def test_answers_fit_into_the_pdus_that_the_peer_takes(command_set: bytes, max_pdu_bytes: int) -> None:
    wire = memoryview(p_data_pdus(3, command_set, max_pdu_bytes=max_pdu_bytes))
    fragments, last = b"", []
    while wire:
        number, length = struct.unpack_from(">BxI", wire)
        assert number == PduType.P_DATA_TF
        assert max_pdu_bytes == 0 or length <= max(max_pdu_bytes, 7)  # 7: header and one byte, less cannot be sent
        (pdv,) = split_pdvs(wire[6 : 6 + length])
        assert pdv.context_id == 3
        assert pdv.is_command
        fragments += bytes(pdv.fragment)
        last.append(pdv.is_last)
        wire = wire[6 + length :]
    assert fragments == command_set
    assert last == [False] * (len(last) - 1) + [True]


def test_release_and_abort_are_the_bytes_of_the_standard() -> None:
    # PS3.8 tables 9-25 and 9-26.
    assert release_response() == bytes.fromhex("06 00 00000004 00000000")
    assert abort_pdu(AbortSource.SERVICE_PROVIDER, AbortReason.UNEXPECTED_PDU) == bytes.fromhex("07000000000400000202")
    assert abort_pdu(AbortSource.SERVICE_USER, AbortReason.UNEXPECTED_PDU) == bytes.fromhex("07000000000400000000")


@settings(max_examples=100, deadline=None)
@given(data_set=st.binary(min_size=1, max_size=3000), max_pdu_bytes=st.one_of(st.just(0), st.integers(1, 700)))
def test_a_data_set_streams_in_even_fragments_that_fit(data_set: bytes, max_pdu_bytes: int) -> None:
    fragments = []
    for pdu_bytes in data_set_pdus(5, io.BytesIO(data_set), max_pdu_bytes=max_pdu_bytes):
        number, length = struct.unpack_from(">BxI", pdu_bytes)
        assert number == PduType.P_DATA_TF
        assert max_pdu_bytes == 0 or length <= max(max_pdu_bytes, 8)
        (pdv,) = split_pdvs(memoryview(pdu_bytes)[6:])
        assert (pdv.context_id, pdv.is_command) == (5, False)
        fragments.append((bytes(pdv.fragment), pdv.is_last))
    assert b"".join(fragment for fragment, _ in fragments) == data_set
    assert [is_last for _, is_last in fragments] == [False] * (len(fragments) - 1) + [True]
    assert all(len(fragment) % 2 == 0 for fragment, _ in fragments[:-1])
