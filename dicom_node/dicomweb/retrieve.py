"""WADO-RS: retrieve instances of studies and series, single instances, and bulk data (PS3.18 10.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from io import SEEK_END
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.byte_ranges import requested_range
from dicom_node.dicomweb.decoding_budget import DecodingBudget
from dicom_node.dicomweb.encoding import ENCODERS
from dicom_node.dicomweb.errors import BadRequestError, NoSuchResourceError, NotAcceptableError
from dicom_node.dicomweb.media_types import (
    ANY_TRANSFER_SYNTAX,
    DICOM,
    MULTIPART,
    OCTET_STREAM,
    MediaRange,
    accepted_ranges,
)
from dicom_node.dicomweb.metadata import rows_of, uids_of
from dicom_node.dicomweb.multipart import CHUNK_BYTES, Part, in_chunks, joined, multipart_response, read_chunks, stream
from dicom_node.dicomweb.parsing import parsing, read_without_pixels
from dicom_node.dicomweb.resources import path_uids, resource_name, resource_url
from dicom_node.dicomweb.transcoding import encoded_losslessly, explicit_little_endian
from dicom_node.dicomweb.zip_stream import ZIP, Entry, zip_chunks
from dicom_node.store import InstanceRow, ObjectStore, read_checked
from dicom_node.store.index.search import Search
from part10.pixel_data import PIXEL_DATA_TAGS

_ANY_TYPES: Final = frozenset({"*/*", "application/*"})
MAX_DECODED_BYTES: Final = 2**32
_TAG_PATH: Final = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,10}/[0-9A-Fa-f]{8})*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the client accepts instances: in what, and in which transfer syntaxes."""

    container: str  # media type
    transfer_syntax_uids: frozenset[str]

    def syntax_of(self, transfer_syntax_uid: str) -> UID | None:
        """Return the transfer syntax in which an instance is sent; None if it is not available in any that is taken."""
        stored = UID(transfer_syntax_uid)
        if self.sends_as_stored(stored):
            return stored
        if not stored.is_transfer_syntax or not stored.is_little_endian:  # a private one does not say what pixels are
            return None
        candidates = (ExplicitVRLittleEndian, *ENCODERS)
        return next((syntax for syntax in candidates if syntax in self.transfer_syntax_uids), None)

    def sends_as_stored(self, transfer_syntax_uid: str) -> bool:
        """Whether the stored bytes may be sent unchanged."""
        return bool(self.transfer_syntax_uids & {ANY_TRANSFER_SYNTAX, transfer_syntax_uid})


@dataclass(frozen=True, slots=True)
class _BulkValue:
    """The bytes of one value, of which any part can be read."""

    n_bytes: int
    chunks: Callable[[int, int], Iterator[bytes]]  # offset and length → bytes


