"""Deliveries that a C-MOVE asks for: queued together, counted while they are sent, and cancelled together.

They are ordinary deliveries of the outbox. The receiver queues them, the scheduler sends them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.schema import commitments, deliveries, instances
from dicom_node.store.states import JobState
from dicom_node.store.work.delivery_queries import OF_OBJECT

ROWS_AT_ONCE: Final = 1000  # in one transaction, so that arriving instances do not wait for long
_ENDED_WELL: Final = (JobState.SUCCEEDED.value,)


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """States of the deliveries of a move.

    Attributes
    ----------
    counts
        State → number; states without deliveries are left out.
    """

    counts: Mapping[JobState, int]

    @property
    def n_delivered(self) -> int:
        """Number of instances that the destination has."""
        return self.counts.get(JobState.SUCCEEDED, 0)

    @property
    def n_failed(self) -> int:
        """Number of instances that it does not take, or whose delivery was cancelled."""
        return sum(self.counts.get(state, 0) for state in (JobState.DEAD, JobState.CANCELLED, JobState.SUPERSEDED))

    @property
    def n_open(self) -> int:
        """Number of instances that are still to be sent, or sent again."""
        return sum(self.counts.values()) - self.n_delivered - self.n_failed

    @property
    def is_waiting(self) -> bool:
        """Whether some of them are to be sent, or sent again, and are not being sent."""
        return self.n_open > self.counts.get(JobState.RUNNING, 0)

    @property
    def is_sending(self) -> bool:
        """Whether some of them are being sent."""
        return JobState.RUNNING in self.counts


class Moves:
    """Moves: sets of deliveries to one peer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def queue(
        self, instance_ids: Sequence[int], *, peer: str, originator: str, message_id: int, now: datetime
    ) -> tuple[str, int]:
        """Queue instances for a peer; return the ID of the move, and how many there are, deleted ones left out.

        Parameters
        ----------
        instance_ids
            Keys in the index, in the order in which they are sent.
        originator, message_id
            AE title that asks for them, and the message ID of its request.
        """
        move_id = uuid.uuid4().hex
        constants = {
            "peer": sa.literal(peer),
            "state": sa.literal(JobState.QUEUED.value),
            "attempt_number": sa.literal(0),
            "created_at": sa.literal(now, type_=deliveries.c.created_at.type),
            "move_id": sa.literal(move_id),
            "move_originator": sa.literal(originator),
            "move_message_id": sa.literal(message_id),
        }
        n_queued = 0
        for start in range(0, len(instance_ids), ROWS_AT_ONCE):
            chosen = (
                sa.select(*(instances.c[name] for name in OF_OBJECT), *constants.values())
                .where(instances.c.id.in_(instance_ids[start : start + ROWS_AT_ONCE]))
                .order_by(instances.c.series_instance_uid, instances.c.instance_number, instances.c.id)
            )
            insert = sa.insert(deliveries).from_select([*OF_OBJECT, *constants], chosen)
            with self._database.write() as connection:
                n_queued += connection.execute(insert).rowcount
        return move_id, n_queued

    def progress(self, move_id: str) -> MoveProgress:
        """Return the states of the deliveries of a move."""
        statement = (
            sa.select(deliveries.c.state, sa.func.count())
            .where(deliveries.c.move_id == move_id)
            .group_by(deliveries.c.state)
        )
        with self._database.read() as connection:
            return MoveProgress({JobState(state): n for state, n in connection.execute(statement)})

    def cancel(self, move_id: str, now: datetime) -> int:
        """Cancel the deliveries of a move that are not being sent; return how many."""
        waiting = (JobState.QUEUED.value, JobState.WAITING.value)
        cancel = (
            sa.update(deliveries)
            .where(deliveries.c.move_id == move_id, deliveries.c.state.in_(waiting))
            .values(state=JobState.CANCELLED.value, ended_at=now, retry_at=None)
        )
        with self._database.write() as connection:
            return connection.execute(cancel).rowcount

    def forget(self, before: datetime) -> int:
        """Delete deliveries of moves that ended before a time; return their number.

        Those that a peer was asked to commit to stay, with what it has said.
        """
        ended = (*_ENDED_WELL, JobState.DEAD.value, JobState.CANCELLED.value, JobState.SUPERSEDED.value)
        is_asked = sa.select(commitments.c.delivery_id).where(commitments.c.delivery_id == deliveries.c.id).exists()
        old = (
            sa.select(deliveries.c.id)
            .where(
                deliveries.c.move_id.is_not(None),
                deliveries.c.state.in_(ended),
                deliveries.c.ended_at <= before,
                ~is_asked,
            )
            .limit(ROWS_AT_ONCE)
        )
        n_deleted = 0
        while True:
            with self._database.read() as connection:  # most calls find nothing and need no write lock
                ids = connection.execute(old).scalars().all()
            if not ids:
                return n_deleted
            with self._database.write() as connection:
                n_deleted += connection.execute(sa.delete(deliveries).where(deliveries.c.id.in_(ids))).rowcount

    def undelivered(self, move_id: str, *, limit: int) -> list[str]:
        """Return the SOP Instance UIDs of what the destination does not have, at most ``limit``."""
        statement = (
            sa.select(deliveries.c.sop_instance_uid)
            .where(deliveries.c.move_id == move_id, deliveries.c.state.not_in(_ENDED_WELL))
            .order_by(deliveries.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return list(connection.execute(statement).scalars())

    def reasons(self, move_id: str) -> dict[str, int]:
        """Return the error codes of what the destination does not have, the most frequent first."""
        number = sa.func.count().label("n")
        statement = (
            sa.select(deliveries.c.error_code, number)
            .where(
                deliveries.c.move_id == move_id,
                deliveries.c.state.not_in(_ENDED_WELL),
                deliveries.c.error_code.is_not(None),
            )
            .group_by(deliveries.c.error_code)
            .order_by(number.desc(), deliveries.c.error_code)
        )
        with self._database.read() as connection:
            return {str(row.error_code): int(row.n) for row in connection.execute(statement)}
