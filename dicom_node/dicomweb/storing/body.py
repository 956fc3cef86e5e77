"""The body of a Store request: which part is taken by what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from dicom_node.dicomweb.errors import DicomwebError
from dicom_node.dicomweb.media_types import DICOM, DICOM_JSON, MediaRange, parse_media_type
from dicom_node.dicomweb.storing.json_documents import JsonDocuments
from dicom_node.http_intake.errors import NotAnInstanceError
from dicom_node.http_intake.intake import Intake
from dicom_node.http_intake.multipart_reader import MultipartReader, Sink
from dicom_node.http_intake.part10_sink import Part10Sink

MAX_NAME_CHARACTERS: Final = 24
_FILENAME: Final = re.compile(r'filename="?([^";]+)')


class Body(Protocol):
    """Takes the bytes of a request."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; raises `MalformedBodyError`."""

    def finish(self) -> None:
        """Take note that the body has ended; raises `MalformedBodyError` if it should not have."""

    def discard(self, error: Exception) -> None:
        """Drop what is not complete, because of an error."""


class _Discardable(Sink, Protocol):
    def discard(self, error: Exception) -> None: ...


class _SingleBody:
    """A body that is one instance."""

    def __init__(self, intake: Intake) -> None:
        self._sink = Part10Sink(intake, 1, "")
        self.feed = self._sink.write
        self.finish = self._sink.finish
        self.discard = self._sink.discard


class _MultipartBody:
    """A body of instances, or of DICOM JSON with bulk data."""

    def __init__(self, boundary: bytes, part_type: str, intake: Intake) -> None:
        self._intake = intake
        self._part_type = part_type
        self._documents = JsonDocuments(intake) if part_type == DICOM_JSON else None
        self._reader = MultipartReader(boundary, self._begin_part)
        self._open: _Discardable | None = None
        self.feed = self._reader.feed

    def finish(self) -> None:
        self._reader.finish()
        if self._documents is not None:
            self._documents.finish()

    def discard(self, error: Exception) -> None:
        if self._open is not None:
            self._open.discard(error)
        if self._documents is not None:
            self._documents.discard(error)

    def _begin_part(self, number: int, fields: Mapping[str, str]) -> Sink:
        self._open = _Open(self._sink_of(number, fields), self._note_end)
        return self._open

    def _note_end(self) -> None:
        self._open = None

    def _sink_of(self, number: int, fields: Mapping[str, str]) -> _Discardable:
        name = _name_of(fields)
        try:
            content_type = parse_media_type(fields.get("content-type", self._part_type))
        except DicomwebError:
            content_type = MediaRange("an unreadable type")
        if self._documents is not None:
            return self._documents.begin_part(number, content_type, fields.get("content-location", ""))
        if content_type.media_type == DICOM:
            return Part10Sink(self._intake, number, name)
        return _Refused(self._intake, number, name, f"{content_type.media_type}, not {DICOM}")


class _Open:
    """A part that is being received."""

    def __init__(self, sink: _Discardable, note_end: Callable[[], None]) -> None:
        self._sink = sink
        self._note_end = note_end
        self.write = sink.write
        self.discard = sink.discard

    def finish(self) -> None:
        self._note_end()
        self._sink.finish()


class _Refused:
    """A part of another type: nothing of it is kept."""

    def __init__(self, intake: Intake, number: int, name: str, reason: str) -> None:
        intake.refuse(number, NotAnInstanceError(reason), None, name)

    def write(self, piece: bytes) -> None:
        pass

    def finish(self) -> None:
        pass

    def discard(self, error: Exception) -> None:
        pass


def single_body(intake: Intake) -> Body:
    """Return a body that is one instance."""
    return _SingleBody(intake)


def multipart_body(boundary: bytes, part_type: str, intake: Intake) -> Body:
    """Return a body of parts of one type."""
    return _MultipartBody(boundary, part_type, intake)


def _name_of(fields: Mapping[str, str]) -> str:
    """Return what the sender calls a part: the end of its file name or location."""
    found = _FILENAME.search(fields.get("content-disposition", ""))
    name = found[1] if found else fields.get("content-location", "")
    return name.rstrip("/").rpartition("/")[2][-MAX_NAME_CHARACTERS:]
