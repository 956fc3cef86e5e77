"""Datasets that are being written, as files in the spool, and datasets of objects that are read again."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from dicom_node.store.errors import StorageFullError
from part10.file_meta import START_BYTES, dataset_offset

HEAD_BYTES = 64 * 1024  # of the dataset, held in memory: the headers that the index wants lie in it as good as always
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """An object that is being written and is not yet part of the store; on exit, it is discarded unless it was kept."""

    def __init__(self, path: Path, meta: bytes) -> None:
        self.path = path
        self.dataset_bytes = 0
        self.head = bytearray()  # the first `HEAD_BYTES` of the dataset
        self.confirmed_s = 0.0  # when a store on other machines confirmed it, by its own clock
        self.follows: str | None = None  # the removal of the same object after which it was written there
        self._meta_bytes = len(meta)
        self._hash = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            self._append(meta)
        except BaseException:
            self.discard()
            raise

    def write(self, fragment: bytes | bytearray | memoryview) -> int:
        """Append a fragment of the encoded dataset and return its length."""
        missing = HEAD_BYTES - len(self.head)
        if missing > 0:
            self.head += fragment[:missing]
        self._hash.update(fragment)
        self._append(fragment)
        self.dataset_bytes += len(fragment)
        return len(fragment)

    def sha256(self) -> str:
        """Return the SHA-256 of the dataset written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def read_head(self, n_bytes: int) -> bytes:
        """Return the first ``n_bytes`` of the dataset, read from the file if memory holds fewer."""
        if n_bytes <= len(self.head) or self.dataset_bytes == len(self.head):
            return bytes(self.head[:n_bytes])
        with self.path.open("rb") as file:
            file.seek(self._meta_bytes)
            return file.read(n_bytes)

    def sync(self) -> None:
        """Flush the bytes to disk and end writing."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise translated_os_error(error, self.path.parent) from error
        finally:
            os.close(fd)

    def discard(self) -> None:
        """Remove the file from the spool; an object that was kept stays in the store."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()

    def _append(self, fragment: bytes | bytearray | memoryview) -> None:
        try:
            written = os.write(self._fd, fragment)
            while written < len(fragment):  # a full disk or a signal can cut a write short
                written += os.write(self._fd, memoryview(fragment)[written:])
        except OSError as error:
            raise translated_os_error(error, self.path.parent) from error


class StoredDataset:
    """An object's dataset, as `Spool` shows one that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = dataset_offset(file.read(START_BYTES))
        self.dataset_bytes = os.fstat(file.fileno()).st_size - self._offset
        self.head = self.read_head(HEAD_BYTES)

    def read_head(self, n_bytes: int) -> bytes:
        """Return the first ``n_bytes`` of the dataset."""
        self._file.seek(self._offset)
        return self._file.read(n_bytes)


def translated_os_error(error: OSError, folder: Path) -> OSError | StorageFullError:
    """The error as ours where it says that there is no space, with what of it is used up."""
    if error.errno not in _FULL:
        return error
    status = os.statvfs(folder)
    free = f"{status.f_bavail * status.f_frsize / 1e9:.2f} GB free"
    if error.errno == errno.EDQUOT:
        return StorageFullError(folder, f"the quota of the node's user is used up ({free} for others)")
    if status.f_files and not status.f_favail:
        return StorageFullError(folder, f"no inodes are left ({free})")
    return StorageFullError(folder, f"the file system is full ({free})")
