"""Whether the objects that a node finds are those of its index, or lie on a disk that is not mounted."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import ObjectMissingError, ObjectsElsewhereError, ObjectsUnavailableError
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import instances

N_OF_EACH = 10  # objects looked for, of the oldest and of the newest


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
