"""Retrieve frames of an instance, as stored or decoded (PS3.18 10.4.1.1.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.decoding_budget import FIRST_WAIT_S, LATER_WAIT_S, DecodingBudget
from dicom_node.dicomweb.encoding import COPIES_OF_A_FRAME, DEFAULT_OF_TYPE, ENCODERS, encode
from dicom_node.dicomweb.errors import BadRequestError, NoSuchResourceError, NotAcceptableError
from dicom_node.dicomweb.frame_sources import Frames, FrameShape, FrameSources
from dicom_node.dicomweb.media_types import ANY_TRANSFER_SYNTAX, MULTIPART, OCTET_STREAM, MediaRange, accepted_ranges
from dicom_node.dicomweb.metadata import rows_of
from dicom_node.dicomweb.multipart import Part, in_chunks, multipart_response
from dicom_node.dicomweb.parsing import parsing, read_without_pixels
from dicom_node.dicomweb.resources import path_uids, resource_name, resource_url
from dicom_node.dicomweb.transcoding import decodable
from dicom_node.store import ObjectStore
from dicom_node.store.index.search import Search
from part10.pixel_data import PixelDataLocation

MAX_FRAMES: Final = 1000  # in one request
_MEDIA_TYPES: Final[dict[UID, str]] = {
    JPEGBaseline8Bit: "image/jpeg",
    JPEGExtended12Bit: "image/jpeg",
    JPEGLossless: "image/jpeg",
    JPEGLosslessSV1: "image/jpeg",
    JPEGLSLossless: "image/jls",
    JPEGLSNearLossless: "image/jls",
    JPEG2000Lossless: "image/jp2",
    JPEG2000: "image/jp2",
    HTJ2KLossless: "image/jphc",
    HTJ2KLosslessRPCL: "image/jphc",
    HTJ2K: "image/jphc",
    RLELossless: "image/dicom-rle",
}
"""Media type of a frame's stored bytes (PS3.18 table 8.7.3-5)."""


class FrameService:
    """``/frames/1,2,3`` of an instance."""

    def __init__(self, search: Search, objects: ObjectStore, budget: DecodingBudget) -> None:
        self._search = search
        self._objects = objects
        self._budget = budget

    def retrieve(self, request: Request) -> Response:
        """Return the requested frames, in the order of the request."""
        uids = path_uids(request)
        (row,) = rows_of(request, self._search, uids)
        resource = f"frames of {resource_name(uids)}"
        numbers = parse_frame_numbers(request.path_params["frames"])
        syntax = UID(row.transfer_syntax_uid)
        stored_type = _MEDIA_TYPES.get(syntax, OCTET_STREAM)
        ranges = accepted_ranges(request)
        encoding = None
        try:
            part_type, is_stored = choose_frames(ranges, resource, syntax, stored_type)
        except NotAcceptableError:
            part_type, encoding = choose_encoding(ranges, syntax)
            if encoding is None:
                raise
            is_stored = False
        ds, place = read_without_pixels(self._objects, row)
        if place is None and is_stored:
            raise NoSuchResourceError(resource)
        with parsing(row.sop_instance_uid):
            shape = FrameShape.of(ds, is_native=not syntax.is_encapsulated)
        if max(numbers) > shape.n_frames:
            raise NoSuchResourceError(f"frame {max(numbers)} of {shape.n_frames} of {resource_name(uids)}")
        sources = FrameSources(self._objects, row, shape, self._budget)
        if encoding is not None:
            frames = decodable(encoded_frames(sources, ds, place, numbers, encoding, self._budget), row)
        elif is_stored and place is not None:
            frames = sources.stored(place, numbers)
        else:
            frames = decodable(sources.decoded(ds, place, numbers), row)
        as_is = syntax if is_stored and syntax.is_encapsulated else ExplicitVRLittleEndian
        sent_syntax = encoding or as_is
        return multipart_response(
            _parts(frames, numbers, resource_url(request, uids), f"{part_type}; transfer-syntax={sent_syntax}"),
            part_type,
        )


