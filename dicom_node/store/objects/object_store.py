"""What an object store does, wherever the bytes lie; the spool and what is computed from objects are always local."""

from __future__ import annotations

import math
import os
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol, cast

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import DataDirReplacedError, ObjectDamagedError, StoreError
from dicom_node.store.objects.derived import DerivedFiles
from dicom_node.store.objects.spool import Spool, StoredDataset, translated_os_error
from part10.errors import NotPart10Error
from part10.file_meta import START_BYTES, dataset_offset, file_meta

OBJECT_SUFFIX, DAMAGED_SUFFIX = ".dcm", ".damaged"
COPY_BYTES = 2**20


class ListedKind(StrEnum):
    """What a name among the objects stands for."""

    OBJECT = "object"
    SET_ASIDE = "set-aside"  # a damaged object
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Listed:
    """A name among the objects; ``location`` is its path or URL, and ``digest`` what its name begins with."""

    kind: ListedKind
    digest: str
    location: str
    age_s: float  # since it was written, by the clock of whoever stores it
    n_bytes: int


class StoredBytes(Protocol):
    """An object that is read once from its beginning."""

    n_bytes: int

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next bytes; fewer only at the end."""


class ObjectStore(ABC):
    """Part 10 files, addressed by the SHA-256 of their dataset.

    What is added goes through a spool on local disk: `spool`, `link`, `sync`, then a transaction of the index with
    `restore` in it. What is removed goes through `condemn`, a transaction with `begin_removal` in it, and
    `finish_removal`.

    Attributes
    ----------
    is_local
        Whether objects lie on the spool's file system, so that deleting them makes space there.
    is_durable_once_linked
        Whether `link` returns only when the bytes would outlive a power failure, so that `sync` has nothing to do.
    """

    is_local: ClassVar[bool]
    is_durable_once_linked: ClassVar[bool]

    def __init__(self, spool_folder: Path, derived_folder: Path) -> None:
        self.spool_folder = spool_folder
        self._derived = DerivedFiles(derived_folder, spool_folder)
        spool_folder.mkdir(parents=True, exist_ok=True)
        self._data_dir = spool_folder.parent
        self._data_dir_number = _number_of(self._data_dir)

    # Write

    def spool(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Spool:
        """Start an object and write its preamble and file meta; what the caller then writes is the dataset alone."""
        self.check_same_folder()
        meta = file_meta(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        try:
            return Spool(self.spool_name(), meta)
        except OSError as error:
            raise translated_os_error(error, self.spool_folder) from error

    def check_same_folder(self) -> None:
        """Raise `DataDirReplacedError` if a disk was mounted or unmounted there since this store was opened."""
        if _number_of(self._data_dir) != self._data_dir_number:
            raise DataDirReplacedError(self._data_dir)

    def spool_name(self) -> Path:
        """Return a path in the spool that nobody else uses."""
        return self.spool_folder / f"{os.getpid()}-{secrets.token_hex(8)}"

    def scratch(self) -> BinaryIO:
        """Return an unnamed file next to the spool, for bytes that become part of an object; gone once it is closed."""
        try:
            return cast("BinaryIO", tempfile.TemporaryFile(dir=self.spool_folder))
        except OSError as error:
            raise translated_os_error(error, self.spool_folder) from error

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

    @abstractmethod
    def link(self, spool: Spool, digest: str) -> bool:
        """Make a spool's file an object, and repair the object if it is there and damaged.

        Returns
        -------
        bool
            Whether the spool has to stay until a row names the object, as the only trace of it; False where the
            object was there already.

        Raises
        ------
        StorageFullError, ObjectsUnavailableError
            It was not taken; the spool is as before.
        """

    @abstractmethod
    def sync(self, spool: Spool, digest: str) -> None:
        """Put an object that was linked on disk, bytes and name."""

    @abstractmethod
    def abandon(self, spool: Spool, digest: str) -> None:
        """Give up an object that `link` may have stored and that got no row; leave a trace for the next start."""

    @abstractmethod
    def restore(self, connection: sa.Connection, spool: Spool, digest: str) -> bool:
        """Make sure, with the write lock, that the object was not removed since `link`; return whether it had been.

        Raises
        ------
        ObjectRemovedError
            It was removed and cannot be restored within the transaction: `link` it again, then try again.
        """

    # Read

    @abstractmethod
    def open(self, digest: str, *, dataset_bytes: int | None = None) -> BinaryIO:
        """Open an object as a Part 10 file on local disk.

        Parameters
        ----------
        digest
            The object.
        dataset_bytes
            Length of its dataset according to the index; the length of the file is compared with it.

        Raises
        ------
        ObjectMissingError
            It is missing.
        ObjectDamagedError
            It has another length, or was set aside as damaged.
        ObjectsUnavailableError
            The store of objects does not answer.
        """

    @abstractmethod
    def check(self, digest: str) -> None:
        """Read an object and compare its SHA-256 with its name; raises the errors of `open`."""

    @abstractmethod
    def is_sound(self, digest: str) -> bool:
        """Return whether an object exists and has the SHA-256 that is its name."""

    def changed(self, digest: str, found: str) -> StoreError:
        """Return the error for an object that `open` returned and that turned out to be damaged."""
        return ObjectDamagedError(digest, found)

    @abstractmethod
    def location(self, digest: str) -> str:
        """Return where an object is, whether it exists or not: a path or a URL."""

    @contextmanager
    def stored(self, digest: str) -> Iterator[StoredDataset]:
        """Open an object's dataset, to read its header again; raises the errors of `open`."""
        with self.open(digest) as file:
            try:
                yield StoredDataset(file)
            except NotPart10Error as error:
                raise ObjectDamagedError(digest, f"has {error}") from error

    def read_dataset_bytes(self, digest: str) -> bytes:
        """Return the dataset exactly as received, without preamble and file meta."""
        with self.open(digest) as file:
            file.seek(dataset_offset(file.read(START_BYTES)))
            return file.read()

    def free_bytes(self) -> int:
        """Return how many bytes this process can still write to the spool's file system."""
        status = os.statvfs(self.spool_folder)
        return status.f_bavail * status.f_frsize

    def free_object_bytes(self) -> float:
        """Return how many bytes are free where the objects lie; infinite where nobody says."""
        return self.free_bytes() if self.is_local else math.inf

    # Remove

    @abstractmethod
    def condemn(self, digests: Iterable[str]) -> AbstractContextManager[None]:
        """Leave a trace of objects for the duration of the block, which deletes their rows and then the objects.

        After a crash in the block, `sweep` at the next start removes those that have no row any more.
        """

    @abstractmethod
    def begin_removal(self, connection: sa.Connection, digests: Sequence[str]) -> None:
        """Remove objects, or note that they are being removed, with the write lock, when no row names them."""

    @abstractmethod
    def finish_removal(self, database: Database, digests: Sequence[str]) -> int:
        """Remove what `begin_removal` noted; return how many could not be removed now."""

    def keep_house(self, database: Database) -> None:
        """Do what has to be done now and then: here nothing."""
        del database

    def check_writable(self) -> None:
        """Raise `ObjectsUnavailableError` if objects cannot be written for another reason than a full disk."""
        return

    @abstractmethod
    def sweep(self, remove_unnamed: Callable[[Sequence[str]], object]) -> int:
        """Clear the spool after a crash, and remove the objects that it names and that have no row in the index.

        Must not run while another process uses this spool.

        Parameters
        ----------
        remove_unnamed
            Removes those of the given objects that no row of the index names.

        Returns
        -------
        int
            Number of files removed from the spool.
        """

    # Verify

    @abstractmethod
    def listed(self, first_byte: str) -> Iterator[Listed]:
        """Yield the names that begin with a byte (two hexadecimal digits), in order."""

    @abstractmethod
    def open_stored(self, digest: str) -> AbstractContextManager[StoredBytes]:
        """Open what is stored itself, not a copy of it, to be read once.

        Raises
        ------
        ObjectMissingError
            It is missing; the message says if it was set aside.
        """

    @abstractmethod
    def is_settled(self, listed: Listed) -> bool:
        """Whether an object that no row names is not just being received or removed."""

    @abstractmethod
    def exists(self, digest: str) -> bool:
        """Return whether an object is there."""

    @abstractmethod
    def set_aside(self, database: Database, digest: str) -> None:
        """Rename a damaged object, so that it is no longer read and is replaced when it is sent again."""

    # Move

    @abstractmethod
    def is_empty(self) -> bool:
        """Return whether nothing at all lies among the objects."""

    @abstractmethod
    def adopt(self, path: Path, digest: str) -> None:
        """Make a complete file on the spool's file system an object, in place of what is there; spends the file.

        Raises
        ------
        StorageFullError, ObjectsUnavailableError
            It was not taken.
        """

    @abstractmethod
    def sync_names(self, first_byte: str) -> None:
        """Put the names of what was adopted on disk, of objects that begin with a byte."""

    @abstractmethod
    def read_move(self) -> str | None:
        """Return what `write_move` wrote; None if nobody is moving objects to here."""

    @abstractmethod
    def write_move(self, text: str) -> None:
        """Note that objects are being moved to here: until `end_move`, no node uses them."""

    @abstractmethod
    def end_move(self) -> None:
        """Let the objects be used."""

    def drop_copies(self) -> None:
        """Delete local copies, which nobody would delete once these objects are not used; here there are none."""
        return

    # What is computed from objects

    def read_derived(
        self, digest: str, form: bytes, *, dataset_bytes: int | None = None, kind: str = ""
    ) -> bytes | None:
        """Return bytes that `keep_derived` kept for this form, if any; raises the errors of `open`."""
        del dataset_bytes
        return self._derived.read(digest, form, object_changed_ns=0, kind=kind)

    def derived_mark(self) -> int | None:
        """Return how far bytes were computed ahead; see `DerivedFiles.write_mark`."""
        return self._derived.read_mark()

    def set_derived_mark(self, number: int) -> None:
        """Keep how far bytes were computed ahead."""
        self._derived.write_mark(number)

    def keep_derived(self, digest: str, form: bytes, derived: bytes, *, kind: str = "") -> None:
        """Keep bytes that were computed from an object, as long as the object is there; see `DerivedFiles`."""
        self._derived.write(digest, form, derived, kind=kind)


def _number_of(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from another at the same path; None if there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
