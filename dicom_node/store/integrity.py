"""The objects on disk compared with the index: what is missing, damaged, or belongs to nothing.

The digest of an object is its name, so silent changes of a disk show when all is read again. One folder of objects is
compared after the other, while the node goes on working: what may have changed in between is looked at twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import ObjectMissingError
from dicom_node.store.objects.object_store import ListedKind, ObjectStore, StoredBytes
from dicom_node.store.schema import conflicts, instances
from part10.errors import Part10Error
from part10.file_meta import START_BYTES, dataset_offset
from part10.select import select_elements

N_FOLDERS = 256  # by the first byte of the digest
CHUNK_BYTES = 2**20
_MEDIA_STORAGE_SOP_INSTANCE_UID, _TRANSFER_SYNTAX_UID = 0x00020003, 0x00020010


class Fault(StrEnum):
    """How disk and index differ."""

    MISSING = "missing"  # the index names it
    DAMAGED = "damaged"
    EXTRA = "extra"  # no row of the index names it; it costs space only


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as it should be."""

    fault: Fault
    digest: str
    path: str  # or URL
    reason: str
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """How much was read."""

    n_objects: int = 0
    n_bytes: int = 0


@dataclass(slots=True)
class Pace:
    """Holds reading to a rate, on average since it began; without one it never waits."""

    max_bytes_per_s: float | None = None
    n_bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    def spend(self, n_bytes: int) -> None:
        """Wait as long as reading so many bytes is too early."""
        self.n_bytes += n_bytes
        if self.max_bytes_per_s:
            time.sleep(max(0.0, self.began + self.n_bytes / self.max_bytes_per_s - time.monotonic()))


@dataclass(slots=True)
class Expected:
    """What the index says about an object."""

    dataset_bytes: int | None = None  # None for the second content of a conflict: its length is not recorded
    identities: set[tuple[str, str]] = field(default_factory=set)  # SOP Instance UID and Transfer Syntax UID

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """Of all instances with these bytes."""
        return tuple(sorted({uid for uid, _ in self.identities}))


class Integrity:
    """Comparing objects with the index, and setting damaged ones aside."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    def verify_folder(self, number: int, pace: Pace, tally: Tally) -> Iterator[Finding]:
        """Compare one of the `N_FOLDERS` folders of objects with the index."""
        expected = self.named(number)
        for digest in sorted(expected):
            finding = self.verify(digest, expected[digest], pace, tally)
            if finding is not None:
                yield finding
        yield from self._extras(f"{number:02x}", expected)

    def named(self, number: int) -> dict[str, Expected]:
        """Return what the index says of the objects in one of the `N_FOLDERS` folders, by digest."""
        return self._expected(f"{number:02x}", f"{number + 1:02x}" if number < N_FOLDERS - 1 else "g")

    def set_aside(self, digest: str) -> None:
        """Rename a damaged object: it is not used any more, and replaced when it is sent again."""
        self._objects.set_aside(self._database, digest)

    def n_named(self) -> int:
        """Return how many objects the index names now."""
        named = sa.union(sa.select(instances.c.digest), sa.select(conflicts.c.digest)).subquery()
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(named)).scalar_one())

    def _expected(self, begin: str, end: str) -> dict[str, Expected]:
        """What the index says of objects with digests from ``begin`` up to ``end``."""
        statements = [
            sa.select(
                table.c.digest,
                table.c.sop_instance_uid,
                table.c.transfer_syntax_uid,
                (instances.c.dataset_bytes if table is instances else sa.null()).label("dataset_bytes"),
            ).where(table.c.digest >= begin, table.c.digest < end)
            for table in (instances, conflicts)
        ]
        found: dict[str, Expected] = {}
        with self._database.read() as connection:
            for statement in statements:
                for row in connection.execute(statement):
                    expected = found.setdefault(row.digest, Expected())
                    expected.identities.add((row.sop_instance_uid, row.transfer_syntax_uid))
                    if row.dataset_bytes is not None:
                        expected.dataset_bytes = row.dataset_bytes
        return found

    def verify(self, digest: str, expected: Expected, pace: Pace, tally: Tally) -> Finding | None:
        """Read one object and compare it with its digest and the index; None if nothing is wrong."""
        fault, reason = Fault.DAMAGED, None
        try:
            # Twice, for a fault of memory or of a cable is not the object's.
            reason = self._damage(digest, expected, pace, tally) and self._damage(digest, expected, pace, Tally())
        except ObjectMissingError as error:
            fault, reason = Fault.MISSING, error.found
        # Retention may have deleted it meanwhile.
        if reason is None or not self._is_named(digest):
            return None
        return Finding(fault, digest, self._objects.location(digest), reason, expected.sop_instance_uids)

    def _damage(self, digest: str, expected: Expected, pace: Pace, tally: Tally) -> str | None:
        """What is wrong with an object; None where nothing is."""
        try:
            with self._objects.open_stored(digest) as stored:
                tally.n_objects += 1
                identity, meta_bytes = _identity(stored)
                if expected.dataset_bytes not in (None, stored.n_bytes - meta_bytes):
                    return f"has {stored.n_bytes} bytes, expected {meta_bytes + expected.dataset_bytes}"
                found = _sha256(stored, pace, tally)
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        except Part10Error as error:
            return f"has {error}"
        if found != digest:
            return f"has the SHA-256 {found[:12]}"
        if identity not in expected.identities:
            return "has another instance or transfer syntax in its file meta information than the index"
        return None

    def _extras(self, begin: str, expected: dict[str, Expected]) -> Iterator[Finding]:
        """Names that no row names."""
        for listed in self._objects.listed(begin):
            if listed.kind is ListedKind.OBJECT and listed.digest in expected:
                continue
            if listed.kind is ListedKind.SET_ASIDE and listed.digest in expected:
                if self._objects.exists(listed.digest):
                    reason = "was set aside as damaged; a sound copy took its place"
                    yield Finding(Fault.EXTRA, listed.digest, listed.location, reason)
                continue
            is_settled = partial(self._objects.is_settled, listed)
            if is_settled() and not self._is_named(listed.digest) and is_settled():
                yield Finding(Fault.EXTRA, listed.digest, listed.location, "no row of the index names it")

    def _is_named(self, digest: str) -> bool:
        """Whether a row names the object now."""
        named = sa.union_all(
            *(sa.select(sa.literal(1)).where(table.c.digest == digest) for table in (instances, conflicts))
        )
        with self._database.read() as connection:
            return connection.execute(named.limit(1)).first() is not None


def _identity(stored: StoredBytes) -> tuple[tuple[str, str], int]:
    """SOP Instance UID and Transfer Syntax UID of the file meta information, and the bytes up to the dataset."""
    start = stored.read(START_BYTES)
    meta_bytes = dataset_offset(start)
    meta = stored.read(meta_bytes - START_BYTES)
    wanted = (_MEDIA_STORAGE_SOP_INSTANCE_UID, _TRANSFER_SYNTAX_UID)
    values = select_elements(meta, wanted, 0x0002FFFF, is_implicit_vr=False, is_little_endian=True).values
    uid, syntax = (values.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace") for tag in wanted)
    return (uid, syntax), meta_bytes


def _sha256(stored: StoredBytes, pace: Pace, tally: Tally) -> str:
    """Digest of the rest of an object."""
    digest = hashlib.sha256()
    while chunk := stored.read(CHUNK_BYTES):
        digest.update(chunk)
        tally.n_bytes += len(chunk)
        pace.spend(len(chunk))
    return digest.hexdigest()
