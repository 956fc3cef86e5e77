"""The preamble and the file meta information in front of a dataset (PS3.10 7.1)."""

from __future__ import annotations

import struct
from typing import Final

from part10.errors import NotPart10Error
from part10.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PREAMBLE_BYTES: Final = 128
PREFIX: Final = bytes(PREAMBLE_BYTES) + b"DICM"
START_BYTES: Final = 144
"""Preamble, prefix and (0002,0000), the length of what follows it in its group."""

_GROUP_LENGTH: Final = struct.Struct("<HH2sHI")
_GROUP_LENGTH_HEAD: Final = b"\x02\x00\x00\x00UL\x04\x00"


def file_meta(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble and file meta information in explicit VR little endian; same arguments, same bytes."""
    elements = b"".join(
        (
            struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01",
            _text(0x0002, b"UI", sop_class_uid, b"\x00"),
            _text(0x0003, b"UI", sop_instance_uid, b"\x00"),
            _text(0x0010, b"UI", transfer_syntax_uid, b"\x00"),
            _text(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\x00"),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" "),
        )
    )
    return PREFIX + _GROUP_LENGTH.pack(0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def dataset_offset(start: bytes) -> int:
    """Return the offset of the dataset in a file whose first `START_BYTES` are given.

    Raises
    ------
    NotPart10Error
        The file does not begin with a preamble, ``DICM`` and (0002,0000).
    """
    if len(start) < START_BYTES or not has_prefix(start):
        raise NotPart10Error("no preamble and DICM at its beginning")
    begin = PREAMBLE_BYTES + 4
    if start[begin : begin + len(_GROUP_LENGTH_HEAD)] != _GROUP_LENGTH_HEAD:
        raise NotPart10Error("no length of the file meta information, (0002,0000), after the preamble")
    return START_BYTES + int.from_bytes(start[START_BYTES - 4 : START_BYTES], "little")


def has_prefix(start: bytes) -> bool:
    """Whether the bytes begin with a preamble of any content and ``DICM``."""
    return start[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == b"DICM"


def _text(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")  # non-ASCII text is not a UID and is refused before it is stored
    if len(value) % 2:
        value += padding
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