def _parts(frames: Frames, numbers: Sequence[int], url: str, content_type: str) -> Iterator[Part]:
    with closing(frames):
        for number, chunks in zip(numbers, frames, strict=True):
            yield Part(content_type, f"{url}/frames/{number}", chunks)


def encoded_frames(
    sources: FrameSources,
    ds: Dataset,
    place: PixelDataLocation | None,
    numbers: Sequence[int],
    syntax: UID,
    budget: DecodingBudget,
) -> Frames:
    """Yield frames encoded in a transfer syntax, one of `ENCODERS`."""
    for index, number in enumerate(numbers):
        wait_s = LATER_WAIT_S if index else FIRST_WAIT_S
        with closing(sources.described(ds, place, number, wait_s=wait_s)) as frames:
            decoded = next(frames)
            with budget.reserve(COPIES_OF_A_FRAME * len(decoded.pixels), wait_s=wait_s):
                yield in_chunks(encode(decoded, ds, syntax).frame)


def parse_frame_numbers(text: str) -> tuple[int, ...]:
    """Return the frame numbers in the path; they count from 1."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*", text):
        raise BadRequestError("frame list", text, "numbers from 1, separated by commas")
    numbers = tuple(int(number) for number in text.split(","))
    if len(numbers) > MAX_FRAMES:
        raise BadRequestError("frame list", f"{len(numbers)} numbers", f"at most {MAX_FRAMES} in one request")
    return numbers


def choose_frames(ranges: Sequence[MediaRange], resource: str, syntax: UID, stored_type: str) -> tuple[str, bool]:
    """Return the media type of the parts, and whether the stored bytes are sent undecoded.

    A range without a transfer syntax means the default of its media type: explicit VR little endian for bytes, the
    stored transfer syntax for an image type.
    """
    if not syntax.is_transfer_syntax:  # private: how its pixels are encoded is unknown
        raise NotAcceptableError(resource, f"the instance itself, with transfer-syntax={syntax}")
    is_native = syntax.is_little_endian and not syntax.is_encapsulated and not syntax.is_deflated
    is_sendable = is_native or syntax.is_encapsulated
    stored_syntaxes = {ANY_TRANSFER_SYNTAX, str(syntax), str(ExplicitVRLittleEndian) if is_native else str(syntax)}
    for accepted in ranges:
        wanted = accepted.transfer_syntax_uid
        if accepted.media_type in {"*/*", "multipart/*"}:
            return stored_type, is_sendable
        if accepted.media_type != MULTIPART:
            continue
        takes_stored = is_sendable and wanted in stored_syntaxes
        is_image = syntax.is_encapsulated and accepted.part_type in {stored_type, "image/*", "*/*"}
        if is_image and (takes_stored or wanted is None):
            return stored_type, True
        if accepted.part_type in {OCTET_STREAM, "*/*"}:
            if takes_stored or (is_native and wanted is None):
                return OCTET_STREAM, True
            if wanted in {None, ANY_TRANSFER_SYNTAX, ExplicitVRLittleEndian}:
                return OCTET_STREAM, False
    raise NotAcceptableError(resource, f'{MULTIPART}; type="{stored_type}"; transfer-syntax={syntax}')


def choose_encoding(ranges: Sequence[MediaRange], stored: UID) -> tuple[str, UID | None]:
    """Return the first media type that frames can be encoded in, and its transfer syntax; None if there is none."""
    if not stored.is_transfer_syntax or not stored.is_little_endian:
        return "", None
    for accepted in ranges:
        kind = accepted.part_type
        if accepted.media_type != MULTIPART or kind == OCTET_STREAM:
            continue
        wanted = accepted.transfer_syntax_uid
        syntax = DEFAULT_OF_TYPE.get(kind) if wanted in {None, ANY_TRANSFER_SYNTAX} else UID(wanted)
        if syntax is not None and syntax in ENCODERS and _MEDIA_TYPES[syntax] == kind:
            return kind, syntax
    return "", None
