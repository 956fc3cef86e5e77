"""Write multipart/related bodies (RFC 2387) part by part, so that a study of any size needs little memory."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dicom_node.dicomweb.media_types import MULTIPART
from dicom_node.errors import NodeError

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its Content-Type, its Content-Location, and its bytes in chunks."""

    content_type: str
    location: str
    chunks: Iterator[bytes]


def read_chunks(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    """Yield the next ``n_bytes`` of a file; raise `EOFError` if it ends before."""
    while n_bytes > 0:
        chunk = file.read(min(n_bytes, CHUNK_BYTES))
        if not chunk:
            raise EOFError(f"the file ends {n_bytes} bytes too early")
        yield chunk
        n_bytes -= len(chunk)


def in_chunks(content: bytes) -> Iterator[bytes]:
    """Cut into pieces, so that the server does not buffer all of it for a client that reads slowly."""
    view = memoryview(content)
    for begin in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[begin : begin + CHUNK_BYTES])


class ClosingResponse(StreamingResponse):
    """Response that closes its chunks when the client has left, so that what they hold is free for others at once.

    An error after its first byte cuts the answer off, so that no client takes half of it for the whole, and is logged.
    """

    def __init__(self, first: bytes, chunks: Iterator[bytes], media_type: str) -> None:
        super().__init__(chain((first,), chunks), media_type=media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        except NodeError as error:
            fields = {"path": scope["path"], "code": error.code}
            log.error("answer cut off: %s", error, extra=fields)  # noqa: TRY400 - a traceback would say no more
        finally:
            self.close()

    def close(self) -> None:
        """Release what the chunks hold."""
        if isinstance(self._chunks, Generator):
            self._chunks.close()


def stream(chunks: Iterator[bytes], media_type: str) -> Response:
    """Return a response that sends chunks as they are produced; an error in the first one is raised here."""
    first = next(chunks, b"")
    if len(first) < CHUNK_BYTES:
        second = next(chunks, None)
        if second is None:  # that is all: no streaming, which costs a millisecond
            return Response(first, media_type=media_type)
        first += second
    return ClosingResponse(first, chunks, media_type)


def joined(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield all but the last piece with `CHUNK_BYTES` at least: each one that is sent costs a change of threads."""
    piece = bytearray()
    for chunk in chunks:
        if not piece and len(chunk) >= CHUNK_BYTES:
            yield chunk
            continue
        piece += chunk
        if len(piece) >= CHUNK_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def multipart_response(parts: Iterable[Part], part_type: str) -> Response:
    """Return a response of several parts of one type."""
    boundary = secrets.token_hex(16)
    return stream(joined(_body(parts, boundary)), f'{MULTIPART}; type="{part_type}"; boundary={boundary}')


def _body(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        head = f"--{boundary}\r\nContent-Type: {part.content_type}\r\nContent-Location: {part.location}\r\n\r\n"
        yield head.encode("latin-1")
        yield from part.chunks
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")
