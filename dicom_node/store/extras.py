"""Objects that no row of the index names, found and removed while the node keeps working.

They are left by a power failure, by a host that was lost with its disk, or by a move. They cost space only, and what
was acknowledged may be among them after the index was restored from a backup. So only old ones are removed, and none
if there are more of them than the index names. What is just being stored is safe at any age: an object is removed as
retention does it, with the write lock of the index, and whoever adds a row under that lock writes the object again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from dicom_node.store.database import Database
from dicom_node.store.errors import TooManyExtraError
from dicom_node.store.integrity import Integrity
from dicom_node.store.objects.object_store import Listed, ListedKind, ObjectStore
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.retention import remove_unnamed


class Extras:
    """Finds and removes objects that no row of the index names."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        self._integrity = Integrity(database, objects)

    def find(self, number: int, *, min_age_s: float) -> Iterator[Listed]:
        """Yield the extra objects of one of the 256 folders, also damaged ones; names that are no object's are not."""
        named = self._integrity.named(number)
        for listed in self._objects.listed(f"{number:02x}"):
            is_candidate = listed.kind is not ListedKind.OTHER and listed.digest not in named
            if is_candidate and listed.age_s >= min_age_s and self._objects.is_settled(listed):
                yield listed

    def remove(self, found: Sequence[Listed], *, by: str, now: datetime) -> int:
        """Remove those of the given objects that still have no row; return how many, and keep that in the audit trail.

        Raises
        ------
        TooManyExtraError
            They are more than the index names; nothing is removed.
        """
        digests = sorted({one.digest for one in found})
        n_named = self._integrity.n_named()
        if len(digests) > n_named:
            raise TooManyExtraError(len(digests), n_named)
        n_removed = remove_unnamed(self._database, self._objects, digests)
        if n_removed:
            with self._database.write() as connection:
                detail = {"n_objects": n_removed}
                add_audit(connection, "extra-objects-removed", actor=by, subject="objects", now=now, detail=detail)
        return n_removed
