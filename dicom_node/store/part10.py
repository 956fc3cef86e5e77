"""The preamble and file meta that stand in front of a stored dataset (PS3.10 7.1)."""

from __future__ import annotations

import struct

IMPLEMENTATION_CLASS_UID = "2.25.228701942079412254809375717563428474258"  # a random UUID, made once (PS3.5 B.2)
IMPLEMENTATION_VERSION_NAME = "DICOM_NODE"  # without a version: the same dataset gives the same file for ever

_PREFIX = bytes(128) + b"DICM"
_GROUP_LENGTH = struct.Struct("<HH2sHI")


def file_meta(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information, explicit VR little endian; depends on nothing but the arguments."""
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
    return _PREFIX + _GROUP_LENGTH.pack(0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def dataset_offset(start: bytes) -> int:
    """Where the dataset begins, from at least the first 144 bytes of a file that begins with `file_meta`."""
    *_, length = _GROUP_LENGTH.unpack_from(start, len(_PREFIX))
    return len(_PREFIX) + _GROUP_LENGTH.size + int(length)


def _text(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")  # what is not ASCII is no UID, and refused before it is kept
    if len(value) % 2:
        value += padding
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
