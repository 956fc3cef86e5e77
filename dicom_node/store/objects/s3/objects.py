"""Objects in a bucket, written from the spool and read through a cache of local copies."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import BinaryIO, ClassVar, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    ObjectRemovedError,
    ObjectsDriverError,
    ObjectsUnavailableError,
    StorageFullError,
    StoreError,
)
from dicom_node.store.objects.files import check_length, checked_digest, digest_or_none, kind_of_name
from dicom_node.store.objects.object_store import (
    COPY_BYTES,
    DAMAGED_SUFFIX,
    OBJECT_SUFFIX,
    Listed,
    ObjectStore,
)
from dicom_node.store.objects.reading import read_digest
from dicom_node.store.objects.s3.bucket import MOVE, Bucket, Stream
from dicom_node.store.objects.s3.cache import ReadCache
from dicom_node.store.objects.s3.client import NoSuchObjectError, RefusedByServerError
from dicom_node.store.objects.s3.place import S3Place
from dicom_node.store.objects.s3.reader import BucketReader, reader_of
from dicom_node.store.objects.s3.removals import (
    KEPT_FOR,
    end_removals,
    find_removal,
    forget_removal,
    note_removals,
    open_removals,
    removals_since,
    renew_removal,
    spare_named,
)
from dicom_node.store.objects.spool import Spool, translated_os_error
from part10.errors import NotPart10Error
from part10.file_meta import START_BYTES, dataset_offset

log = logging.getLogger(__name__)

FOLDER: Final = "objects"  # below the prefix
TRACE_SUFFIX: Final = ".digests"
CONFIRMED_FOR_S: Final = 600.0  # that the store has an object; a process may be stopped between that and its row
SETTLED_S: Final = 600.0  # an object without a row that is younger may be on its way into the index
STALE_UPLOAD_S: Final = 24 * 3600.0
READ_ATTEMPTS: Final = 2
N_REMOVING: Final = 8  # requests at a time
CLOCKS_DIFFER: Final = timedelta(minutes=10)  # of machines, at most


class S3Objects(ObjectStore):
    """A bucket of objects; spool, cache and derived bytes lie below the data directory.

    Parameters
    ----------
    min_free_bytes
        Of the data directory's file system, which cached copies leave to the spool.
    """

    is_local: ClassVar[bool] = False
    is_durable_once_linked: ClassVar[bool] = True

    def __init__(self, place: S3Place, data_dir: Path, *, min_free_bytes: int = 0) -> None:
        if find_spec("botocore") is None:  # a node that cannot use it must not start
            raise ObjectsDriverError("botocore")
        super().__init__(data_dir / "spool", data_dir / "derived")
        self.bucket = Bucket(place)
        self._min_free_bytes = min_free_bytes
        self.cache = ReadCache(data_dir / "cache", max_bytes=place.cache_bytes, min_free_bytes=min_free_bytes)
        self._ended: dict[str, str] = {}  # removals that have ended, by digest: their tokens
        self._abandoned: set[str] = set()
        self._trace = self.spool_name().with_suffix(TRACE_SUFFIX)
        self._trace_lock = Lock()
        self._forgotten_at = datetime.now(UTC) - KEPT_FOR
        self._uploads_checked_s = 0.0
        self._is_move_checked = False

    def __reduce__(self) -> tuple[type[BucketReader], tuple[S3Place, Path, int]]:
        """In another process there is a `BucketReader` of the same bucket, without credentials."""
        reader = reader_of(self.bucket.place, self.spool_folder.parent, min_free_bytes=self._min_free_bytes)
        return BucketReader, (reader.place, reader.data_dir, reader.min_free_bytes)

    def location(self, digest: str) -> str:
        """Return the URL of an object."""
        return self.bucket.url(_key(digest))

    # Write

    def link(self, spool: Spool, digest: str) -> bool:
        """Put the spool on disk, then write it to the bucket, whatever is there: that repairs it too."""
        spool.sync()
        spool.follows = self._ended.get(digest)
        self._check_move()
        try:
            self.bucket.put(_key(digest), spool.path)
        except RefusedByServerError:
            raise
        except ObjectsUnavailableError:
            self.abandon(spool, digest)  # it may have the bytes all the same
            raise
        spool.confirmed_s = _uptime_s()
        with suppress(OSError):
            self.cache.keep(digest, spool.path)
        return True

    def sync(self, spool: Spool, digest: str) -> None:
        """Do nothing: the bucket has confirmed the object."""

    def abandon(self, spool: Spool, digest: str) -> None:
        """Add the digest to a file in the spool, which takes less space than the bytes."""
        with self._trace_lock:
            if digest not in self._abandoned:
                self._abandoned.add(digest)
                with suppress(OSError), self._trace.open("a", encoding="ascii") as trace:
                    trace.write(f"{digest}\n")
        spool.discard()

    def restore(self, connection: sa.Connection, spool: Spool, digest: str) -> bool:
        """Raise `ObjectRemovedError` if the object was removed since `link`, or may have been."""
        if _uptime_s() - spool.confirmed_s > CONFIRMED_FOR_S:
            raise ObjectRemovedError(digest)
        removal = find_removal(connection, digest)
        if removal is None:
            return False
        token, has_ended = removal
        if has_ended and spool.follows == token:
            forget_removal(connection, digest)
            return True
        if has_ended:
            self._ended[digest] = token
        raise ObjectRemovedError(digest)

    # Read

    def open(self, digest: str, *, dataset_bytes: int | None = None) -> BinaryIO:
        """Open the local copy of an object, which is made first if there is none."""
        file = self.cache.open(checked_digest(digest)) or self._fetch(digest)
        if dataset_bytes is not None:
            try:
                check_length(file, digest, dataset_bytes)
            except BaseException:
                file.close()
                self.cache.drop(digest)
                raise
        return file

    def check(self, digest: str) -> None:
        """Compare the local copy of an object with its digest, and read the object again if it differs."""
        with self.open(digest) as file:
            if _digest_of(file) == digest:
                return
        self.cache.drop(digest)
        self._fetch(digest).close()

    def is_sound(self, digest: str) -> bool:
        """Read an object in the bucket and compare it with its digest."""
        try:
            with self.open_stored(digest) as stored:
                return read_digest(stored, lambda _: None) == digest
        except (ObjectMissingError, NotPart10Error):
            return False

    def changed(self, digest: str, found: str) -> StoreError:
        """Drop the local copy; what is in the bucket may be sound."""
        self.cache.drop(digest)
        return ObjectsUnavailableError(self.bucket.place.url, f"the local copy of object {digest[:12]} {found}")

    def _fetch(self, digest: str) -> BinaryIO:
        """Copy an object to local disk and return the copy; a wrong one is fetched once more."""
        for attempt in range(READ_ATTEMPTS):
            try:
                return self._fetch_once(digest)
            except (ObjectDamagedError, ObjectsUnavailableError):
                if attempt == READ_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _fetch_once(self, digest: str) -> BinaryIO:
        temporary = self.spool_name()
        try:
            with self.open_stored(digest) as stored, temporary.open("w+b") as file:
                self._has_room(stored.n_bytes)
                found = read_digest(stored, file.write)
        except NotPart10Error as error:
            raise ObjectDamagedError(digest, f"has {error}") from error
        except OSError as error:
            raise translated_os_error(error, self.spool_folder) from error
        else:
            if found != digest:
                raise ObjectDamagedError(digest, f"has the SHA-256 {found[:12]}")
            with suppress(OSError):
                self.cache.keep(digest, temporary)
            return temporary.open("rb")
        finally:
            temporary.unlink(missing_ok=True)

    def _has_room(self, n_bytes: int) -> None:
        """Make room on disk for a copy by dropping others; raise `StorageFullError` if that is not enough."""
        if self.free_bytes() >= n_bytes:
            return
        self.cache.clear()
        if self.free_bytes() < n_bytes:
            free = f"{self.free_bytes() / 1e9:.2f} GB free"
            raise StorageFullError(self.spool_folder, f"{free}, too little for a copy of {n_bytes / 1e9:.2f} GB")

    # Remove

    @contextmanager
    def condemn(self, digests: Iterable[str]) -> Iterator[None]:
        """Write the digests to a file in the spool for the duration of the block."""
        trace = self.spool_name().with_suffix(TRACE_SUFFIX)
        fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            try:
                os.write(fd, "".join(f"{digest}\n" for digest in digests).encode("ascii"))
                os.fsync(fd)
            finally:
                os.close(fd)
            yield
        finally:
            trace.unlink(missing_ok=True)

    def begin_removal(self, connection: sa.Connection, digests: Sequence[str]) -> None:
        """Note the removals; nobody adds a row for these objects before it has written them again."""
        note_removals(connection, digests)

    def finish_removal(self, database: Database, digests: Sequence[str]) -> int:
        """Delete objects, their local copies, and what was computed from them."""
        for digest in digests:
            self.forget(digest)
        done = self._delete(digests)
        end_removals(database, done)
        if len(done) < len(digests):
            log.warning(
                "objects cannot be deleted now; it is tried again", extra={"n_objects": len(digests) - len(done)}
            )
        return len(digests) - len(done)

    def keep_house(self, database: Database) -> None:
        """End removals that were interrupted, and forget what others removed; raise the store's errors."""
        began = datetime.now(UTC)
        for digest in removals_since(database, since=self._forgotten_at):
            self.forget(digest)
        self._forgotten_at = began - CLOCKS_DIFFER
        spare_named(database)
        if interrupted := open_removals(database):
            self.finish_removal(database, interrupted)
        if _uptime_s() - self._uploads_checked_s > STALE_UPLOAD_S / 24:
            self._uploads_checked_s = _uptime_s()
            self.bucket.abort_uploads(f"{FOLDER}/", older_than_s=STALE_UPLOAD_S)

    def check_writable(self) -> None:
        """Write a small object."""
        self._check_move()
        self.bucket.check_put()

    def forget(self, digest: str) -> None:
        """Delete what is on this machine of an object."""
        self.cache.drop(digest)
        self._derived.remove(digest)

    def sweep(self, remove_unnamed: Callable[[Sequence[str]], object]) -> int:
        """Remove what the spool shows to have been on its way into or out of the bucket."""
        leftovers = [path for path in self.spool_folder.iterdir() if path.is_file()]
        digests: set[str] = set()
        for path in leftovers:
            if path.suffix == TRACE_SUFFIX:
                digests.update(path.read_text("ascii", "replace").split())
            elif (digest := digest_or_none(path)) is not None:
                digests.add(digest)
        remove_unnamed(sorted(digests))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _delete(self, digests: Sequence[str]) -> list[str]:
        """Delete objects from the bucket; return those that are gone."""

        def delete(digest: str) -> bool:
            try:
                self.bucket.remove(_key(digest))
                self.bucket.remove(_key(digest, DAMAGED_SUFFIX))
            except ObjectsUnavailableError:
                return False
            return True

        if not digests or not delete(digests[0]):  # an outage is not awaited for each
            return []
        with ThreadPoolExecutor(N_REMOVING) as pool:
            are_gone = pool.map(delete, digests[1:])
            return [digests[0], *(one for one, is_gone in zip(digests[1:], are_gone, strict=True) if is_gone)]

    # Verify

    def listed(self, first_byte: str) -> Iterator[Listed]:
        """Yield the keys of objects that begin with a byte."""
        for found in self.bucket.listed(f"{FOLDER}/{first_byte}/"):
            name = Path(found.key)
            yield Listed(
                kind_of_name(name, first_byte), name.stem, self.bucket.url(found.key), found.age_s, found.n_bytes
            )

    def is_settled(self, listed: Listed) -> bool:
        """Whether it was written so long ago that its row would be there."""
        return listed.age_s >= SETTLED_S

    def exists(self, digest: str) -> bool:
        """Return whether the bucket has an object."""
        return self.bucket.size(_key(digest)) is not None

    @contextmanager
    def open_stored(self, digest: str) -> Iterator[Stream]:
        """Open an object in the bucket."""
        try:
            with self.bucket.open(_key(digest)) as stream:
                yield stream
        except NoSuchObjectError as error:
            if self.bucket.size(_key(digest, DAMAGED_SUFFIX)) is not None:
                raise ObjectMissingError(digest, "was set aside, because its bytes have changed") from error
            self._check_move()
            raise ObjectMissingError(digest) from error

    def set_aside(self, database: Database, digest: str) -> None:
        """Rename a damaged object, unless a sound one took its place meanwhile; what breaks off, see `spare_named`."""
        with database.write() as connection:
            (token,) = note_removals(connection, [digest])
        self.forget(digest)
        is_damaged = not self.is_sound(digest)
        if is_damaged:
            self.bucket.copy(_key(digest), _key(digest, DAMAGED_SUFFIX))
        if not renew_removal(database, digest, token):  # it was stored again since, or somebody else removes it
            return
        if is_damaged:
            self.bucket.remove(_key(digest))
        end_removals(database, [digest])

    # Move

    def is_empty(self) -> bool:
        """Ask for the first key."""
        return next(self.bucket.listed(f"{FOLDER}/"), None) is None

    def adopt(self, path: Path, digest: str) -> None:
        """Write a file to the bucket, which proves that it has the bytes."""
        self.bucket.put(_key(digest), path)
        path.unlink()

    def sync_names(self, first_byte: str) -> None:
        """Do nothing: the bucket has confirmed the objects."""

    def read_move(self) -> str | None:
        """Return what the bucket says of a move to this prefix."""
        return self.bucket.read_text(MOVE)

    def write_move(self, text: str) -> None:
        """Note a move; whoever writes an object, or misses one, looks for it."""
        self._is_move_checked = True  # it is our own
        self.bucket.put_text(MOVE, text)

    def end_move(self) -> None:
        """Delete the note."""
        self.bucket.remove(MOVE)

    def drop_copies(self) -> None:
        """Delete all copies of this machine."""
        self.cache.clear()

    def _check_move(self) -> None:
        if not self._is_move_checked:
            self.bucket.check_move()
            self._is_move_checked = True


def _key(digest: str, suffix: str = OBJECT_SUFFIX) -> str:
    return f"{FOLDER}/{digest[:2]}/{checked_digest(digest)}{suffix}"


def _digest_of(file: BinaryIO) -> str | None:
    try:
        file.seek(dataset_offset(file.read(START_BYTES)))
    except NotPart10Error:
        return None
    computed = hashlib.sha256()
    while piece := file.read(COPY_BYTES):
        computed.update(piece)
    return computed.hexdigest()


def _uptime_s() -> float:
    """Return seconds by a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
