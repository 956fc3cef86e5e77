"""Encode and decode DIMSE command sets (PS3.7 6.3, annex E)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from dicom_node.upper_layer.errors import AbortReason, ProtocolError

ELEMENT_HEADER = struct.Struct("<HHI")  # group, element, length: implicit VR little endian, always (PS3.7 6.3.1)
US = struct.Struct("<H")
UL = struct.Struct("<I")
NO_DATA_SET = 0x0101
HAS_DATA_SET = 0x0000
MEDIUM_PRIORITY = 0x0000
RESPONSE = 0x8000
MAX_COMMAND_SET_BYTES = 64 * 1024
MAX_COMMENT_CHARACTERS = 64  # VR LO
PLAUSIBLE_UID = re.compile(r"[0-9][0-9.]{0,63}")


class CommandField(IntEnum):
    """Operations that the node performs, requests or has to name."""

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Elements of group 0000 that the node reads or writes."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    OFFENDING_ELEMENT = 0x0901
    ERROR_COMMENT = 0x0902
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
    NUMBER_OF_REMAINING_SUBOPERATIONS = 0x1020
    NUMBER_OF_COMPLETED_SUBOPERATIONS = 0x1021
    NUMBER_OF_FAILED_SUBOPERATIONS = 0x1022
    NUMBER_OF_WARNING_SUBOPERATIONS = 0x1023
    MOVE_ORIGINATOR_AE_TITLE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


class MoveOriginator(NamedTuple):
    """The C-MOVE request that has caused a C-STORE (PS3.7 9.1.1.1)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request; UIDs that it does not contain are empty."""

    command_field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool
    type_id: int | None = None  # Event Type ID or Action Type ID
    move_destination: str = ""  # AE title, of a C-MOVE
    moved_for: MoveOriginator | None = None  # of a C-STORE that a C-MOVE has caused

    @property
    def has_sop_instance_uid(self) -> bool:
        """Whether the SOP Instance UID is valid; leading zeros in a component are allowed, since devices send them."""
        return PLAUSIBLE_UID.fullmatch(self.sop_instance_uid) is not None

    @property
    def is_response(self) -> bool:
        """Whether it is a response, which an acceptor must not receive because it sends no requests."""
        return bool(self.command_field & RESPONSE)


@dataclass(frozen=True, slots=True)
class Response:
    """A response to a request; the comment is empty if there was none."""

    command_field: int
    message_id: int
    status: int
    comment: str
    has_data_set: bool


def decode_request(encoded: bytes) -> Request:
    """Read a command set.

    Raises
    ------
    ProtocolError
        It is cut short, leaves group 0000, or has no command field or message ID.
    """
    values = _elements(encoded)
    try:
        command_field = US.unpack(values[Element.COMMAND_FIELD])[0]
        data_set_type = US.unpack(values[Element.DATA_SET_TYPE])[0]
        id_element = Element.MESSAGE_ID
        if command_field & RESPONSE or command_field == CommandField.C_CANCEL_RQ:
            id_element = Element.MESSAGE_ID_BEING_RESPONDED_TO
        message_id = US.unpack(values[id_element])[0]
        type_id = values.get(Element.EVENT_TYPE_ID, values.get(Element.ACTION_TYPE_ID))
        type_number = None if type_id is None else US.unpack(type_id)[0]
    except KeyError as error:
        raise _invalid(f"command set without element (0000,{error.args[0]:04X})") from None
    except struct.error:
        raise _invalid("command set with a number that is not two bytes long") from None
    sop_class_uid = values.get(Element.AFFECTED_SOP_CLASS_UID, values.get(Element.REQUESTED_SOP_CLASS_UID, b""))
    instance_uid = values.get(Element.AFFECTED_SOP_INSTANCE_UID, values.get(Element.REQUESTED_SOP_INSTANCE_UID, b""))
    return Request(
        command_field,
        message_id,
        _uid(sop_class_uid),
        _uid(instance_uid),
        data_set_type != NO_DATA_SET,
        type_number,
        _uid(values.get(Element.MOVE_DESTINATION, b"")).strip(" "),
    )


def encode_response(
    request: Request,
    status: int,
    comment: str = "",
    *,
    has_data_set: bool = False,
    more: Mapping[Element, bytes] | None = None,
) -> bytes:
    """Encode the response to ``request``; the comment is cut to the length of an Error Comment.

    Parameters
    ----------
    more
        Further elements with their encoded values, such as the numbers of sub-operations.
    """
    text = comment.encode("ascii", "replace")[:MAX_COMMENT_CHARACTERS]
    elements = {
        Element.AFFECTED_SOP_CLASS_UID: _padded(request.sop_class_uid.encode("ascii", "replace"), b"\0"),
        Element.COMMAND_FIELD: US.pack(request.command_field | RESPONSE),
        Element.MESSAGE_ID_BEING_RESPONDED_TO: US.pack(request.message_id),
        Element.DATA_SET_TYPE: US.pack(HAS_DATA_SET if has_data_set else NO_DATA_SET),
        Element.STATUS: US.pack(status),
        Element.ERROR_COMMENT: _padded(text, b" "),
        Element.AFFECTED_SOP_INSTANCE_UID: _padded(request.sop_instance_uid.encode("ascii", "replace"), b"\0"),
    }
    return _encode(elements if more is None else dict(sorted((elements | dict(more)).items())))


def encode_request(request: Request) -> bytes:
    """Encode the command set of a request."""
    has_priority = request.command_field in (CommandField.C_STORE_RQ, CommandField.C_FIND_RQ)
    is_action = request.command_field == CommandField.N_ACTION_RQ
    sop_class_uid = _padded(request.sop_class_uid.encode("ascii"), b"\0")
    sop_instance_uid = _padded(request.sop_instance_uid.encode("ascii"), b"\0")
    return _encode(
        {
            Element.AFFECTED_SOP_CLASS_UID: b"" if is_action else sop_class_uid,
            Element.REQUESTED_SOP_CLASS_UID: sop_class_uid if is_action else b"",
            Element.COMMAND_FIELD: US.pack(request.command_field),
            Element.MESSAGE_ID: US.pack(request.message_id),
            Element.PRIORITY: US.pack(MEDIUM_PRIORITY) if has_priority else b"",
            Element.DATA_SET_TYPE: US.pack(HAS_DATA_SET if request.has_data_set else NO_DATA_SET),
            Element.AFFECTED_SOP_INSTANCE_UID: b"" if is_action else sop_instance_uid,
            Element.REQUESTED_SOP_INSTANCE_UID: sop_instance_uid if is_action else b"",
            Element.ACTION_TYPE_ID: US.pack(request.type_id) if is_action and request.type_id is not None else b"",
            **_originator(request.moved_for),
        }
    )


def _originator(moved_for: MoveOriginator | None) -> Mapping[Element, bytes]:
    if moved_for is None:
        return {}
    return {
        Element.MOVE_ORIGINATOR_AE_TITLE: _padded(moved_for.ae_title.encode("ascii", "replace"), b" "),
        Element.MOVE_ORIGINATOR_MESSAGE_ID: US.pack(moved_for.message_id),
    }


def is_response(encoded: bytes) -> bool:
    """Return whether a command set is a response and not a request; raises like `decode_request`."""
    command_field = _elements(encoded).get(Element.COMMAND_FIELD, b"")
    if len(command_field) != US.size:
        raise _invalid("command set without a command field of two bytes")
    return bool(US.unpack(command_field)[0] & RESPONSE)


def decode_response(encoded: bytes) -> Response:
    """Decode the response to a request.

    Raises
    ------
    ProtocolError
        It is malformed, or not a response.
    """
    values = _elements(encoded)
    try:
        command_field, message_id, status = (
            US.unpack(values[element])[0]
            for element in (Element.COMMAND_FIELD, Element.MESSAGE_ID_BEING_RESPONDED_TO, Element.STATUS)
        )
    except KeyError as error:
        raise _invalid(f"response without element (0000,{error.args[0]:04X})") from None
    except struct.error:
        raise _invalid("response with a number that is not two bytes long") from None
    comment = values.get(Element.ERROR_COMMENT, b"").decode("ascii", "replace").strip(" \0")
    has_data_set = values.get(Element.DATA_SET_TYPE, US.pack(NO_DATA_SET)) != US.pack(NO_DATA_SET)
    return Response(command_field, message_id, status, comment, has_data_set)


def _encode(elements: Mapping[Element, bytes]) -> bytes:
    """Encode the elements that have a value; they must be in ascending order."""
    body = b"".join(ELEMENT_HEADER.pack(0, number, len(value)) + value for number, value in elements.items() if value)
    return ELEMENT_HEADER.pack(0, Element.GROUP_LENGTH, UL.size) + UL.pack(len(body)) + body


def _elements(encoded: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        if len(encoded) - offset < ELEMENT_HEADER.size:
            raise _invalid("command set ends within an element's header")
        group, number, length = ELEMENT_HEADER.unpack_from(encoded, offset)
        start = offset + ELEMENT_HEADER.size
        offset = start + length
        if group != 0 or offset > len(encoded):
            raise _invalid(f"command set with element ({group:04X},{number:04X}) of {length} bytes")
        values[number] = encoded[start:offset]
    return values


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")


def _padded(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value


def _invalid(what: str) -> ProtocolError:
    return ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)