class RetrieveService:
    """Retrieve instances and bulk data."""

    def __init__(self, search: Search, objects: ObjectStore, budget: DecodingBudget) -> None:
        self._search = search
        self._objects = objects
        self._budget = budget

    def instances(self, request: Request) -> Response:
        """Return all instances below the path, as stored if the client accepts that."""
        uids = path_uids(request)
        rows = rows_of(request, self._search, uids)
        wanted = choose_instances(accepted_ranges(request), resource_name(uids), rows)
        if wanted.container == DICOM:
            (row,) = rows
            return self.instance(row, wanted)
        if wanted.container == ZIP:
            return self._zipped(rows, wanted, name=list(uids.values())[-1])
        return multipart_response(self._parts(request, rows, wanted), DICOM)

    def instance(self, row: InstanceRow, wanted: Wanted) -> Response:
        """Return one instance as the whole body."""
        return stream(self._chunks(row, wanted, is_first=True), DICOM)

    def _zipped(self, rows: Sequence[InstanceRow], wanted: Wanted, name: str) -> Response:
        """Return all instances as files, a folder for each series; their names are UIDs."""
        entries = (
            Entry(
                f"{row.study_instance_uid}/{row.series_instance_uid}/{row.sop_instance_uid}.dcm",
                row.dataset_bytes if wanted.sends_as_stored(row.transfer_syntax_uid) else MAX_DECODED_BYTES,
                self._chunks(row, wanted, is_first=row is rows[0]),
            )
            for row in rows
        )
        response = stream(joined(zip_chunks(entries)), ZIP)
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.zip"'
        return response

    def bulk_data(self, request: Request) -> Response:
        """Return one value: ``/bulkdata/7FE00010``, or within sequences ``/bulkdata/54000100/1/54001010``."""
        uids = path_uids(request)
        (row,) = rows_of(request, self._search, uids)
        path = request.path_params["path"]
        resource = f"bulk data {path} of {resource_name(uids)}"
        is_multipart = _choose_bytes(accepted_ranges(request), resource)
        value = self._bulk_value(row, path, resource)
        if not is_multipart:
            return _ranged(request, value)
        chunks = value.chunks(0, value.n_bytes)
        return multipart_response(
            [Part(OCTET_STREAM, f"{resource_url(request, uids)}/bulkdata/{path}", chunks)], OCTET_STREAM
        )

    def _parts(self, request: Request, rows: Sequence[InstanceRow], wanted: Wanted) -> Iterator[Part]:
        for row in rows:
            syntax = wanted.syntax_of(row.transfer_syntax_uid)
            chunks = self._chunks(row, wanted, is_first=row is rows[0])
            yield Part(f"{DICOM}; transfer-syntax={syntax}", resource_url(request, uids_of(row)), chunks)

    def _chunks(self, row: InstanceRow, wanted: Wanted, *, is_first: bool) -> Iterator[bytes]:
        if not wanted.sends_as_stored(row.transfer_syntax_uid):
            syntax = wanted.syntax_of(row.transfer_syntax_uid)
            if syntax is None or syntax == ExplicitVRLittleEndian:
                yield from explicit_little_endian(self._objects, row, self._budget, is_first=is_first)
            else:
                yield from encoded_losslessly(self._objects, row, syntax, self._budget, is_first=is_first)
            return
        yield from read_checked(self._objects, row.digest, dataset_bytes=row.dataset_bytes, chunk_bytes=CHUNK_BYTES)

    def _bulk_value(self, row: InstanceRow, path: str, resource: str) -> _BulkValue:
        tag, *steps = _tag_path(path)
        ds, place = read_without_pixels(self._objects, row)
        if tag in PIXEL_DATA_TAGS and not steps:
            syntax = UID(row.transfer_syntax_uid)
            if not syntax.is_transfer_syntax:
                raise NotAcceptableError(resource, f"the instance itself, with transfer-syntax={syntax}")
            if place is None or place.tag != tag:
                raise NoSuchResourceError(resource)
            if place.n_bytes is None or not syntax.is_little_endian:
                raise NotAcceptableError(resource, f"the instance itself, with transfer-syntax={syntax}")
            offset = place.offset
            return _BulkValue(place.n_bytes, lambda begin, n_bytes: self._part_of(row, offset + begin, n_bytes))
        with parsing(row.sop_instance_uid):
            element = _find_element(ds, [tag, *steps])
        if element is None or not isinstance(element.value, bytes):
            raise NoSuchResourceError(resource)
        value = element.value
        return _BulkValue(len(value), lambda begin, n_bytes: in_chunks(value[begin : begin + n_bytes]))

    def _part_of(self, row: InstanceRow, offset: int, n_bytes: int) -> Iterator[bytes]:
        with self._objects.open(row.digest, dataset_bytes=row.dataset_bytes) as file, parsing(row.sop_instance_uid):
            n_left = file.seek(0, SEEK_END) - offset
            if n_left < n_bytes:
                raise ValueError(f"{n_left} bytes of pixel data, its length says {n_bytes}")
            file.seek(offset)
            yield from read_chunks(file, n_bytes)


