"""Send JSON answers of any length in pieces, compressed if the client accepts gzip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.multipart import CHUNK_BYTES, stream

_GZIP_LEVEL: Final = 1  # a fifth of the size; the highest level takes ten times as long to save another tenth
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_MAX_CODINGS: Final = 16


def json_array(objects: Iterable[bytes]) -> Iterator[bytes]:
    """Yield encoded objects as a JSON array, in pieces of about `CHUNK_BYTES`."""
    piece, separator = bytearray(b"["), b""
    for encoded in objects:
        piece += separator
        piece += encoded
        separator = b","
        if len(piece) >= CHUNK_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece + b"]")


def stream_json(
    request: Request, pieces: Iterator[bytes], media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response that sends pieces as they are produced, compressed if the client accepts gzip."""
    all_headers = {"Vary": "Accept-Encoding", **(headers or {})}
    if takes_gzip(request):
        pieces = _gzipped(pieces)
        all_headers["Content-Encoding"] = "gzip"
    response = stream(pieces, media_type)
    response.headers.update(all_headers)
    return response


def takes_gzip(request: Request) -> bool:
    """Whether Accept-Encoding has gzip with a weight other than zero (RFC 9110 12.5.3)."""
    for coding in request.headers.get("accept-encoding", "").split(",", _MAX_CODINGS)[:_MAX_CODINGS]:
        name, _, weight = coding.partition(";")
        if name.strip().lower() in {"gzip", "x-gzip"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
    for piece in pieces:
        compressed = compressor.compress(piece)
        if compressed:
            yield compressed
    yield compressor.flush()
