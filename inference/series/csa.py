"""Siemens' CSA header: a private table of names and text values inside one DICOM element.

Two versions exist. Both hold, little endian, the number of tags and an unused word, then for each tag 84 bytes (name of
64 bytes, multiplicity, VR, data type, number of items, a check word) and its items. An item is four words and a value
padded to four bytes. In CSA2, which begins with ``SV10``, the second word is the length of the value; in CSA1 it is
the first word less the number of items of the first tag, and an impossible length ends the tag. Described in nibabel's
documentation, "Siemens format DICOM with CSA header".
"""

from __future__ import annotations

import struct

CSA2_MAGIC = b"SV10"
MAX_TAGS = 1024  # scanners write about a hundred
_COUNT = struct.Struct("<2I")
_TAG = struct.Struct("<64si4s3i")
_ITEM = struct.Struct("<4i")


class CsaError(ValueError):
    """The bytes are not a CSA header, or end within one; the message says where."""


def read_csa(data: bytes) -> dict[str, tuple[str, ...]]:
    """Return the values of every tag by its name, empty values left out.

    Memory and time are bounded by the length of ``data``, whatever counts it contains.

    Raises
    ------
    CsaError
        Not a CSA header, or a damaged one.
    """
    is_csa2 = data[:4] == CSA2_MAGIC
    at = 8 if is_csa2 else 0
    if len(data) < at + _COUNT.size:
        raise CsaError(f"{len(data)} bytes are too few")
    n_tags, _ = _COUNT.unpack_from(data, at)
    if not 0 < n_tags <= MAX_TAGS:
        raise CsaError(f"{n_tags} tags, expected 1 to {MAX_TAGS}")
    at += _COUNT.size
    found: dict[str, tuple[str, ...]] = {}
    subtrahend = 0 if is_csa2 else None
    for number in range(1, n_tags + 1):
        if at + _TAG.size > len(data):
            raise CsaError(f"it ends within tag {number} of {n_tags}")
        name, _, _, _, n_items, _ = _TAG.unpack_from(data, at)
        at += _TAG.size
        if n_items < 0:
            raise CsaError(f"tag {number} has {n_items} items")
        subtrahend = n_items if subtrahend is None else subtrahend
        values, at = _items(data, at, n_items, is_csa2=is_csa2, subtrahend=subtrahend)
        found.setdefault(_text(name), values)
    return found


def _items(data: bytes, at: int, n_items: int, *, is_csa2: bool, subtrahend: int) -> tuple[tuple[str, ...], int]:
    """Values of one tag, and where the next tag begins."""
    values = []
    for _ in range(n_items):
        if at + _ITEM.size > len(data):
            raise CsaError("it ends within an item")
        first, second, _, _ = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        n_bytes = second if is_csa2 else first - subtrahend
        if not 0 <= n_bytes <= len(data) - at:
            if is_csa2:
                raise CsaError(f"an item of {n_bytes} bytes, {len(data) - at} are left")
            break
        text = _text(data[at : at + n_bytes])
        at = min(len(data), at + n_bytes + -n_bytes % 4)
        if text:
            values.append(text)
    return tuple(values), at


def _text(value: bytes) -> str:
    """Text up to the first NUL."""
    return value.split(b"\0", 1)[0].decode("latin-1").strip()
