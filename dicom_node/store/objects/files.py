"""Objects as files on local disk, named by the SHA-256 of their dataset.

A file is written under ``spool/`` and linked under ``objects/``; its spool name is removed once the index has the
object. So after a crash the files left in the spool name every object that may have no row, and no other object has to
be checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import ObjectDamagedError, ObjectMissingError, UnfinishedMoveError
from dicom_node.store.objects.object_store import DAMAGED_SUFFIX, OBJECT_SUFFIX, Listed, ListedKind, ObjectStore
from dicom_node.store.objects.spool import Spool, translated_os_error
from part10.errors import NotPart10Error
from part10.file_meta import START_BYTES, dataset_offset

MOVE_FILE: Final = "objects-move"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KINDS: Final = {OBJECT_SUFFIX: ListedKind.OBJECT, DAMAGED_SUFFIX: ListedKind.SET_ASIDE}


class LocalObjects(ObjectStore):
    """The folders of objects and of the spool, on one file system.

    Raises
    ------
    UnfinishedMoveError
        Objects are being moved to here; not with ``is_move_target``.
    """

    is_local: ClassVar[bool] = True
    is_durable_once_linked: ClassVar[bool] = False

    def __init__(self, folder: Path, spool_folder: Path, *, is_move_target: bool = False) -> None:
        super().__init__(spool_folder, folder.parent / "derived")
        self.folder = folder
        self._move_file = folder.parent / MOVE_FILE
        if not is_move_target and self._move_file.exists():
            raise UnfinishedMoveError(str(folder), "objects")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "ff").is_dir():
            for first_byte in range(256):
                (folder / f"{first_byte:02x}").mkdir(exist_ok=True)
            sync_folder(folder)
            sync_folder(folder.parent)

    def path(self, digest: str) -> Path:
        """Return the path of an object, whether it exists or not."""
        return self.folder / digest[:2] / f"{checked_digest(digest)}{OBJECT_SUFFIX}"

    def location(self, digest: str) -> str:
        """Return the path of an object."""
        return str(self.path(digest))

    def link(self, spool: Spool, digest: str) -> bool:
        """Link a spool's file as an object; it is durable after `sync`.

        An object that is there already stays as it is when its bytes are sound, and is synced here: after a power
        failure a name can be there without its bytes.
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
            raise translated_os_error(error, self.folder) from error
        return True

    def sync(self, spool: Spool, digest: str) -> None:
        """Put file and name of an object on disk."""
        spool.sync()
        sync_folder(self.path(digest).parent)

    def abandon(self, spool: Spool, digest: str) -> None:
        """Do nothing: the spool's own name, which stays, is the trace."""

    def restore(self, connection: sa.Connection, spool: Spool, digest: str) -> bool:
        """Link again what retention removed since `link`, and return whether it had."""
        del connection
        path = self.path(digest)
        if path.exists():
            return False
        self.link(spool, digest)
        sync_folder(path.parent)
        return True

    def is_sound(self, digest: str) -> bool:
        """Read an object and compare it with its digest."""
        return _is_sound(self.path(digest), digest)

    def open(self, digest: str, *, dataset_bytes: int | None = None) -> BinaryIO:
        """Open an object's file."""
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

    def check(self, digest: str) -> None:
        """Read an object and compare it with its digest."""
        self.open(digest).close()
        try:
            found = dataset_digest(self.path(digest))
        except NotPart10Error as error:
            raise ObjectDamagedError(digest, f"has {error}") from error
        if found != digest:
            raise ObjectDamagedError(digest, f"has the SHA-256 {found[:12]}")

    def damaged_path(self, digest: str) -> Path:
        """Return the path of an object that was set aside as damaged."""
        return self.path(digest).with_suffix(DAMAGED_SUFFIX)

    def set_aside(self, database: Database, digest: str) -> None:
        """Rename a damaged object; a sound one that took its place meanwhile is put back."""
        del database
        path, damaged = self.path(digest), self.damaged_path(digest)
        path.rename(damaged)
        if _is_sound(damaged, digest):
            with suppress(FileExistsError):  # it was sent once more
                os.link(damaged, path)
            damaged.unlink()
        sync_folder(path.parent)

    def remove(self, digest: str) -> None:
        """Remove an object; the caller must hold the index's write lock and have found no row that names it."""
        self.path(digest).unlink(missing_ok=True)
        self.damaged_path(digest).unlink(missing_ok=True)
        self._derived.remove(digest)

    def begin_removal(self, connection: sa.Connection, digests: Sequence[str]) -> None:
        """Remove objects."""
        del connection
        for digest in digests:
            self.remove(digest)

    def finish_removal(self, database: Database, digests: Sequence[str]) -> int:
        """Do nothing: they are removed."""
        del database, digests
        return 0

    def read_derived(
        self, digest: str, form: bytes, *, dataset_bytes: int | None = None, kind: str = ""
    ) -> bytes | None:
        """Return what is kept, unless the object's file has changed since."""
        with self.open(digest, dataset_bytes=dataset_bytes) as file:
            changed_ns = os.fstat(file.fileno()).st_ctime_ns
        return self._derived.read(digest, form, object_changed_ns=changed_ns, kind=kind)

    def keep_derived(self, digest: str, form: bytes, derived: bytes, *, kind: str = "") -> None:
        """Keep bytes that were computed from an object, as long as the object is there."""
        super().keep_derived(digest, form, derived, kind=kind)
        if not self.path(digest).exists():  # it was removed meanwhile
            self._derived.remove(digest)

    @contextmanager
    def condemn(self, digests: Iterable[str]) -> Iterator[None]:
        """Link objects into the spool for the duration of the block."""
        names = []
        try:
            for digest in digests:
                name = self.spool_name()
                try:
                    os.link(self.path(digest), name)
                except FileNotFoundError:  # nothing is left to remove
                    continue
                names.append(name)
            yield
        finally:
            for name in names:
                name.unlink(missing_ok=True)

    def sweep(self, remove_unnamed: Callable[[Sequence[str]], object]) -> int:
        """Clear the spool; files in it that have a second name are objects."""
        leftovers = [path for path in self.spool_folder.iterdir() if path.is_file()]
        linked = [digest_or_none(path) for path in leftovers if path.stat().st_nlink > 1]
        remove_unnamed([digest for digest in linked if digest is not None])
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def listed(self, first_byte: str) -> Iterator[Listed]:
        """Yield the files of a folder."""
        now = time.time()
        for path in sorted((self.folder / first_byte).iterdir()):
            with suppress(FileNotFoundError):  # removed meanwhile
                status = path.stat()
                kind = kind_of_name(path, first_byte)
                yield Listed(kind, path.stem, str(path), now - status.st_ctime, status.st_size)

    def exists(self, digest: str) -> bool:
        """Return whether an object has a file."""
        return self.path(digest).exists()

    def is_settled(self, listed: Listed) -> bool:
        """What is being received or deleted has a second name in the spool."""
        try:
            return Path(listed.location).stat().st_nlink == 1
        except FileNotFoundError:
            return False

    @contextmanager
    def open_stored(self, digest: str) -> Iterator[_StoredFile]:
        """Open an object's file, to be read once."""
        try:
            file = self.path(digest).open("rb")
        except FileNotFoundError as error:
            if self.damaged_path(digest).exists():
                raise ObjectMissingError(
                    digest, f"was set aside as damaged, as {self.damaged_path(digest).name}"
                ) from error
            raise ObjectMissingError(digest) from error
        with file:
            yield _StoredFile(file)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # others need the page cache more

    def is_empty(self) -> bool:
        """Look into each folder."""
        return not any(True for folder in self.folder.iterdir() for _ in folder.iterdir())

    def adopt(self, path: Path, digest: str) -> None:
        """Rename the file; its bytes must be on disk."""
        path.replace(self.path(digest))

    def sync_names(self, first_byte: str) -> None:
        """Put a folder on disk."""
        sync_folder(self.folder / first_byte)

    def read_move(self) -> str | None:
        """Return the text of the file that notes a move."""
        try:
            return self._move_file.read_text("utf-8")
        except FileNotFoundError:
            return None

    def write_move(self, text: str) -> None:
        """Replace the file that notes a move."""
        temporary = self.spool_name()
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._move_file)
        except OSError as error:
            raise translated_os_error(error, self.spool_folder) from error
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(self._move_file.parent)

    def end_move(self) -> None:
        """Delete that file."""
        self._move_file.unlink(missing_ok=True)
        sync_folder(self._move_file.parent)


