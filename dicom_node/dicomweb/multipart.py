"""A multipart/related body (RFC 2387) written part by part, so that a study of any size needs little memory."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Final

from starlette.responses import StreamingResponse

from dicom_node.dicomweb.media_types import MULTIPART

CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its Content-Type, where it is found, and its bytes in chunks."""

    content_type: str
    location: str
    chunks: Iterator[bytes]


def read_chunks(file: BinaryIO, n_bytes: int | None = None) -> Iterator[bytes]:
    """The rest of a file, or ``n_bytes`` of it; closes the file."""
    with closing(file):
        left = n_bytes
        while left is None or left > 0:
            chunk = file.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
            if not chunk:
                return
            yield chunk
            if left is not None:
                left -= len(chunk)


def stream(chunks: Iterator[bytes], media_type: str) -> StreamingResponse:
    """Response that sends chunks as they come; an error before the first one is still an answer of its own."""
    first = next(chunks, b"")
    return StreamingResponse(chain((first,), chunks), media_type=media_type)


def multipart_response(parts: Iterable[Part], part_type: str) -> StreamingResponse:
    """Response of several parts of one type."""
    boundary = secrets.token_hex(16)
    return stream(_body(parts, boundary), f'{MULTIPART}; type="{part_type}"; boundary={boundary}')


def _body(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        head = f"--{boundary}\r\nContent-Type: {part.content_type}\r\nContent-Location: {part.location}\r\n\r\n"
        yield head.encode("latin-1") + next(part.chunks, b"")
        yield from part.chunks
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")
