"""Instances in the order in which they came, for work that is done once for each of them."""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.index.rows import InstanceRow
from dicom_node.store.index.series import INSTANCE_COLUMNS, instance_row
from dicom_node.store.schema import instances


class ArrivalOrder:
    """Received instances and results by a number that grows with each; numbers of deleted ones are missing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """Return the number of the newest instance; 0 if there is none."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.max(instances.c.id))).scalar() or 0)

    def after(self, number: int, *, limit: int) -> list[tuple[int, InstanceRow]]:
        """Return the next instances after a number, each with its own."""
        statement = (
            sa.select(instances.c.id, *INSTANCE_COLUMNS)
            .where(instances.c.id > number)
            .order_by(instances.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(row.id, instance_row(row)) for row in connection.execute(statement)]
