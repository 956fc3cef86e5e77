"""Locate the pixel data of a file (PS3.3 C.7.6.3, PS3.5 A.4)."""

from __future__ import annotations

import struct
from typing import BinaryIO, Final, NamedTuple

from part10.errors import CutShortError, NotADatasetError
from part10.walk import DELIMITER_BYTES, ITEM, SEQUENCE_END, UNDEFINED_LENGTH, Walker

PIXEL_DATA_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # float, double float, integers
_VRS: Final = {0x7FE00008: "OF", 0x7FE00009: "OD"}  # with implicit VR; integers are OW (PS3.5 A.1)
_HEAD_BYTES: Final = 12
_ITEM_HEAD: Final = struct.Struct("<HHI")  # encapsulated pixel data are always little endian


class PixelDataLocation(NamedTuple):
    """Position of the value of the pixel data element; ``n_bytes`` is None if the length is undefined."""

    tag: int
    vr: str
    offset: int  # in the file
    n_bytes: int | None  # as declared, possibly more than there are


def pixel_data_location(tag: int, vr: bytes, offset: int, n_bytes: int) -> PixelDataLocation:
    """Return the location that follows from the tag, VR, value offset and length of a pixel data element."""
    name = vr.decode("ascii", "replace") or _VRS.get(tag, "OW")
    return PixelDataLocation(tag, name, offset, None if n_bytes == UNDEFINED_LENGTH else n_bytes)


def read_pixel_data_location(
    file: BinaryIO, *, is_implicit_vr: bool, is_little_endian: bool
) -> PixelDataLocation | None:
    """Read tag, VR and length of the element at the position of ``file``; None if it is not pixel data."""
    begin = file.tell()
    head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return None
    tag, vr, offset, n_bytes = Walker(head, "<" if is_little_endian else ">").element(0, is_implicit_vr)
    return pixel_data_location(tag, vr, begin + offset, n_bytes) if tag in PIXEL_DATA_TAGS else None


def encapsulated_end(file: BinaryIO, offset: int) -> int:
    """Return the offset after the sequence delimiter that ends encapsulated pixel data (PS3.5 A.4).

    Parameters
    ----------
    offset
        Of the first item.

    Raises
    ------
    NotADatasetError
        Something else than an item or the delimiter is found; `CutShortError` if the file ends before the delimiter.
    """
    while True:
        file.seek(offset)
        head = file.read(DELIMITER_BYTES)
        if len(head) < DELIMITER_BYTES:
            raise CutShortError("pixel data without its end")
        group, element, n_bytes = _ITEM_HEAD.unpack(head)
        tag = group << 16 | element
        offset += DELIMITER_BYTES
        if tag == SEQUENCE_END:
            return offset
        if tag != ITEM or n_bytes == UNDEFINED_LENGTH:
            raise NotADatasetError(f"{tag:08X} within pixel data where an item was expected")
        offset += n_bytes
