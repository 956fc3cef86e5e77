"""Unpack a zip archive: names in it are shown and never used as paths, and what it costs is bounded."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

from dicom_node.http_intake.errors import NotAnInstanceError
from dicom_node.page.uploading.ledger import Ledger
from dicom_node.page.uploading.left_out import left_out_because

MAX_FILES: Final = 100_000
MAX_DIRECTORY_BYTES: Final = 16 * 2**20  # of names and places, which are held in memory: 100,000 files with long names
CHUNK_BYTES: Final = 2**20
BEGINNINGS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ENCRYPTED: Final = 0x1  # bit of the general purpose flags (APPNOTE.TXT 4.4.4)
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others inflate without a bound in Python's zipfile
_DAMAGE: Final = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OverflowError),
    *(EOFError, KeyError, struct.error, zlib.error),
)


class UnpackedFile(Protocol):
    """Takes the content of one file of the archive."""

    @property
    def is_settled(self) -> bool:
        """Whether the rest of it need not be read."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Take note that it is complete."""

    def discard(self, error: Exception) -> None:
        """Drop it, because of an error."""


class Archive:
    """One zip archive of an upload.

    Parameters
    ----------
    file
        The whole archive.
    max_bytes
        To how much it may be unpacked; what comes after is not read.
    begin_file
        Makes what takes a file from its name.
    note
        Called between files and pieces, to say that the upload goes on.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        ledger: Ledger,
        *,
        max_bytes: int,
        begin_file: Callable[[str], UnpackedFile],
        note: Callable[[], None],
    ) -> None:
        self._file = file
        self._name = name
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._begin_file = begin_file
        self._note = note
        self._n_bytes = 0

    def unpack(self) -> None:
        """Take every file; what cannot be read is noted, and the rest is kept."""
        try:
            archive = zipfile.ZipFile(_BoundedReads(self._file))
        except _DAMAGE as error:
            too_large = isinstance(error, _DirectoryTooLargeError)
            reason = str(error) if too_large else "its end is missing or damaged; upload it again, or make it anew"
            self._ledger.refuse(self._name, f"a zip archive that cannot be read: {reason}")
            return
        with archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) > MAX_FILES:
                self._ledger.refuse(self._name, f"a zip archive of {len(members)} files, at most {MAX_FILES}")
                return
            if not members:
                self._ledger.refuse(self._name, "a zip archive without files")
            for number, member in enumerate(members):
                self._note()
                self._take(archive, member)
                if self._n_bytes > self._max_bytes:
                    if number + 1 < len(members):
                        rest = f"{len(members) - number - 1} more files of it were not read"
                        self._ledger.refuse(self._name, f"unpacks to more than {self._max_bytes} bytes; {rest}")
                    return

    def _take(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        name = f"{self._name}/{member.filename}"
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if reason := "a link" if is_link else left_out_because(member.filename):
            self._ledger.leave_out(name, reason)
        elif member.flag_bits & _ENCRYPTED:
            self._ledger.refuse(name, "encrypted; unpack the archive with its password, and upload the files")
        elif member.compress_type not in _METHODS:
            self._ledger.refuse(name, f"packed by a method that is not read here ({member.compress_type}); use Deflate")
        else:
            self._read(archive, member, name)

    def _read(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> None:
        file = self._begin_file(name)
        try:
            with archive.open(member) as packed:
                while not file.is_settled and (piece := packed.read(CHUNK_BYTES)):
                    self._n_bytes += len(piece)
                    if self._n_bytes > self._max_bytes:
                        limit = f"{self._max_bytes} bytes (web.max_request_bytes)"
                        file.discard(NotAnInstanceError(f"the archive unpacks to more than {limit}"))
                        return
                    file.write(piece)
                    self._note()
        except _DAMAGE:
            file.discard(NotAnInstanceError("damaged within the archive"))
            return
        if not file.is_settled:
            file.finish()


class _DirectoryTooLargeError(ValueError):
    """The archive's directory does not fit in the memory for it."""

    def __str__(self) -> str:
        return f"its directory is larger than {MAX_DIRECTORY_BYTES} bytes; divide it"


class _BoundedReads:
    """A file that refuses to read more at once than the largest directory: zipfile reads that in one piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell
        self.close = lambda: None  # the caller's

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:
            raise zipfile.BadZipFile
        return self._file.seek(offset, whence)

    def read(self, n_bytes: int = -1) -> bytes:
        if n_bytes > MAX_DIRECTORY_BYTES:
            raise _DirectoryTooLargeError
        return self._file.read(n_bytes)
