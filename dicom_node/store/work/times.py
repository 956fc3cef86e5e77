"""Correct times of jobs, deliveries and notices after a clock change, so that none waits longer than intended."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import deliveries, jobs, notices
from dicom_node.store.states import JobState

TOLERANCE_S = 1.0  # a lease may be extended with a time read a moment ago


class WorkTimes:
    """Corrects times that lie too far in the future because they were written before the clock was set back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def bound(self, now: datetime, *, lease_s: float, longest_wait_s: float, renew_leases: bool = False) -> int:
        """Shorten leases and waits that end later than one that begins now could; return how many were changed.

        Parameters
        ----------
        longest_wait_s
            Longest wait before another attempt; whatever would wait longer becomes due at once.
        renew_leases
            Let every lease start anew. After a step forward all would have run out, including those of owners
            that are alive.
        """
        tolerance = timedelta(seconds=TOLERANCE_S)
        lease_end = now + timedelta(seconds=lease_s)
        changes = []
        for table in (jobs, deliveries, notices):
            is_running = table.c.state == JobState.RUNNING.value
            too_long = is_running if renew_leases else is_running & (table.c.lease_expires_at > lease_end + tolerance)
            wait_end = now + timedelta(seconds=longest_wait_s) + tolerance
            waits_too_long = (table.c.state == JobState.WAITING.value) & (table.c.retry_at > wait_end)
            changes.append((table, too_long, {"lease_expires_at": lease_end}))
            changes.append((table, waits_too_long, {"retry_at": now}))
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            due = [
                (table, condition, values)
                for table, condition, values in changes
                if connection.execute(sa.select(table.c.id).where(condition).limit(1)).first() is not None
            ]
        if not due:
            return 0
        with self._database.write() as connection:
            return sum(
                connection.execute(sa.update(table).where(condition).values(values)).rowcount
                for table, condition, values in due
            )
