"""A Part 10 file that comes in: its file meta information is read, and its dataset goes to a spool as it arrives."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from pydicom import dcmread

from dicom_node.http_intake.errors import NotAnInstanceError
from dicom_node.http_intake.intake import Announced, Intake
from dicom_node.store import Spool
from part10.damage import PYDICOM_ERRORS
from part10.errors import NotPart10Error
from part10.file_meta import START_BYTES, dataset_offset
from part10.inflate import bounded_for_pydicom

MAX_META_BYTES: Final = 65536


class Part10Sink:
    """One part of a request; after a failure what is left of it is dropped.

    Parameters
    ----------
    name
        What its sender calls it, for the answer.
    """

    def __init__(self, intake: Intake, part_number: int, name: str) -> None:
        self._intake = intake
        self._part_number = part_number
        self._name = name
        self._head = bytearray()
        self._announced: Announced | None = None
        self._spool: Spool | None = None
        self._failed = False

    @property
    def has_failed(self) -> bool:
        """Whether what is left of the part need not be read."""
        return self._failed

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._failed:
            return
        try:
            if self._spool is None:
                piece = self._begin(piece)
            if self._spool is not None and piece:
                self._intake.check(self._spool.dataset_bytes, len(piece))
                self._spool.write(piece)
        except Exception as error:  # noqa: BLE001 - every part gets an outcome, whatever the error
            self._fail(error)

    def finish(self) -> None:
        """Hand the instance to the inbox."""
        if self._failed:
            return
        if self._spool is None or self._announced is None:
            self._fail(NotAnInstanceError("no DICOM file: it ends before its dataset"))
            return
        spool, self._spool = self._spool, None
        self._intake.keep(self._part_number, spool, self._announced)

    def discard(self, error: Exception) -> None:
        """Drop a part that has no end."""
        if not self._failed:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        if self._spool is not None:
            self._spool.discard()
            self._spool = None
        self._intake.refuse(self._part_number, error, self._announced, self._name)

    def _begin(self, piece: bytes) -> bytes:
        """Begin the spool once the file meta information is complete; return the bytes of the dataset after it."""
        self._head += piece
        if len(self._head) < START_BYTES:
            return b""
        try:
            end = dataset_offset(bytes(self._head[:START_BYTES]))
        except NotPart10Error as error:
            raise NotAnInstanceError(f"no DICOM file: {error}") from error
        if end > MAX_META_BYTES:
            raise NotAnInstanceError(f"file meta information of {end} bytes, at most {MAX_META_BYTES}")
        if len(self._head) < end:
            return b""
        self._announced = read_meta(bytes(self._head[:end]))
        self._spool = self._intake.begin(self._announced)
        rest = bytes(self._head[end:])
        self._head.clear()
        return rest


def read_meta(head: bytes) -> Announced:
    """Read preamble and file meta information."""
    try:
        meta = dcmread(bounded_for_pydicom(BytesIO(head), max_inflated_bytes=0), stop_before_pixels=True).file_meta
        texts = [str(meta.get(keyword) or "") for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID")]
        return Announced(texts[0], texts[1], str(meta.get("TransferSyntaxUID") or ""))
    except PYDICOM_ERRORS as error:
        raise NotAnInstanceError("file meta information is damaged") from error