class _StoredFile:
    """A file of an object, to be read once."""

    def __init__(self, file: BinaryIO) -> None:
        self.n_bytes = os.fstat(file.fileno()).st_size
        self.read = file.read


def checked_digest(digest: str) -> str:
    """Return a digest; raise `ValueError` if it is none, so that it can be a part of a path."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"not a SHA-256 in hexadecimal: {digest!r}")
    return digest


def kind_of_name(path: Path, first_byte: str) -> ListedKind:
    """Return what a name in a folder of objects stands for; only a digest that belongs into it makes an object."""
    if not _DIGEST.fullmatch(path.stem) or not path.stem.startswith(first_byte):
        return ListedKind.OTHER
    return _KINDS.get(path.suffix, ListedKind.OTHER)


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


def dataset_digest(path: Path) -> str:
    """Return the SHA-256 of a Part 10 file's dataset; raise `NotPart10Error` if it is none."""
    with path.open("rb") as file:
        file.seek(dataset_offset(file.read(START_BYTES)))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_sound(path: Path, digest: str) -> bool:
    try:
        return dataset_digest(path) == digest
    except (OSError, NotPart10Error):
        return False


def digest_or_none(path: Path) -> str | None:
    """Return the digest of a file left in the spool; None if a power failure left it without its bytes."""
    try:
        return dataset_digest(path)
    except NotPart10Error:
        return None
