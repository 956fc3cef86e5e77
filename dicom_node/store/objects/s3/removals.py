"""Removing objects that other machines may be storing again at the same moment.

A removal is noted in the index first, in the transaction that finds no row with the object; then the object is deleted;
then the note says so, and stays for days. Whoever stores an object looks for a note in the transaction that adds its
row. Where there is one, the object is written again after its deletion has ended, and only then the note goes. So no
request to the object store is made while the index is locked, no row is added for an object that is deleted, and a
deletion that a crash or an outage interrupted is found and ended later.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import conflicts, instances, removed_objects

KEPT_FOR: Final = timedelta(days=7)
"""Longer than any writer takes from the confirmation of its object to the commit of its row (`CONFIRMED_FOR_S`), and
long enough for machines that are off for a while: copies of what was removed meanwhile are deleted when they start."""
RESUMED_AFTER: Final = timedelta(minutes=10)
"""Longer than a request that nobody waits for any more can stay on its way."""


def note_removals(connection: sa.Connection, digests: Sequence[str]) -> list[str]:
    """Note that objects are being removed, with the write lock; return the tokens of the removals."""
    if not digests:
        return []
    connection.execute(sa.delete(removed_objects).where(removed_objects.c.digest.in_(digests)))
    rows = [{"digest": digest, "token": secrets.token_hex(8), "began_at": _now()} for digest in digests]
    connection.execute(sa.insert(removed_objects), rows)
    return [str(row["token"]) for row in rows]


def renew_removal(database: Database, digest: str, token: str) -> bool:
    """Let a removal begin now, before its first irrevocable step; False if it was taken for one that broke off."""
    is_ours = (removed_objects.c.digest == digest) & (removed_objects.c.token == token)
    renewed = sa.update(removed_objects).where(is_ours, removed_objects.c.ended_at.is_(None)).values(began_at=_now())
    with database.write() as connection:
        return connection.execute(renewed).rowcount == 1


def end_removals(database: Database, digests: Sequence[str]) -> None:
    """Note that the store has confirmed the removal of objects, and forget removals that ended long ago."""
    now = _now()
    is_one = removed_objects.c.digest.in_(digests)
    with database.write() as connection:
        if digests:
            connection.execute(sa.update(removed_objects).where(is_one).values(ended_at=now))
        connection.execute(sa.delete(removed_objects).where(removed_objects.c.ended_at < now - KEPT_FOR))


def open_removals(database: Database) -> Sequence[str]:
    """Return objects whose removal has not ended, and that nobody is removing at the moment."""
    with database.read() as connection:
        return connection.execute(sa.select(removed_objects.c.digest).where(*_broke_off())).scalars().all()


def spare_named(database: Database) -> None:
    """End the removals that broke off of objects that a row names, which were to be set aside: they stay as they are.

    An object that is really removed has no row, and gets none before its removal has ended.
    """
    is_spared = sa.and_(*_broke_off(), _IS_NAMED)
    with database.read() as connection:
        if connection.execute(sa.select(removed_objects.c.digest).where(is_spared).limit(1)).first() is None:
            return
    with database.write() as connection:
        connection.execute(sa.update(removed_objects).where(is_spared).values(ended_at=_now()))


def removals_since(database: Database, *, since: datetime) -> Sequence[str]:
    """Return objects whose removal began after a moment, for who has copies of them."""
    statement = sa.select(removed_objects.c.digest).where(removed_objects.c.began_at >= since)
    with database.read() as connection:
        return connection.execute(statement).scalars().all()


def find_removal(connection: sa.Connection, digest: str) -> tuple[str, bool] | None:
    """Return the token of an object's removal and whether it has ended; None if it is not removed."""
    columns = (removed_objects.c.token, removed_objects.c.ended_at)
    row = connection.execute(sa.select(*columns).where(removed_objects.c.digest == digest)).one_or_none()
    return None if row is None else (row.token, row.ended_at is not None)


def forget_removal(connection: sa.Connection, digest: str) -> None:
    """Forget that an object was removed, because it was written again since."""
    connection.execute(sa.delete(removed_objects).where(removed_objects.c.digest == digest))


_IS_NAMED = sa.or_(
    *(
        sa.select(table.c.id).where(table.c.digest == removed_objects.c.digest).exists()
        for table in (instances, conflicts)
    )
)


def _broke_off() -> list[sa.ColumnElement[bool]]:
    return [removed_objects.c.ended_at.is_(None), removed_objects.c.began_at < _now() - RESUMED_AFTER]


def _now() -> datetime:
    return datetime.now(UTC)
