"""Move the objects of a node to another place: from a folder to a bucket, and back.

One of the 256 folders is copied and compared after the other. Each object is compared with its SHA-256 when it is read,
and again as it lies in the new place. How many folders are done is noted there, so an interrupted move continues where
it was; until the end, when every object that the index names is there, no node uses the new place. The old place is
only read, and keeps what no row names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import MoveTargetError, ObjectDamagedError, ObjectMissingError, ObjectsChangedError
from dicom_node.store.integrity import N_FOLDERS, Expected, Finding, Integrity, Pace, Tally
from dicom_node.store.locks import hold_alone
from dicom_node.store.moving import opened_database
from dicom_node.store.objects.files import LocalObjects
from dicom_node.store.objects.object_store import ListedKind, ObjectStore, StoredBytes
from dicom_node.store.objects.reading import read_digest
from dicom_node.store.objects.s3.place import S3Place
from dicom_node.store.objects.spool import translated_os_error
from dicom_node.store.permissions import make_private_folder
from dicom_node.store.schema import removed_objects
from part10.errors import NotPart10Error

N_AT_A_TIME: Final = 8  # requests to a bucket; files are copied one by one
ATTEMPTS: Final = 2  # a fault of memory or of a cable is not the object's
_WAY_OUT: Final = "name an empty prefix or folder, or move what is there away first"


@dataclass(slots=True)
class ObjectsMoved:
    """What has come of a move."""

    n_objects: int = 0  # alike on both sides
    n_copied: int = 0  # of them, by this call
    n_bytes_read: int = 0  # of the new place, to compare
    not_copied: list[Finding] = field(default_factory=list)  # missing or damaged in the old place


Report = Callable[[int, ObjectsMoved], None]
"""Called with the number of folders that are done, and what has come of the move so far."""


def move_objects(
    data_dir: Path,
    index_url: str,
    source: Path | S3Place,
    target: Path | S3Place,
    *,
    start_again: bool = False,
    report: Report = lambda *_: None,
) -> ObjectsMoved:
    """Copy the objects that the index names, compare them, and let the new place be used.

    Call it again with the same places to continue after an interruption.

    Parameters
    ----------
    data_dir
        The data directory of a node. No part of that node may run meanwhile, on any host.
    source, target
        A bucket, or the data directory in which the objects are.
    start_again
        Compare everything again, also what was compared before an interruption.

    Raises
    ------
    DataDirInUseError
        Some part of the node runs over this data directory, or a command that has the store open.
    MoveTargetError
        The new place holds objects already, is the old one, or is the target of another move.
    ObjectsChangedError
        Another host added or removed objects meanwhile.
    ObjectsUnavailableError, StorageFullError
        A bucket does not answer, or a disk is full; what was copied stays, call it again.
    """
    if source == target:
        raise MoveTargetError(_name(target), "is where the objects are", _WAY_OUT)
    folders = {data_dir, *(place for place in (source, target) if isinstance(place, Path))}
    with ExitStack() as stack:
        for folder in sorted(folders):
            make_private_folder(folder)
            stack.enter_context(hold_alone(folder))
        database = stack.enter_context(opened_database(index_url))
        database.migrate()
        here = _open(source, data_dir)
        there = _open(target, data_dir, is_move_target=True)
        move = _Move(database, here, there, _name(source), _name(target))
        return move.run(start_again=start_again, report=report)


class _Move:
    """One run over all folders."""

    def __init__(
        self, database: Database, source: ObjectStore, target: ObjectStore, source_name: str, target_name: str
    ) -> None:
        self._database = database
        self._source = source
        self._target = target
        self._source_name = source_name
        self._target_name = target_name
        self._here = Integrity(database, source)
        self._there = Integrity(database, target)

    def run(self, *, start_again: bool, report: Report) -> ObjectsMoved:
        """Go through all folders, then end the move."""
        n_done = self._begin(start_again=start_again)
        moved = ObjectsMoved()
        n_threads = 1 if self._source.is_local and self._target.is_local else N_AT_A_TIME
        with ThreadPoolExecutor(n_threads) as pool:
            for number in range(N_FOLDERS):
                named = self._there.named(number)
                if named:
                    self._move_folder(number, named, moved, pool, is_done=number < n_done)
                    self._note(max(n_done, number + 1))
                report(number + 1, moved)
        n_found, n_named = moved.n_objects + len(moved.not_copied), self._there.n_named()
        if n_found != n_named:
            raise ObjectsChangedError(self._target_name, n_found, n_named)
        if not self._target.is_local:
            self._forget_removals()
        self._target.end_move()
        self._source.drop_copies()
        return moved

    def _begin(self, *, start_again: bool) -> int:
        """Return how many folders are done; raise `MoveTargetError` if the target is no place for these objects."""
        noted = self._target.read_move()
        if noted is None:
            if not self._target.is_empty():
                raise MoveTargetError(self._target_name, "holds objects already", _WAY_OUT)
            n_done = 0
        else:
            note = json.loads(noted)
            if note["from"] != self._source_name:
                finding = f"is where objects are being moved to from {note['from']}"
                raise MoveTargetError(self._target_name, finding, _WAY_OUT)
            n_done = 0 if start_again else int(note["n_done"])
        self._note(n_done)
        return n_done

    def _note(self, n_done: int) -> None:
        self._target.write_move(json.dumps({"from": self._source_name, "n_done": n_done}))

    def _move_folder(
        self, number: int, named: dict[str, Expected], moved: ObjectsMoved, pool: ThreadPoolExecutor, *, is_done: bool
    ) -> None:
        """Bring one folder to the state of the index; of one that is done, only what has come since."""
        there = _sizes(self._target, number)
        alike: set[str] = set()
        if is_done:  # compared before; what was cut off since shows by its size
            alike = {digest for digest, _ in there.items() & _sizes(self._source, number).items()}
        wanted = sorted(set(named) - alike)

        def settle(digest: str) -> tuple[Finding | None, bool, int]:
            return self._settle(digest, named[digest], is_there=digest in there)

        for finding, is_copied, n_bytes in pool.map(settle, wanted):
            moved.n_copied += is_copied
            moved.n_bytes_read += n_bytes
            if finding is not None:
                moved.not_copied.append(finding)
            else:
                moved.n_objects += 1
        moved.n_objects += len(named) - len(wanted)
        self._target.sync_names(f"{number:02x}")

    def _settle(self, digest: str, expected: Expected, *, is_there: bool) -> tuple[Finding | None, bool, int]:
        """Copy an object if it is not there, sound; return what is wrong with it, whether it was copied, bytes read."""
        tally, is_copied = Tally(), False
        finding: Finding | None = None
        for _ in range(ATTEMPTS):
            if not is_there:
                try:
                    self._copy(digest)
                except (ObjectMissingError, ObjectDamagedError):
                    finding = self._here.verify(digest, expected, Pace(), Tally())
                    if finding is not None:
                        return finding, False, tally.n_bytes
                    continue
                is_copied = True
            finding = self._there.verify(digest, expected, Pace(), tally)
            if finding is None:
                return None, is_copied, tally.n_bytes
            is_there = False  # copy it over what is there
        if finding is None:
            raise ObjectDamagedError(digest, "was read with other bytes each time")
        return finding, False, tally.n_bytes

    def _copy(self, digest: str) -> None:
        """Copy an object through the spool of the target; only sound bytes get there."""
        temporary = self._target.spool_name()
        try:
            with self._source.open_stored(digest) as stored, temporary.open("wb") as file:
                found = read_digest(_Readable(digest, stored), file.write)
                if found != digest:
                    raise ObjectDamagedError(digest, f"has the SHA-256 {found[:12]}")
                if not self._target.is_durable_once_linked:
                    file.flush()
                    os.fsync(file.fileno())
            self._target.adopt(temporary, digest)
        except NotPart10Error as error:
            raise ObjectDamagedError(digest, f"has {error}") from error
        except OSError as error:
            raise translated_os_error(error, self._target.spool_folder) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _forget_removals(self) -> None:
        """Forget removals that have not ended: they were of another bucket, and would remove what was copied since."""
        with self._database.write() as connection:
            connection.execute(sa.delete(removed_objects).where(removed_objects.c.ended_at.is_(None)))


class _Readable:
    """Bytes of the source, whose disk may fail: that is damage, and not the target's trouble."""

    def __init__(self, digest: str, stored: StoredBytes) -> None:
        self._digest = digest
        self._stored = stored
        self.n_bytes = stored.n_bytes

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next bytes."""
        try:
            return self._stored.read(n_bytes)
        except OSError as error:
            raise ObjectDamagedError(self._digest, f"cannot be read ({error.strerror})") from error


def _sizes(objects: ObjectStore, number: int) -> dict[str, int]:
    """Return the lengths of the objects in one of the folders, by digest."""
    return {one.digest: one.n_bytes for one in objects.listed(f"{number:02x}") if one.kind is ListedKind.OBJECT}


def _open(place: Path | S3Place, data_dir: Path, *, is_move_target: bool = False) -> ObjectStore:
    if isinstance(place, Path):
        return LocalObjects(place / "objects", place / "spool", is_move_target=is_move_target)
    from dicom_node.store.objects.s3.objects import S3Objects

    return S3Objects(place, data_dir)


def _name(place: Path | S3Place) -> str:
    return str(place / "objects") if isinstance(place, Path) else place.url