def _ranged(request: Request, value: _BulkValue) -> Response:
    """Return all bytes of a value, or those that the Range header asks for."""
    wanted = requested_range(request, value.n_bytes)
    if wanted is None:
        response, n_bytes = stream(value.chunks(0, value.n_bytes), OCTET_STREAM), value.n_bytes
    else:
        response, n_bytes = stream(value.chunks(wanted.begin, wanted.n_bytes), OCTET_STREAM), wanted.n_bytes
        response.status_code = HTTPStatus.PARTIAL_CONTENT
        response.headers["Content-Range"] = wanted.content_range
    response.headers["Content-Length"] = str(n_bytes)
    response.headers["Accept-Ranges"] = "bytes"
    return response


def choose_instances(ranges: Sequence[MediaRange], resource: str, rows: Sequence[InstanceRow]) -> Wanted:
    """Choose a representation of every instance that the client accepts.

    A range without a transfer syntax means explicit VR little endian (PS3.18 8.7.3.5); one without a media type accepts
    the stored transfer syntax.

    Raises
    ------
    NotAcceptableError
        The client accepts neither the media type nor, for some instance, any available transfer syntax.
    """
    single, multipart, zipped = set[str](), set[str](), set[str]()
    for accepted in ranges:
        if accepted.media_type in _ANY_TYPES:
            multipart.add(accepted.transfer_syntax_uid or ANY_TRANSFER_SYNTAX)
        elif accepted.media_type == MULTIPART and accepted.part_type in {DICOM, *_ANY_TYPES}:
            multipart.add(accepted.transfer_syntax_uid or ExplicitVRLittleEndian)
        elif accepted.media_type == DICOM and len(rows) == 1:
            single.add(accepted.transfer_syntax_uid or ExplicitVRLittleEndian)
        elif accepted.media_type == ZIP:
            zipped.add(accepted.transfer_syntax_uid or ANY_TRANSFER_SYNTAX)  # files say what they are
    container = next(kind for kind, uids in ((MULTIPART, multipart), (DICOM, single), (ZIP, True)) if uids)
    wanted = Wanted(container, frozenset(multipart or single or zipped))
    if not wanted.transfer_syntax_uids:
        raise NotAcceptableError(resource, f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*, or {ZIP}')
    for row in rows:
        if wanted.syntax_of(row.transfer_syntax_uid) is None:
            available = f'{MULTIPART}; type="{DICOM}"; transfer-syntax={row.transfer_syntax_uid} (or transfer-syntax=*)'
            raise NotAcceptableError(f"instance {row.sop_instance_uid}", available)
    return wanted


def choose_instance(row: InstanceRow, transfer_syntax_uid: str) -> Wanted:
    """Choose one instance in one transfer syntax, ``*`` for any; raise `NotAcceptableError` if it is not available."""
    return choose_instances((MediaRange(DICOM, {"transfer-syntax": transfer_syntax_uid}),), "", [row])


def _choose_bytes(ranges: Sequence[MediaRange], resource: str) -> bool:
    """Whether the bytes are sent in a multipart body."""
    for accepted in ranges:
        if accepted.media_type == MULTIPART and accepted.part_type in {OCTET_STREAM, *_ANY_TYPES}:
            return True
        if accepted.media_type in {OCTET_STREAM, *_ANY_TYPES}:
            return False
    raise NotAcceptableError(resource, f'{OCTET_STREAM}, or {MULTIPART}; type="{OCTET_STREAM}"')


def _tag_path(path: str) -> list[int]:
    """Return the path as alternating tags and item numbers."""
    if not _TAG_PATH.fullmatch(path):
        raise BadRequestError(
            "bulk data path", path, "tags of eight hexadecimal digits, with item numbers between them"
        )
    return [int(step, 10 if index % 2 else 16) for index, step in enumerate(path.split("/"))]


def _find_element(ds: Dataset, path: Sequence[int]) -> DataElement | None:
    tag, *rest = path
    if tag not in ds:
        return None
    element: DataElement = ds[tag]
    if not rest:
        return element
    item_number, *inner = rest
    if element.VR != "SQ" or not 1 <= item_number <= len(element.value):
        return None
    return _find_element(element.value[item_number - 1], inner)
