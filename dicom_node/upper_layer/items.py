"""Items of the PDUs that negotiate an association: type, a reserved byte, length, value (PS3.8 9.3.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from dicom_node.upper_layer.errors import AbortReason, ProtocolError

ITEM_HEADER = struct.Struct(">BxH")


class ItemType(IntEnum):
    """First byte of an item or sub-item (PS3.8 9.3.2, 9.3.3 and annex D; PS3.7 D.3.3)."""

    APPLICATION_CONTEXT = 0x10
    PROPOSED_CONTEXT = 0x20
    ANSWERED_CONTEXT = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55
    EXTENDED_NEGOTIATION = 0x56


class Item(NamedTuple):
    """An item, possibly of an unknown type."""

    type: int
    value: memoryview

    @property
    def text(self) -> str:
        """Return the value as a UID or name, with replacements for bytes that are not ASCII."""
        return decode_text(self.value)


def split_items(encoded: memoryview) -> Iterator[Item]:
    """Yield the items one after the other.

    Raises
    ------
    ProtocolError
        One is cut short.
    """
    offset = 0
    while offset < len(encoded):
        start = offset + ITEM_HEADER.size
        if start > len(encoded):
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, "item without a header")
        item_type, length = ITEM_HEADER.unpack_from(encoded, offset)
        offset = start + length
        if offset > len(encoded):
            what = f"item 0x{item_type:02x} of {length} bytes in a PDU that has {len(encoded) - start} left"
            raise ProtocolError(AbortReason.INVALID_PDU_PARAMETER_VALUE, what)
        yield Item(item_type, encoded[start:offset])


def encode_item(item_type: ItemType, value: bytes) -> bytes:
    """Encode an item with its header."""
    return ITEM_HEADER.pack(item_type, len(value)) + value


def decode_text(value: memoryview | bytes) -> str:
    """Decode a UID, name or title up to its first NUL, without surrounding spaces; non-ASCII bytes are replaced."""
    return str(value, "ascii", "replace").partition("\0")[0].strip(" ")
