"""Elements encoded by hand, as PS3.5 7.1 describes them."""

from __future__ import annotations

import struct

UNDEFINED = 0xFFFFFFFF
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")


def element(
    tag: int, vr: bytes, value: bytes, *, n_bytes: int | None = None, is_implicit: bool = False, order: str = "<"
) -> bytes:
    """One element; ``n_bytes`` is the length that it claims, where that is another."""
    length = len(value) if n_bytes is None else n_bytes
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if is_implicit:
        return head + struct.pack(f"{order}I", length) + value
    if vr in LONG:
        return head + vr + struct.pack(f"{order}HI", 0, length) + value
    return head + vr + struct.pack(f"{order}H", length) + value


def delimiter(tag: int, *, n_bytes: int = 0, order: str = "<") -> bytes:
    """Item, item delimiter or sequence delimiter."""
    return element(tag, b"", b"", n_bytes=n_bytes, is_implicit=True, order=order)


def item(content: bytes, *, is_defined: bool = True, order: str = "<") -> bytes:
    """An item around encoded elements."""
    if is_defined:
        return delimiter(0xFFFEE000, n_bytes=len(content), order=order) + content
    return delimiter(0xFFFEE000, n_bytes=UNDEFINED, order=order) + content + delimiter(0xFFFEE00D, order=order)


def sequence(
    tag: int,
    items: bytes,
    *,
    vr: bytes = b"SQ",
    is_defined: bool = True,
    is_implicit: bool = False,
    order: str = "<",
) -> bytes:
    """A sequence around encoded items."""
    if is_defined:
        return element(tag, vr, items, is_implicit=is_implicit, order=order)
    head = element(tag, vr, b"", n_bytes=UNDEFINED, is_implicit=is_implicit, order=order)
    return head + items + delimiter(0xFFFEE0DD, order=order)
