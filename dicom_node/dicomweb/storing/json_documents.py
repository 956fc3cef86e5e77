"""Instances that come as DICOM JSON, with their bulk data in other parts of the request (PS3.18 8.6.1.3 and F).

Bulk data go to an unnamed file as they arrive, because the document that refers to them may come after them. At the end
each instance is written in explicit VR little endian, or in the transfer syntax of its compressed frames.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final

from dicom_node.dicomweb.media_types import DICOM_JSON, JSON, OCTET_STREAM, MediaRange
from dicom_node.dicomweb.storing.json_instance import BulkValue, read_instance, write_instance
from dicom_node.http_intake.errors import MalformedBodyError, NotAnInstanceError
from dicom_node.http_intake.intake import Announced, Intake
from dicom_node.store import Spool

MAX_JSON_BYTES: Final = 64 * 2**20  # of all documents of a request: they are held in memory
MAX_DOCUMENTS: Final = 50_000  # of a request, as many as parts: each has a place in the answer, and a line in the log
COMPRESSED: Final = {
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jphc": "1.2.840.10008.1.2.4.201",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
}
"""Media type of compressed frames → transfer syntax if the part names none (PS3.18 table 8.7.3-5)."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """Where the content of a part lies in the scratch file, and what its transfer syntax is; empty if native."""

    offset: int
    n_bytes: int
    transfer_syntax_uid: str


class JsonDocuments:
    """Collects the parts of a request; `finish` makes instances of them."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._texts: list[tuple[int, bytearray]] = []
        self._n_json_bytes = 0
        self._n_documents = 0
        self._scratch: BinaryIO | None = None
        self._n_scratch_bytes = 0
        self._segments: defaultdict[str, list[_Segment]] = defaultdict(list)

    def begin_part(self, number: int, content_type: MediaRange, location: str) -> _JsonPart | _BulkPart:
        """Return the sink of a part: DICOM JSON, or bulk data for the URI that is its location."""
        if content_type.media_type in {DICOM_JSON, JSON}:
            return _JsonPart(self, number)
        default = COMPRESSED.get(content_type.media_type, "")
        is_native = content_type.media_type == OCTET_STREAM
        syntax = "" if is_native else content_type.transfer_syntax_uid or default
        is_known = is_native or default
        reason = "" if location else "bulk data without Content-Location"
        return _BulkPart(
            self, number, location, syntax, reason if is_known else f"{content_type.media_type}, not taken"
        )

    def finish(self) -> None:
        """Hand all instances to the inbox."""
        try:
            for number, text in self._texts:
                self._take(number, text)
                text.clear()
        finally:
            self._close()

    def discard(self, error: Exception) -> None:
        """Drop everything: without the rest of the body no instance is known to be complete."""
        for number, _ in self._texts:
            self._intake.refuse(number, error, None)
        self._texts.clear()
        self._close()

    def refuse_part(self, number: int, reason: str) -> None:
        """Note that a part cannot be used."""
        self._intake.refuse(number, NotAnInstanceError(reason), None)

    def add_text(self, number: int) -> bytearray:
        """Return the buffer of a document."""
        text = bytearray()
        self._texts.append((number, text))
        return text

    def count_text(self, n_bytes: int) -> None:
        """Raise `MalformedBodyError` if the documents become too long."""
        self._n_json_bytes += n_bytes
        if self._n_json_bytes > MAX_JSON_BYTES:
            raise MalformedBodyError(f"more than {MAX_JSON_BYTES} bytes of DICOM JSON; send bulk data in parts")

    def write_bulk(self, piece: bytes) -> None:
        """Append to the scratch file."""
        if self._scratch is None:
            self._scratch = self._intake.store.objects.scratch()
        if self._n_scratch_bytes // 2**24 < (self._n_scratch_bytes + len(piece)) // 2**24:
            self._intake.store.inbox.check_space()
        self._scratch.write(piece)
        self._n_scratch_bytes += len(piece)

    def end_bulk(self, location: str, offset: int, transfer_syntax_uid: str) -> None:
        """Note where the bulk data of a location lie; several parts with one location are its frames."""
        self._segments[location].append(_Segment(offset, self._n_scratch_bytes - offset, transfer_syntax_uid))

    @property
    def n_scratch_bytes(self) -> int:
        """Bytes of bulk data so far."""
        return self._n_scratch_bytes

    def _close(self) -> None:
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _take(self, number: int, text: bytearray) -> None:
        try:
            documents = json.loads(text)
        except (ValueError, RecursionError):
            self._intake.refuse(number, NotAnInstanceError("no JSON"), None)
            return
        for document in documents if isinstance(documents, list) else [documents]:
            if self._n_documents == MAX_DOCUMENTS:
                self._intake.refuse(number, NotAnInstanceError(f"more than {MAX_DOCUMENTS} instances"), None)
                return
            self._n_documents += 1
            self._take_instance(number, document)

    def _take_instance(self, number: int, document: Any) -> None:  # noqa: ANN401 - whatever a client sent
        announced: Announced | None = None
        try:
            instance = read_instance(document, self._bulk_value)
            announced = instance.announced
            spool = self._intake.begin(announced)
            try:
                write_instance(instance, partial(self._write, spool))
            except BaseException:
                spool.discard()
                raise
        except Exception as error:  # noqa: BLE001 - every instance gets an outcome, whatever the error
            self._intake.refuse(number, error, announced)
        else:
            self._intake.keep(number, spool, announced)

    def _write(self, spool: Spool, piece: bytes) -> None:
        self._intake.check(spool.dataset_bytes, len(piece))
        spool.write(piece)

    def _bulk_value(self, uri: str) -> BulkValue:
        segments = self._segments.get(uri)
        if not segments or self._scratch is None:
            raise NotAnInstanceError("bulk data missing")
        if len({segment.transfer_syntax_uid for segment in segments}) > 1:
            raise NotAnInstanceError("frames of several types")
        frames = tuple((segment.offset, segment.n_bytes) for segment in segments)
        return BulkValue(self._scratch, frames, segments[0].transfer_syntax_uid)


class _JsonPart:
    """A document that is being received."""

    def __init__(self, documents: JsonDocuments, number: int) -> None:
        self._documents = documents
        self._text = documents.add_text(number)

    def write(self, piece: bytes) -> None:
        self._documents.count_text(len(piece))
        self._text += piece

    def finish(self) -> None:
        """Wait for the bulk data."""

    def discard(self, error: Exception) -> None:
        """The documents are dropped together."""


class _BulkPart:
    """Bulk data that are being received; what cannot be used is dropped and named."""

    def __init__(
        self, documents: JsonDocuments, number: int, location: str, transfer_syntax_uid: str, reason: str
    ) -> None:
        self._documents = documents
        self._location = location
        self._transfer_syntax_uid = transfer_syntax_uid
        self._offset = documents.n_scratch_bytes
        self._is_refused = bool(reason)
        if reason:
            documents.refuse_part(number, reason)

    def write(self, piece: bytes) -> None:
        if not self._is_refused:
            self._documents.write_bulk(piece)

    def finish(self) -> None:
        if not self._is_refused:
            self._documents.end_bulk(self._location, self._offset, self._transfer_syntax_uid)

    def discard(self, error: Exception) -> None:
        """The documents are dropped together."""
