"""The files of one upload: each is found to be an instance, an archive, or neither, by how it begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from dicom_node.http_intake.intake import SPACE_CHECK_BYTES, Intake
from dicom_node.http_intake.part10_sink import Part10Sink
from dicom_node.page.uploading.archive import BEGINNINGS, Archive
from dicom_node.page.uploading.ledger import Ledger
from dicom_node.page.uploading.left_out import foreign_because, left_out_because
from part10.file_meta import START_BYTES, has_prefix

_NESTED: Final = "a zip archive within a zip archive; unpack it first"


class UploadedFiles:
    """Begins the files of one request.

    Parameters
    ----------
    max_bytes
        To how much an archive may be unpacked.
    note
        Called while an archive is unpacked, to say that the upload goes on.
    """

    def __init__(self, ledger: Ledger, *, max_bytes: int, note: Callable[[], None]) -> None:
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._note = note

    def begin(self, name: str) -> UploadedFile:
        """Return what takes a file that was sent."""
        return UploadedFile(self._ledger, name, self._archive)

    def _archive(self, name: str) -> _PackedFile:
        return _PackedFile(self._ledger, name, self._unpack)

    def _unpack(self, file: BinaryIO, name: str) -> None:
        archive = Archive(
            file,
            name,
            self._ledger,
            max_bytes=self._max_bytes,
            begin_file=lambda inner: UploadedFile(self._ledger, inner, None),
            note=self._note,
        )
        archive.unpack()


class UploadedFile:
    """One file, whose beginning says what it is.

    Parameters
    ----------
    begin_archive
        Makes what takes a zip archive; None within one.
    """

    def __init__(self, ledger: Ledger, name: str, begin_archive: Callable[[str], _PackedFile] | None) -> None:
        self._ledger = ledger
        self._name = name
        self._begin_archive = begin_archive
        self._head = bytearray()
        self._inner: Part10Sink | _PackedFile | None = None
        self.is_settled = False

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self.is_settled:
            return
        if self._inner is None:
            self._head += piece
            if len(self._head) < START_BYTES:
                return
            piece = self._choose()
        if self._inner is not None and piece:
            self._inner.write(piece)
            self.is_settled = self._inner.has_failed

    def finish(self) -> None:
        """Hand the file over."""
        if self.is_settled:
            return
        if self._inner is None:
            rest = self._choose()
            if self._inner is not None:
                self._inner.write(rest)
        if self._inner is not None:
            self._inner.finish()
        self.is_settled = True

    def discard(self, error: Exception) -> None:
        """Drop a file that has no end."""
        if self.is_settled:
            return
        self.is_settled = True
        if self._inner is None:
            self._inner = Part10Sink(self._ledger.intake, self._ledger.begin(self._name), self._name)
        self._inner.discard(error)

    def _choose(self) -> bytes:
        """Find out what the file is; return the bytes that what takes it has still to get."""
        head, self._head = bytes(self._head), bytearray()
        if reason := left_out_because(self._name):
            self._ledger.leave_out(self._name, reason)
        elif has_prefix(head):
            self._inner = Part10Sink(self._ledger.intake, self._ledger.begin(self._name), self._name)
            return head
        elif not head.startswith(BEGINNINGS):
            self._ledger.refuse(self._name, foreign_because(head))
        elif self._begin_archive is None:
            self._ledger.refuse(self._name, _NESTED)
        else:
            self._inner = self._begin_archive(self._name)
            return head
        self.is_settled = True
        return b""


class _PackedFile:
    """A zip archive, which is kept in an unnamed file until it is complete: its directory is at its end."""

    def __init__(self, ledger: Ledger, name: str, unpack: Callable[[BinaryIO, str], None]) -> None:
        self._intake: Intake = ledger.intake
        self._ledger = ledger
        self._name = name
        self._unpack = unpack
        self._scratch: BinaryIO | None = None
        self._n_bytes = 0
        self.has_failed = False

    def write(self, piece: bytes) -> None:
        if self.has_failed:
            return
        try:
            if self._scratch is None:
                self._scratch = self._intake.store.objects.scratch()
            if (self._n_bytes + len(piece)) // SPACE_CHECK_BYTES > self._n_bytes // SPACE_CHECK_BYTES:
                self._intake.store.inbox.check_space()
            self._scratch.write(piece)
            self._n_bytes += len(piece)
        except Exception as error:  # noqa: BLE001 - every file gets an outcome, whatever the error
            self.discard(error)

    def finish(self) -> None:
        if self._scratch is None:
            return
        try:
            self._scratch.flush()
            self._unpack(self._scratch, self._name)
        except OSError as error:
            self.discard(error)
        finally:
            self._close()

    def discard(self, error: Exception) -> None:
        self.has_failed = True
        self._close()
        self._intake.refuse(self._ledger.begin(self._name), error, None, self._name)

    def _close(self) -> None:
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
