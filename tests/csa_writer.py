"""CSA headers as Siemens scanners write them, made from names and values: both versions, for tests."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

CHECK_WORD, UNUSED = 77, 0x01020304
# The number of items of the first tag, which CSA1 adds to every length.
CSA1_EXTRA = 6


def write_csa(tags: Mapping[str, Sequence[str]], *, version: int = 2, n_items: int = CSA1_EXTRA) -> bytes:
    """One header; every tag has ``n_items`` items, of which those without a value are empty, as scanners do."""
    parts = [struct.pack("<4sI", b"SV10", UNUSED)] if version == 2 else []
    parts.append(struct.pack("<2I", len(tags), CHECK_WORD))
    for name, values in tags.items():
        n = max(n_items, len(values)) if version == 2 else n_items
        assert len(values) <= n
        parts.append(struct.pack("<64si4s3i", name.encode(), len(values), b"FD\0\0", 4, n, CHECK_WORD))
        for index in range(n):
            value = values[index].encode() + b"\0" if index < len(values) else b""
            n_bytes = len(value)
            words = (n_bytes, n_bytes, CHECK_WORD, n_bytes) if version == 2 else (n_bytes + n_items, n_bytes, 77, 0)
            parts.append(struct.pack("<4i", *words) + value + bytes(-n_bytes % 4))
    return b"".join(parts)


def mosaic_tags(n_tiles: int | None, normal: Sequence[float] | None) -> dict[str, list[str]]:
    """What a mosaic's header says of its tiles, among other things."""
    return {
        "EchoLinePosition": ["32"],
        "NumberOfImagesInMosaic": [] if n_tiles is None else [str(n_tiles)],
        "SliceNormalVector": [] if normal is None else [f"{value:.8f}" for value in normal],
        "ProtocolSliceNumber": ["0"],
    }
