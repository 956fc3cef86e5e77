"""Read from a codestream how large its image is, before anything is allocated for it."""

from __future__ import annotations

import struct


def codestream_size(encoded: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream announces."""
    if encoded[:4] == b"\xff\x4f\xff\x51":  # SOC, SIZ (ISO 15444-1 A.5.1)
        if len(encoded) < 24:
            return None
        x_end, y_end, x_begin, y_begin = struct.unpack(">4I", encoded[8:24])
        return y_end - y_begin, x_end - x_begin
    at = 2
    while at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:  # SOFn; JPEG-LS
            rows, columns = struct.unpack(">2H", encoded[at + 5 : at + 9])
            return rows, columns
        else:
            at += 2 + struct.unpack(">H", encoded[at + 2 : at + 4])[0]
    return None
