"""Whether objects and index belong together, or one of them was lost or lies on a disk that is not mounted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import (
    IndexElsewhereError,
    ObjectMissingError,
    ObjectsElsewhereError,
    ObjectsUnavailableError,
)
from dicom_node.store.objects.object_store import Listed, ListedKind, ObjectStore
from dicom_node.store.schema import audit, conflicts, instances, series, studies

N_OF_EACH = 10  # objects looked for, of the oldest and of the newest
# A node that is killed at its first start leaves objects without rows, about one for each sender.
MORE_THAN_A_CRASH_LEAVES = 100
_KNOWN: Final = (instances, conflicts, series, studies, audit)  # a node that was ever used has a row in one of them


def check_same_objects(database: Database, objects: ObjectStore) -> None:
    """Raise `ObjectsElsewhereError` if the index names objects, and none of some old and new ones is there."""
    digests = _some(database)
    if not digests or any(_is_there(objects, digest) for digest in digests):
        return
    named = sa.select(sa.func.count(instances.c.digest.distinct())).where(instances.c.digest.in_(digests))
    with database.read() as connection:
        n_named = connection.execute(named).scalar_one()
    if n_named == len(digests):  # else they were deleted meanwhile
        raise ObjectsElsewhereError(len(digests), objects.location(digests[0]))


def check_same_index(database: Database, objects: ObjectStore) -> None:
    """Raise `IndexElsewhereError` if there are objects, and the index is one that was never used."""
    if not _is_new(database) or objects.is_empty():
        return
    found = next(islice(_settled(objects), MORE_THAN_A_CRASH_LEAVES - 1, None), None)
    if found is not None and _is_new(database):  # else another part has received its first instances meanwhile
        raise IndexElsewhereError(found.location)


def _is_new(database: Database) -> bool:
    with database.read() as connection:
        return all(
            connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is None for table in _KNOWN
        )


def _settled(objects: ObjectStore) -> Iterator[Listed]:
    """Yield objects that are old enough for their rows to be committed."""
    for number in range(256):
        for listed in objects.listed(f"{number:02x}"):
            if listed.kind is ListedKind.OBJECT and objects.is_settled(listed):
                yield listed


def _some(database: Database) -> Sequence[str]:
    with database.read() as connection:
        found = {
            digest
            for order in (instances.c.id, instances.c.id.desc())
            for digest in connection.execute(sa.select(instances.c.digest).order_by(order).limit(N_OF_EACH)).scalars()
        }
    return sorted(found)


def _is_there(objects: ObjectStore, digest: str) -> bool:
    """Return whether an object is there, was set aside, or cannot be asked for now."""
    try:
        with objects.open_stored(digest):
            return True
    except ObjectMissingError as error:
        return error.was_set_aside
    except (OSError, ObjectsUnavailableError):
        return True
