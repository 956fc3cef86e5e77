"""Instances that a C-GET or C-MOVE asks for, read in small batches while they are sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.matching import conditions
from dicom_node.store.index.rows import InstanceRow
from dicom_node.store.index.series import INSTANCE_COLUMNS, instance_row
from dicom_node.store.schema import instances, series, studies

BATCH_ROWS: Final = 500
_IDS: Final[sa.BindParameter[Any]] = sa.bindparam("ids", expanding=True)
_ROWS: Final = sa.select(instances.c.id, *INSTANCE_COLUMNS).where(instances.c.id.in_(_IDS))


class FoundInstances:
    """Instances in the order of series and instance number; one that is deleted before it is read is left out.

    Attributes
    ----------
    ids
        Their keys in the index.
    has_more
        Whether there are more than were asked for.
    """

    def __init__(self, database: Database, ids: Sequence[int], *, has_more: bool) -> None:
        self._database = database
        self.ids = ids
        self.has_more = has_more

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[InstanceRow]:
        for start in range(0, len(self.ids), BATCH_ROWS):
            ids = self.ids[start : start + BATCH_ROWS]
            with self._database.read() as connection:
                rows = {row.id: row for row in connection.execute(_ROWS, {"ids": ids})}
            yield from (instance_row(rows[one]) for one in ids if one in rows)


def find_retrievable(database: Database, filters: Mapping[str, str], *, limit: int) -> FoundInstances:
    """Find at most ``limit`` instances by the keywords of `SEARCHABLE`.

    A result that a later one replaced is found only by its SOP Instance UID, as over WADO-RS.
    """
    statement = (
        sa.select(instances.c.id)
        .join_from(instances, series, instances.c.series_instance_uid == series.c.series_instance_uid)
        .join(studies, series.c.study_instance_uid == studies.c.study_instance_uid)
        .where(*conditions("instance", filters))
        .order_by(instances.c.series_instance_uid, instances.c.instance_number, instances.c.id)
        .limit(limit + 1)
    )
    if "SOPInstanceUID" not in filters:
        statement = statement.where(instances.c.superseded_at.is_(None))
    with database.read() as connection:
        ids = connection.execute(statement).scalars().all()
    return FoundInstances(database, ids[:limit], has_more=len(ids) > limit)
