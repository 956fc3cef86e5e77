"""Object bytes on disk: Part 10 files, content-addressed by the SHA-256 of their dataset.

A file is written under ``spool/`` and linked under ``objects/``; its spool name is removed once the index has the
object. So after a crash the files left in the spool name every object that may have no row, and no other object has to
be checked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from dicom_node.store.errors import ObjectDamagedError, ObjectMissingError, StorageFullError
from dicom_node.store.objects.derived import DerivedFiles
from part10.errors import NotPart10Error
from part10.file_meta import START_BYTES, dataset_offset, file_meta

HEAD_BYTES = 64 * 1024  # of the dataset, held in memory: the headers that the index wants lie in it as good as always
OBJECT_SUFFIX, DAMAGED_SUFFIX = ".dcm", ".damaged"
COPY_BYTES = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """An object that is being written and is not yet part of the store; on exit, it is discarded unless it was kept."""

    def __init__(self, path: Path, meta: bytes) -> None:
        self.path = path
        self.dataset_bytes = 0
        self.head = bytearray()  # the first `HEAD_BYTES` of the dataset
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
            raise _translated(error, self.path.parent) from error
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
            raise _translated(error, self.path.parent) from error


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


class ObjectStore:
    """The folders of objects and of the spool, on one file system."""

    def __init__(self, folder: Path, spool_folder: Path) -> None:
        self.folder = folder
        self.spool_folder = spool_folder
        self._derived = DerivedFiles(folder.parent / "derived", spool_folder)
        spool_folder.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "ff").is_dir():
            for first_byte in range(256):
                (folder / f"{first_byte:02x}").mkdir(exist_ok=True)
            sync_folder(folder)
            sync_folder(folder.parent)

    def spool(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Spool:
        """Start an object and write its preamble and file meta; what the caller then writes is the dataset alone."""
        meta = file_meta(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        try:
            return Spool(self.spool_folder / f"{os.getpid()}-{secrets.token_hex(8)}", meta)
        except OSError as error:
            raise _translated(error, self.spool_folder) from error

    def scratch(self) -> BinaryIO:
        """Return an unnamed file next to the spool, for bytes that become part of an object; gone once it is closed."""
        try:
            return cast("BinaryIO", tempfile.TemporaryFile(dir=self.spool_folder))
        except OSError as error:
            raise _translated(error, self.spool_folder) from error

    def relabel(self, spool: Spool, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Spool:
        """Copy a spool's dataset to a new spool whose file meta information names another transfer syntax.

        The given spool is discarded.
        """
        relabelled = self.spool(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        try:
            with spool.path.open("rb") as file:
                file.seek(dataset_offset(file.read(START_BYTES)))
                while piece := file.read(COPY_BYTES):
                    relabelled.write(piece)
        except BaseException:
            relabelled.discard()
            raise
        spool.discard()
        return relabelled

    def path(self, digest: str) -> Path:
        """Return the path of an object, whether it exists or not."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 in hexadecimal: {digest!r}")
        return self.folder / digest[:2] / f"{digest}{OBJECT_SUFFIX}"

    def link(self, spool: Spool, digest: str) -> bool:
        """Link a spool's file as an object; the caller must sync both the spool and the object's folder.

        An object that is there already stays as it is when its bytes are sound, and is synced here: after a power
        failure a name can be there without its bytes.

        Returns
        -------
        bool
            Whether the object is the spool's file; False where it was there already.
        """
        path = self.path(digest)
        try:
            os.link(spool.path, path)
        except FileExistsError:
            if self.is_sound(digest):
                _sync_file(path)
                return False
            repaired = path.with_suffix(".repaired")
            repaired.unlink(missing_ok=True)
            os.link(spool.path, repaired)
            repaired.replace(path)
        except OSError as error:
            raise _translated(error, self.folder) from error
        return True

    def restore(self, spool: Spool, digest: str) -> bool:
        """Link again what retention removed since `link`, and return whether it had; call it with the write lock."""
        path = self.path(digest)
        if path.exists():
            return False
        self.link(spool, digest)
        sync_folder(path.parent)
        return True

    def is_sound(self, digest: str) -> bool:
        """Return whether an object's file exists and has the SHA-256 that is its name."""
        try:
            return _dataset_digest(self.path(digest)) == digest
        except (OSError, NotPart10Error):
            return False

    def open(self, digest: str, *, dataset_bytes: int | None = None) -> BinaryIO:
        """Open an object as a Part 10 stream.

        Parameters
        ----------
        digest
            The object.
        dataset_bytes
            Length of its dataset according to the index; the length of the file is compared with it.

        Raises
        ------
        ObjectMissingError
            Its file is missing.
        ObjectDamagedError
            Its file has another length, or was set aside as damaged.
        """
        path = self.path(digest)
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            if self.damaged_path(digest).exists():
                raise ObjectDamagedError(digest, "was set aside, because its bytes have changed") from error
            raise ObjectMissingError(digest) from error
        if dataset_bytes is not None:
            try:
                check_length(file, digest, dataset_bytes)
            except BaseException:
                file.close()
                raise
        return file

    @contextmanager
    def stored(self, digest: str) -> Iterator[StoredDataset]:
        """Open an object's dataset, to read its header again; raises the errors of `open`."""
        with self.open(digest) as file:
            try:
                yield StoredDataset(file)
            except NotPart10Error as error:
                raise ObjectDamagedError(digest, f"has {error}") from error

    def check(self, digest: str) -> None:
        """Read an object and compare its SHA-256 with its name; raises the errors of `open`."""
        self.open(digest).close()
        try:
            found = _dataset_digest(self.path(digest))
        except NotPart10Error as error:
            raise ObjectDamagedError(digest, f"has {error}") from error
        if found != digest:
            raise ObjectDamagedError(digest, f"has the SHA-256 {found[:12]}")

    def damaged_path(self, digest: str) -> Path:
        """Return the path of an object that was set aside as damaged."""
        return self.path(digest).with_suffix(DAMAGED_SUFFIX)

    def set_aside(self, digest: str) -> None:
        """Rename a damaged object, so that it is no longer read and is replaced when it is sent again."""
        path = self.path(digest)
        path.rename(self.damaged_path(digest))
        sync_folder(path.parent)

    def read_dataset_bytes(self, digest: str) -> bytes:
        """Return the dataset exactly as received, without preamble and file meta."""
        with self.open(digest) as file:
            file.seek(dataset_offset(file.read(START_BYTES)))
            return file.read()

    def free_bytes(self) -> int:
        """Return how many bytes this process can still write to the objects' file system."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def remove(self, digest: str) -> None:
        """Remove an object; the caller must hold the index's write lock and have found no row that names it."""
        self.path(digest).unlink(missing_ok=True)
        self.damaged_path(digest).unlink(missing_ok=True)
        self._derived.remove(digest)

    def read_derived(
        self, digest: str, form: bytes, *, dataset_bytes: int | None = None, kind: str = ""
    ) -> bytes | None:
        """Return bytes that `keep_derived` kept for this form, if any; raises the errors of `open`."""
        with self.open(digest, dataset_bytes=dataset_bytes) as file:
            changed_ns = os.fstat(file.fileno()).st_ctime_ns
        return self._derived.read(digest, form, object_changed_ns=changed_ns, kind=kind)

    def derived_mark(self) -> int | None:
        """Return how far bytes were computed ahead; see `DerivedFiles.write_mark`."""
        return self._derived.read_mark()

    def set_derived_mark(self, number: int) -> None:
        """Keep how far bytes were computed ahead."""
        self._derived.write_mark(number)

    def keep_derived(self, digest: str, form: bytes, derived: bytes, *, kind: str = "") -> None:
        """Keep bytes that were computed from an object, as long as the object is there; see `DerivedFiles`."""
        self._derived.write(digest, form, derived, kind=kind)
        if not self.path(digest).exists():  # it was removed meanwhile
            self._derived.remove(digest)

    @contextmanager
    def condemn(self, digests: Iterable[str]) -> Iterator[None]:
        """Link objects into the spool for the duration of the block, which deletes their rows and then the objects.

        After a crash in the block, the next start finds these links and removes the objects that have no row any more.
        """
        names = []
        try:
            for digest in digests:
                name = self.spool_folder / f"{os.getpid()}-{secrets.token_hex(8)}"
                try:
                    os.link(self.path(digest), name)
                except FileNotFoundError:  # nothing is left to remove
                    continue
                names.append(name)
            yield
        finally:
            for name in names:
                name.unlink(missing_ok=True)

    def sweep(self, unknown: Callable[[Iterable[str]], set[str]]) -> int:
        """Clear the spool after a crash, and remove the objects named there that have no row.

        Must not run while another process writes objects.

        Parameters
        ----------
        unknown
            Returns those of the given digests that no row of the index names.

        Returns
        -------
        int
            Number of files removed from the spool.
        """
        leftovers = [path for path in self.spool_folder.iterdir() if path.is_file()]
        linked = [_digest_or_none(path) for path in leftovers if path.stat().st_nlink > 1]
        for digest in unknown([digest for digest in linked if digest is not None]):
            self.remove(digest)
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


def check_length(file: BinaryIO, digest: str, dataset_bytes: int) -> None:
    """Raise `ObjectDamagedError` if a file has another length than the index says; leave it at its beginning."""
    try:
        expected = dataset_offset(file.read(START_BYTES)) + dataset_bytes
    except NotPart10Error as error:
        raise ObjectDamagedError(digest, f"has {error}") from error
    found = os.fstat(file.fileno()).st_size
    if found != expected:
        raise ObjectDamagedError(digest, f"has {found} bytes, expected {expected}")
    file.seek(0)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _dataset_digest(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(dataset_offset(file.read(START_BYTES)))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_or_none(path: Path) -> str | None:
    """Return the digest of a file left in the spool; None if a power failure left it without its bytes."""
    try:
        return _dataset_digest(path)
    except NotPart10Error:
        return None


def _translated(error: OSError, folder: Path) -> OSError | StorageFullError:
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
