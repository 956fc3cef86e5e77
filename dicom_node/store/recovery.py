"""Rows that a power failure left without their bytes, found and taken back at the next start.

The inbox commits a batch's rows while its files are still being synced, and answers when both are done. What the last
batch of each writer added is marked in ``unproven`` by the same transaction; the next batch takes the marks away, for
it begins after the syncs have ended. So only what is marked can lack its bytes, it was never acknowledged, and to look
at it costs a batch, not the archive.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.schema import conflicts, instances, jobs, series, studies, tags, unproven
from dicom_node.store.statements import DriverStatement
from dicom_node.store.states import Origin

log = logging.getLogger(__name__)

LOOKED_FOR = 20  # objects without a mark, before rows are taken back


class Unproven:
    """The marks of one writer."""

    def __init__(self) -> None:
        self.leave_marks()

    def leave_marks(self) -> None:
        """Leave the marks of before to the next start, because nobody knows whether they were committed."""
        self._writer = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._has_marks = False

    def replace(self, connection: sa.Connection, digests: Sequence[str]) -> None:
        """Take this writer's marks away and set new ones, within the caller's write transaction."""
        if self._has_marks:
            _TAKE_AWAY.run(connection, {"writer": self._writer})
        if digests:
            _MARK.run_many(connection, [{"writer": self._writer, "digest": digest} for digest in digests])

    def note_committed(self, digests: Sequence[str]) -> None:
        """Remember which marks there are, once the transaction that set them is committed."""
        self._has_marks = bool(digests)


def recover(database: Database, objects: ObjectStore) -> int:
    """Remove rows of marked objects that are damaged; return how many. Call only while no other process runs.

    Nothing is removed if other objects are missing as well.
    """
    with database.read() as connection:
        marked = set(connection.execute(sa.select(unproven.c.digest)).scalars())
    if not marked:
        return 0
    unsound = [digest for digest in sorted(marked) if not objects.is_sound(digest)]
    if unsound and (elsewhere := _others_that_are_missing(database, objects)):
        log.error(
            "no object that was looked for is there; is the disk of node.data_dir mounted, and node.objects_url right? "
            "No row was taken back",
            extra={"n_looked_for": len(unsound) + len(elsewhere), "one_of_them": objects.location(elsewhere[0])},
        )
        return 0
    with database.write() as connection:
        forget(connection, unsound)
        connection.execute(sa.delete(unproven))
        objects.begin_removal(connection, unsound)
    objects.finish_removal(database, unsound)
    return len(unsound)


def _others_that_are_missing(database: Database, objects: ObjectStore) -> Sequence[str]:
    """Return the newest objects without a mark if none of them is there: then these are not the index's objects.

    A power failure takes the bytes of the last batch, and a disk that is not mounted takes all.
    """
    is_marked = sa.select(unproven.c.id).where(unproven.c.digest == instances.c.digest).exists()
    newest = sa.select(instances.c.digest).where(~is_marked).order_by(instances.c.id.desc()).limit(LOOKED_FOR)
    with database.read() as connection:
        others = connection.execute(newest).scalars().all()
    return () if any(objects.exists(digest) for digest in others) else others


def forget(connection: sa.Connection, digests: Sequence[str]) -> None:
    """Remove received instances and conflicts from the index, with series and studies that only they belonged to."""
    if not digests:
        return
    is_lost = instances.c.digest.in_(digests) & (instances.c.origin == Origin.RECEIVED.value)
    touched = connection.execute(
        sa.select(instances.c.series_instance_uid, instances.c.study_instance_uid).where(is_lost).distinct()
    ).all()
    connection.execute(sa.delete(instances).where(is_lost))
    connection.execute(sa.delete(conflicts).where(conflicts.c.digest.in_(digests)))
    series_uids = [row.series_instance_uid for row in touched]
    its_instances = instances.c.series_instance_uid == series.c.series_instance_uid
    connection.execute(
        sa.update(series)
        .where(series.c.series_instance_uid.in_(series_uids))
        .values(
            n_instances=sa.select(sa.func.count()).where(its_instances).scalar_subquery(),
            n_dataset_bytes=sa.select(sa.func.coalesce(sa.func.sum(instances.c.dataset_bytes), 0))
            .where(its_instances)
            .scalar_subquery(),
        )
    )
    has_jobs = sa.select(jobs.c.id).where(jobs.c.series_instance_uid == series.c.series_instance_uid).exists()
    connection.execute(
        sa.delete(series).where(series.c.series_instance_uid.in_(series_uids), series.c.n_instances == 0, ~has_jobs)
    )
    has_series = sa.select(series.c.series_instance_uid).where(
        series.c.study_instance_uid == studies.c.study_instance_uid
    )
    has_tags = sa.select(tags.c.id).where(tags.c.study_instance_uid == studies.c.study_instance_uid)
    connection.execute(
        sa.delete(studies).where(
            studies.c.study_instance_uid.in_([row.study_instance_uid for row in touched]),
            ~has_series.exists(),
            ~has_tags.exists(),
        )
    )


_TAKE_AWAY = DriverStatement(sa.delete(unproven).where(unproven.c.writer == sa.bindparam("writer")))
_MARK = DriverStatement(sa.insert(unproven), ["writer", "digest"])
