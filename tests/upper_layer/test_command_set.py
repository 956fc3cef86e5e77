"""Command sets, against pynetdicom's encoding and pydicom's decoding."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.filereader import read_dataset
from pydicom.uid import CTImageStorage

from dicom_node.upper_layer.command_set import (
    CommandField,
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from dicom_node.upper_layer.errors import ProtocolError
from tests.dimse.raw_peer import command, echo_command, store_command


def test_a_store_request_is_read_as_pynetdicom_wrote_it() -> None:
    request = decode_request(store_command("2.25.123", message_id=7))
    assert request == Request(CommandField.C_STORE_RQ, 7, CTImageStorage, "2.25.123", has_data_set=True)


def test_an_echo_request_has_no_data_set() -> None:
    request = decode_request(echo_command(65535))
    assert (request.command_field, request.message_id, request.has_data_set) == (0x30, 65535, False)


def test_a_response_is_read_by_pydicom() -> None:
    request = Request(CommandField.C_STORE_RQ, 258, CTImageStorage, "2.25.7", has_data_set=True)
    encoded = encode_response(request, 0xA700, "no space")
    ds = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
    assert ds.CommandField == 0x8001
    assert ds.MessageIDBeingRespondedTo == 258
    assert ds.CommandDataSetType == 0x0101
    assert ds.Status == 0xA700
    assert ds.ErrorComment == "no space"
    assert ds.AffectedSOPClassUID == CTImageStorage
    assert ds.AffectedSOPInstanceUID == "2.25.7"
    assert ds.CommandGroupLength == len(encoded) - 12
    assert [element.tag for element in ds] == sorted(element.tag for element in ds)


def test_a_comment_is_cut_to_its_value_representation() -> None:
    request = Request(CommandField.C_STORE_RQ, 1, CTImageStorage, "2.25.7", has_data_set=True)
    ds = read_dataset(BytesIO(encode_response(request, 0xC000, "é" * 100)), is_implicit_VR=True, is_little_endian=True)
    assert ds.ErrorComment == "?" * 64


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (command(command_field=1, message_id=1), r"without element \(0000,0800\)"),
        (command(command_field=1, data_set_type=1), r"without element \(0000,0110\)"),
        (command(command_field=0x8001, message_id=1, data_set_type=1), r"without element \(0000,0120\)"),
        (b"\x00\x00\x00", "within an element's header"),
        (bytes.fromhex("08000000 02000000 0000"), r"element \(0008,0000\)"),
        (bytes.fromhex("00000001 ffffffff 0100"), r"4294967295 bytes"),
        (bytes.fromhex("00000001 01000000 01 00000008 02000000 0101"), "not two bytes"),
    ],
)
def test_a_broken_command_set_is_named(encoded: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decode_request(encoded)


@settings(max_examples=300, deadline=None)
@given(
    encoded=st.one_of(st.binary(max_size=300), st.binary(max_size=40).map(lambda tail: store_command("2.25.1") + tail))
)
def test_any_bytes_are_a_request_or_a_protocol_error(encoded: bytes) -> None:
    try:
        request = decode_request(encoded)
    except ProtocolError:
        return
    assert 0 <= request.message_id <= 0xFFFF


def test_a_request_of_ours_is_read_by_pydicom() -> None:
    request = Request(CommandField.C_STORE_RQ, 3, CTImageStorage, "2.25.77", has_data_set=True)
    ds = read_dataset(BytesIO(encode_request(request)), is_implicit_VR=True, is_little_endian=True)
    assert (ds.CommandField, ds.MessageID, ds.Priority) == (0x0001, 3, 0)
    assert ds.CommandDataSetType != 0x0101
    assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == (CTImageStorage, "2.25.77")
    assert decode_request(encode_request(request)) == request


def test_a_response_is_read_as_it_was_written() -> None:
    request = Request(CommandField.C_STORE_RQ, 9, CTImageStorage, "2.25.7", has_data_set=True)
    assert decode_response(encode_response(request, 0xA700, "no space")) == Response(
        0x8001, 9, 0xA700, "no space", False
    )


@settings(max_examples=200, deadline=None)
@given(encoded=st.binary(max_size=200))
def test_any_bytes_are_a_response_or_a_protocol_error(encoded: bytes) -> None:
    try:
        response = decode_response(encoded)
    except ProtocolError:
        return
    assert 0 <= response.status <= 0xFFFF
