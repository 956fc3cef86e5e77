"""Elements of an encoded dataset, found without decoding them (PS3.5 7.1).

Made for untrusted bytes: one pass, no recursion, no more work than there are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

MAX_ELEMENTS = 65_536  # of one level; real headers have some hundreds
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_EXPLICIT_HEADERS = {True: struct.Struct("<HH2sH"), False: struct.Struct(">HH2sH")}
_IMPLICIT_HEADERS = {True: struct.Struct("<HHI"), False: struct.Struct(">HHI")}
_LONGS = {True: struct.Struct("<I"), False: struct.Struct(">I")}


class CutError(ValueError):
    """The bytes end within an element."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Wanted elements that were found."""

    values: dict[int, bytes]  # tag → value as encoded
    is_complete: bool  # all tags up to the last wanted one were passed, or the bytes ended behind an element


def scan_elements(
    encoded: bytes, wanted: Collection[int], last_tag: int, *, is_implicit_vr: bool, is_little_endian: bool
) -> Scan:
    """Find top-level elements, and stop at the first tag behind ``last_tag``.

    Raises
    ------
    ValueError
        The bytes are not a dataset; `CutError` where they only end too early.
    """
    values: dict[int, bytes] = {}
    position, end = 0, len(encoded)
    for _ in range(MAX_ELEMENTS):
        if position >= end:
            return Scan(values, is_complete=position == end)
        tag, start, length, _ = _element(encoded, position, is_implicit_vr, is_little_endian)
        if tag > last_tag:
            return Scan(values, is_complete=True)
        if length == _UNDEFINED:
            position = _behind_sequence(encoded, position, is_implicit_vr, is_little_endian)
            continue
        position = start + length
        if tag in wanted:
            if position > end:
                raise CutError(f"element {tag:08X} of {length} bytes at {start} in {end}")
            values[tag] = encoded[start:position]
    raise ValueError(f"more than {MAX_ELEMENTS} elements up to {tag:08X}")


def _element(encoded: bytes, position: int, is_implicit_vr: bool, is_little_endian: bool) -> tuple[int, int, int, bool]:
    """Tag, start and length of the value, and whether what is in it has implicit VR."""
    try:
        if not is_implicit_vr:
            group, element, vr, length = _EXPLICIT_HEADERS[is_little_endian].unpack_from(encoded, position)
            # Items have no VR. Some senders mix implicit elements into explicit datasets; a length that reads as two
            # capitals would be 16 kB at least.
            if group != 0xFFFE and vr.isalpha() and vr.isupper():
                if vr not in _LONG_VRS:
                    return group << 16 | element, position + 8, length, False
                (length,) = _LONGS[is_little_endian].unpack_from(encoded, position + 8)
                return group << 16 | element, position + 12, length, vr == b"UN"  # PS3.5 6.2.2: in UN all is implicit
        group, element, length = _IMPLICIT_HEADERS[is_little_endian].unpack_from(encoded, position)
    except struct.error as error:
        raise CutError(f"element at {position} in {len(encoded)} bytes") from error
    return group << 16 | element, position + 8, length, is_implicit_vr


def _behind_sequence(encoded: bytes, position: int, is_implicit_vr: bool, is_little_endian: bool) -> int:
    """Position behind an element of undefined length."""
    _, position, _, is_implicit_within = _element(encoded, position, is_implicit_vr, is_little_endian)
    open_levels = [(True, is_implicit_within)]  # is it a sequence (else an item), is it implicit
    while open_levels:
        is_sequence, is_implicit = open_levels[-1]
        tag, start, length, is_implicit_within = _element(encoded, position, is_implicit, is_little_endian)
        position = start
        if tag == (_SEQUENCE_END if is_sequence else _ITEM_END):
            open_levels.pop()
        elif is_sequence and tag != _ITEM:
            raise ValueError(f"{tag:08X} at {start} where an item was expected")
        elif length == _UNDEFINED:
            open_levels.append((not is_sequence, is_implicit if is_sequence else is_implicit_within))
        else:
            position += length
    return position
