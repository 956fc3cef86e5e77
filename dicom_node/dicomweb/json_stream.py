"""Send JSON answers of any length in pieces, compressed if the client accepts zstd or gzip."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import imagecodecs
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.media_types import DICOM_XML
from dicom_node.dicomweb.multipart import CHUNK_BYTES, Part, multipart_response, stream
from dicom_node.dicomweb.native_xml import native_xml

_GZIP_LEVEL: Final = 1  # a fifth of the size; the highest level takes ten times as long to save another tenth
_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_MAX_CODINGS: Final = 16
_ZSTD_LEVEL: Final = 3


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
    """Return a response that sends pieces as they are produced, compressed if the client accepts zstd or gzip."""
    all_headers = {"Vary": "Accept-Encoding", **(headers or {})}
    coding = accepted_coding(request)
    if coding:
        pieces = _CODINGS[coding](pieces)
        all_headers["Content-Encoding"] = coding
    response = stream(pieces, media_type)
    response.headers.update(all_headers)
    return response


def xml_response(request: Request, objects: Iterable[Mapping[str, Any]]) -> Response:
    """Return a response with an XML document in a part for each DICOM JSON object."""
    location = str(request.url.path)
    parts = (Part(DICOM_XML, location, iter((native_xml(members),))) for members in objects)
    return multipart_response(parts, DICOM_XML)


def accepted_coding(request: Request) -> str:
    """Return ``zstd`` or ``gzip`` if Accept-Encoding has it and not with weight 0 (RFC 9110 12.5.3), or nothing."""
    accepted = set()
    for coding in request.headers.get("accept-encoding", "").split(",", _MAX_CODINGS)[:_MAX_CODINGS]:
        name, _, weight = coding.partition(";")
        if weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            accepted.add(name.strip().lower().removeprefix("x-"))
    return next((coding for coding in _CODINGS if coding in accepted), "")


def _zstandard(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a frame for each piece; a decoder takes them as one stream (RFC 8878 3)."""
    for piece in pieces:
        yield bytes(imagecodecs.zstd_encode(piece, level=_ZSTD_LEVEL))


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
    for piece in pieces:
        compressed = compressor.compress(piece)
        if compressed:
            yield compressed
    yield compressor.flush()


_CODINGS: Final[Mapping[str, Callable[[Iterator[bytes]], Iterator[bytes]]]] = {"zstd": _zstandard, "gzip": _gzipped}
"""The better ones first."""
