"""Who may associate, and what a refusal says."""

from __future__ import annotations

import struct
import time

import pytest

from dicom_node.dimse.admission import AdmissionPolicy, find_rejection
from dicom_node.dimse.slots import AssociationSlots
from dicom_node.upper_layer.associate import Rejection, decode_request
from dicom_node.upper_layer.errors import ProtocolError
from dicom_node.upper_layer.pdu_stream import Pdu, PduType
from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import RawPeer, associate_rq

POLICY = AdmissionPolicy("NODE", allowed_calling_ae_titles=frozenset({"PACS"}))


def request_pdu(encoded: bytes) -> Pdu:
    return Pdu(PduType.ASSOCIATE_RQ, memoryview(encoded)[6:])


@pytest.mark.parametrize(
    ("options", "rejection"),
    [
        ({"calling_ae_title": "PACS"}, None),
        ({"calling_ae_title": " PACS "}, None),  # spaces at both ends do not count (PS3.8 table 9-11)
        ({"calling_ae_title": "pacs"}, Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED),
        ({"calling_ae_title": "PACS", "called_ae_title": "OTHER"}, Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED),
        (
            {"calling_ae_title": "PACS", "application_context_name": "1.2.3"},
            Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED,
        ),
    ],
)
def test_titles_and_application_context_decide(options: dict[str, str], rejection: Rejection | None) -> None:
    assert find_rejection(decode_request(request_pdu(associate_rq(**options))), POLICY, "192.0.2.1") is rejection


def test_a_later_protocol_without_the_first_version_is_refused() -> None:
    encoded = bytearray(associate_rq(calling_ae_title="PACS"))
    encoded[6:8] = b"\x00\x02"
    assert (
        find_rejection(decode_request(request_pdu(bytes(encoded))), POLICY, "192.0.2.1")
        is Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    )


PDU_HEAD_BYTES, FIXED_BYTES = 6, 68  # PS3.8 table 9-11: the items follow at byte 75


def item_ends(encoded: bytes) -> list[int]:
    """Where the items of an A-ASSOCIATE-RQ end: each has a type, a reserved byte, and a length of two bytes."""
    at, ends = PDU_HEAD_BYTES + FIXED_BYTES, []
    while at < len(encoded):
        at += 4 + int.from_bytes(encoded[at + 2 : at + 4], "big")
        ends.append(at)
    return ends


def is_read(encoded: bytes) -> bool:
    try:
        decode_request(request_pdu(encoded))
    except ProtocolError:
        return False
    return True


def test_a_request_cut_within_an_item_is_refused_and_one_cut_after_an_item_is_read() -> None:
    encoded = associate_rq()
    readable = [PDU_HEAD_BYTES + FIXED_BYTES, *item_ends(encoded)]
    assert len(readable) > 4
    assert readable[-1] == len(encoded)
    assert [length for length in range(PDU_HEAD_BYTES, len(encoded) + 1) if is_read(encoded[:length])] == readable


def test_a_changed_byte_of_the_fixed_fields_changes_what_it_says_and_nothing_else() -> None:
    encoded = associate_rq(calling_ae_title="PACS")
    whole = decode_request(request_pdu(encoded))
    for index in range(PDU_HEAD_BYTES, PDU_HEAD_BYTES + FIXED_BYTES):
        changed = bytearray(encoded)
        changed[index] = ord("p")
        request = decode_request(request_pdu(bytes(changed)))
        assert request.contexts == whole.contexts
        assert (request.called_ae_title == whole.called_ae_title) == (index not in range(10, 26))
        assert (request.calling_ae_title == whole.calling_ae_title) == (index not in range(26, 42))


def test_a_changed_byte_of_an_item_is_read_or_refused_and_a_length_beyond_the_pdu_is_refused() -> None:
    encoded = associate_rq()
    n_read = 0
    for index in range(PDU_HEAD_BYTES + FIXED_BYTES, len(encoded)):
        for value in (0x00, 0x50, 0xFF):
            changed = bytearray(encoded)
            changed[index] = value
            n_read += is_read(bytes(changed))
    assert n_read > len(encoded)  # most bytes are of UIDs, which may be any text
    for end in [PDU_HEAD_BYTES + FIXED_BYTES, *item_ends(encoded)[:-1]]:
        assert not is_read(encoded[: end + 2] + b"\xff\xff" + encoded[end + 4 :])


@pytest.mark.parametrize(
    ("settings", "options", "triple"),
    [
        ({}, {"called_ae_title": "OTHER"}, (1, 1, 7)),
        ({"allowed_calling_ae_titles": ("PACS",)}, {"calling_ae_title": "RAW"}, (1, 1, 3)),
        ({"max_associations": 1}, {}, (2, 3, 2)),
    ],
)
def test_a_rejection_carries_result_source_and_reason(
    start_node: StartNode, settings: dict[str, object], options: dict[str, str], triple: tuple[int, int, int]
) -> None:
    with start_node(**settings) as node, RawPeer(node.port) as first, RawPeer(node.port) as second:
        if "max_associations" in settings:
            first.associate()
        second.send(associate_rq(**options))
        number, body = second.receive()
    assert number == PduType.ASSOCIATE_RJ
    assert struct.unpack(">xBBB", body) == triple


def test_any_called_ae_title_is_taken_when_the_settings_say_so(start_node: StartNode) -> None:
    with start_node(require_called_ae_title=False) as node, RawPeer(node.port) as peer:
        peer.associate(called_ae_title="WHATEVER")
        assert peer.release() == PduType.RELEASE_RP


def test_a_place_is_free_again_after_release_and_after_a_peer_that_vanished(start_node: StartNode) -> None:
    with start_node(max_associations=1) as node:
        for leave_politely in (True, False, True):
            with RawPeer(node.port) as peer:
                wait_for_places(node)
                peer.associate()
                if leave_politely:
                    assert peer.release() == PduType.RELEASE_RP


def wait_for_places(node: ListeningNode) -> None:
    end_at = time.monotonic() + 60
    while node.server.n_associations and time.monotonic() < end_at:
        time.sleep(0.01)


def test_slots_are_counted_and_closed() -> None:
    slots = AssociationSlots(2, n_per_host=2)
    assert [slots.claim("a"), slots.claim("a"), slots.claim("b")] == [None, None, Rejection.LOCAL_LIMIT_EXCEEDED]
    slots.leave("a")
    assert slots.claim("b") is None
    slots.close()
    assert slots.claim("b") is Rejection.TEMPORARY_CONGESTION
    slots.release()


def test_one_host_gets_no_more_slots_than_its_share() -> None:
    slots = AssociationSlots(3, n_per_host=2)
    assert [slots.claim("a") for _ in range(3)] == [None, None, Rejection.LOCAL_LIMIT_EXCEEDED]
    assert slots.claim("b") is None
    slots.leave("a")
    assert slots.claim("a") is None
    assert slots.n_taken == 3
    slots.close()
    slots.release()
