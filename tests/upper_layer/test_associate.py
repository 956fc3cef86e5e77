"""The PDUs that open an association, against pynetdicom's encoding and decoding."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ

from dicom_node.upper_layer.associate import (
    Acceptance,
    AssociationRequest,
    Rejection,
    decode_acceptance,
    decode_rejection,
    decode_request,
    encode_acceptance,
    encode_rejection,
    encode_request,
)
from dicom_node.upper_layer.errors import ProtocolError
from dicom_node.upper_layer.pdu_stream import Pdu, PduType
from dicom_node.upper_layer.presentation import AnsweredContext, ProposedContext
from part10.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from tests.dimse.raw_peer import PROPOSED, associate_rq

REQUEST = AssociationRequest(
    "PACS",
    "NODE",
    (
        ProposedContext(1, "1.2.840.10008.1.1", (ImplicitVRLittleEndian,)),
        ProposedContext(255, "1.3.12.2.1107.5.9.1", ("1.2.840.113619.5.2", ExplicitVRLittleEndian)),
    ),
    28672,
)
ACCEPTANCE = Acceptance(
    "PACS", "NODE", (AnsweredContext(1, 0, ExplicitVRLittleEndian), AnsweredContext(3, 4, "1.2.3")), 131072
)


def received(encoded: bytes) -> Pdu:
    number, length = struct.unpack_from(">BxI", encoded)
    assert length == len(encoded) - 6
    return Pdu(PduType(number), memoryview(encoded)[6:])


def context_item(*, context_id: int = 1, abstract: int = 1, transfer: int = 1) -> bytes:
    uid = ImplicitVRLittleEndian.encode()
    value = bytes((context_id, 0, 0, 0))
    for kind, count in ((0x30, abstract), (0x40, transfer)):
        value += (struct.pack(">BxH", kind, len(uid)) + uid) * count
    return struct.pack(">BxH", 0x20, len(value)) + value


def request_with(*items: bytes) -> Pdu:
    return Pdu(
        PduType.ASSOCIATE_RQ,
        memoryview(b"\0\1\0\0" + b"NODE".ljust(16) + b"PACS".ljust(16) + bytes(32) + b"".join(items)),
    )


def test_a_request_of_pynetdicom_is_read() -> None:
    request = decode_request(received(associate_rq(calling_ae_title="PACS", max_pdu_bytes=28672)))
    assert (request.calling_ae_title, request.called_ae_title, request.max_pdu_bytes) == ("PACS", "NODE", 28672)
    assert request.application_context_name == "1.2.840.10008.3.1.1.1"
    assert request.protocol_version == 1
    assert request.implementation_version_name == ""
    assert [(context.context_id, context.abstract_syntax) for context in request.contexts] == list(PROPOSED)
    assert {context.transfer_syntax_uids for context in request.contexts} == {(ExplicitVRLittleEndian,)}


def test_pynetdicom_reads_our_request() -> None:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(encode_request(REQUEST))
    assert (pdu.calling_ae_title, pdu.called_ae_title, pdu.protocol_version) == ("PACS", "NODE", 1)
    assert pdu.application_context_name == "1.2.840.10008.3.1.1.1"
    assert pdu.user_information.maximum_length == 28672
    assert pdu.user_information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert pdu.user_information.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    assert [
        (each.context_id, each.abstract_syntax, tuple(each.transfer_syntax)) for each in pdu.presentation_context
    ] == [(each.context_id, each.abstract_syntax, each.transfer_syntax_uids) for each in REQUEST.contexts]


def test_pynetdicom_reads_our_acceptance() -> None:
    pdu = A_ASSOCIATE_AC()
    pdu.decode(encode_acceptance(ACCEPTANCE))
    assert (pdu.calling_ae_title, pdu.called_ae_title) == ("PACS", "NODE")
    assert pdu.application_context_name == "1.2.840.10008.3.1.1.1"
    assert pdu.user_information.maximum_length == 131072
    assert pdu.user_information.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    results = [(context.context_id, context.result, context.transfer_syntax) for context in pdu.presentation_context]
    assert results == [(1, 0, ExplicitVRLittleEndian), (3, 4, "1.2.3")]


@pytest.mark.parametrize("rejection", list(Rejection))
def test_a_rejection_is_read_by_pynetdicom_and_by_us(rejection: Rejection) -> None:
    encoded = encode_rejection(rejection)
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(encoded)
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == rejection.value
    assert decode_rejection(received(encoded)) == (rejection.value.result == 2, rejection.in_words)


def test_what_we_write_we_read() -> None:
    assert decode_request(received(encode_request(REQUEST))) == REQUEST
    assert decode_acceptance(received(encode_acceptance(ACCEPTANCE))) == ACCEPTANCE


def test_a_rejection_that_is_unknown_or_cut_short_has_its_numbers() -> None:
    assert decode_rejection(Pdu(PduType.ASSOCIATE_RJ, memoryview(b"\0\2\3\7"))) == (True, "source 3, reason 7")
    assert decode_rejection(Pdu(PduType.ASSOCIATE_RJ, memoryview(b""))) == (False, "source 0, reason 0")


def test_a_title_ends_at_its_first_nul() -> None:
    encoded = bytearray(associate_rq(calling_ae_title="PACS"))
    at = encoded.index(b"PACS")
    encoded[at : at + 16] = b"PACS\0garbage\0\0\0\0"
    assert decode_request(received(bytes(encoded))).calling_ae_title == "PACS"


@pytest.mark.parametrize(
    ("pdu", "message"),
    [
        (Pdu(PduType.ASSOCIATE_RQ, memoryview(bytes(67))), "67 bytes long, at least 68 expected"),
        (request_with(context_item(context_id=2)), "presentation context 2"),
        (request_with(context_item(abstract=0)), "with 0 abstract and 1 transfer"),
        (request_with(context_item(abstract=2)), "with 2 abstract and 1 transfer"),
        (request_with(context_item(transfer=0)), "with 1 abstract and 0 transfer"),
        (request_with(context_item(), context_item()), "the same ID"),
        (request_with(context_item()[:-1]), "item 0x20 of 46 bytes in a PDU that has 45 left"),
        (request_with(b"\x20\x00\x00"), "item without a header"),
        (request_with(b"\x20\x00\x00\x03abc"), "without an ID"),
    ],
    ids=["short", "even-id", "no-abstract", "two-abstract", "no-transfer", "same-id", "cut", "cut-header", "no-id"],
)
def test_a_broken_request_is_named(pdu: Pdu, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decode_request(pdu)


def test_an_accepted_context_names_one_transfer_syntax() -> None:
    encoded = bytearray(encode_acceptance(Acceptance("A", "B", (AnsweredContext(1, 3, "1.2"),), 0)))
    at = encoded.index(b"\x21\0")
    encoded[at + 6] = 0  # accepted
    assert decode_acceptance(received(bytes(encoded))).contexts[0].result == 0
    encoded[encoded.index(b"\x40\0", at)] = 0x41  # an item of another type
    with pytest.raises(ProtocolError, match="accepted with 0 transfer syntaxes"):
        decode_acceptance(received(bytes(encoded)))


@settings(max_examples=300, deadline=None)
@given(index=st.integers(6, len(encode_request(REQUEST)) - 1), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_changed_or_cut_pdus_are_read_or_refused(index: int, value: int, cut: int) -> None:
    for encoded, decode in (
        (encode_request(REQUEST), decode_request),
        (encode_acceptance(ACCEPTANCE), decode_acceptance),
    ):
        changed = bytearray(encoded)
        changed[min(index, len(changed) - 1)] = value
        body = memoryview(bytes(changed))[6 : len(changed) - cut]
        try:
            decode(Pdu(PduType(encoded[0]), body))  # type: ignore[operator]
        except ProtocolError:
            continue
