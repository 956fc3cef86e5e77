"""The outbox: deliver each result to each of its peers, until the peer has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import IllegalTransitionError, LeaseLostError
from dicom_node.store.schema import deliveries, results, series
from dicom_node.store.states import DELIVERY_TRANSITIONS, JobState, check_transition
from dicom_node.store.work.delivery_checks import await_check
from dicom_node.store.work.delivery_queries import (
    SELECT_DELIVERIES,
    await_commitment,
    delivery_row_of,
    read_delivery,
)
from dicom_node.store.work.delivery_rows import MOVE, SOURCE, DeliveryRow
from dicom_node.store.work.sending_again import send_again, sendable_again


class Deliveries:
    """Deliveries: one for each result and each of its peers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim_due(
        self, owner: str, now: datetime, lease_s: float, *, limit: int = 16, peer: str | None = None
    ) -> tuple[DeliveryRow, ...]:
        """Claim due deliveries, all to one peer, so that they can share an association."""
        is_due = (deliveries.c.state == JobState.QUEUED.value) | (
            (deliveries.c.state == JobState.WAITING.value) & (deliveries.c.retry_at <= now)
        )
        first = sa.select(deliveries.c.peer).where(is_due).order_by(deliveries.c.id).limit(1)
        if peer is not None:
            first = first.where(deliveries.c.peer == peer)
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if connection.execute(first).first() is None:
                return ()
        with self._database.claim() as connection:
            chosen = connection.execute(first).scalar_one_or_none()
            # Results and moves first: a person waits for them, and forwarded series are large.
            is_forwarded = deliveries.c.result_id.is_(None) & deliveries.c.move_id.is_(None)
            order = (is_forwarded, deliveries.c.id)
            due = SELECT_DELIVERIES.where(is_due, deliveries.c.peer == chosen).order_by(*order).limit(limit)
            due = due.with_for_update(of=deliveries, skip_locked=True)
            return tuple(
                _move(
                    connection,
                    delivery,
                    JobState.RUNNING,
                    owner=owner,
                    lease_expires_at=now + timedelta(seconds=lease_s),
                    attempt_number=delivery.attempt_number + 1,
                )
                for delivery in [delivery_row_of(row) for row in connection.execute(due)]
            )

    def heartbeat(self, delivery_id: int, owner: str, now: datetime, lease_s: float) -> bool:
        """Extend the lease; return False if the delivery no longer belongs to the owner."""
        extend = (
            sa.update(deliveries)
            .where(
                deliveries.c.id == delivery_id,
                deliveries.c.state == JobState.RUNNING.value,
                deliveries.c.owner == owner,
            )
            .values(lease_expires_at=now + timedelta(seconds=lease_s))
        )
        with self._database.claim() as connection:
            return connection.execute(extend).rowcount == 1

    def succeed(
        self,
        delivery_id: int,
        owner: str,
        now: datetime,
        *,
        is_to_be_committed: bool = False,
        is_to_be_counted: bool = False,
    ) -> None:
        """Record that the peer has the object; raise `LeaseLostError` if the delivery is no longer the owner's.

        Parameters
        ----------
        is_to_be_committed
            Ask the peer for storage commitment next; until it commits, retention keeps the sources.
        is_to_be_counted
            Ask the peer soon how many instances of the series it has.
        """
        with self._database.write() as connection:
            held = _held_delivery(connection, delivery_id, owner)
            _move(connection, held, JobState.SUCCEEDED, ended_at=now, error_code=None, error_message=None)
            if is_to_be_committed:
                await_commitment(connection, [delivery_id], held.peer, now)
            if is_to_be_counted:
                await_check(
                    connection,
                    peer=held.peer,
                    study_instance_uid=held.study_instance_uid,
                    series_instance_uid=held.series_instance_uid,
                    now=now,
                )

    def fail(
        self, delivery_id: int, owner: str, *, code: str, message: str, retry_at: datetime | None, now: datetime
    ) -> JobState:
        """End the attempt: wait until ``retry_at``, or become dead if that is None; raises the errors of `succeed`."""
        wanted = JobState.DEAD if retry_at is None else JobState.WAITING
        ended_at = now if wanted is JobState.DEAD else None
        with self._database.write() as connection:
            held = _held_delivery(connection, delivery_id, owner)
            _move(
                connection, held, wanted, retry_at=retry_at, ended_at=ended_at, error_code=code, error_message=message
            )
        return wanted

    def expire_leases(self, now: datetime) -> int:
        """Requeue deliveries whose lease has expired, and return their number."""
        is_expired = (deliveries.c.state == JobState.RUNNING.value) & (deliveries.c.lease_expires_at < now)
        with self._database.read() as connection:  # most calls find nothing and need no write lock
            if connection.execute(sa.select(deliveries.c.id).where(is_expired).limit(1)).first() is None:
                return 0
        requeue = (
            sa.update(deliveries)
            .where(is_expired)
            .values(state=JobState.QUEUED.value, owner=None, lease_expires_at=None)
        )
        with self._database.write() as connection:
            return connection.execute(requeue).rowcount

    def retry(self, delivery_id: int) -> DeliveryRow:
        """Queue a dead, cancelled or waiting delivery again; raise `IllegalTransitionError` for any other."""
        with self._database.write() as connection:
            delivery = read_delivery(connection, delivery_id, is_to_move=True)
            if delivery.state is JobState.RUNNING:
                raise IllegalTransitionError("delivery", delivery_id, delivery.state, JobState.QUEUED, ("cancelled",))
            return _move(connection, delivery, JobState.QUEUED, attempt_number=0, ended_at=None)

    def send_again(self, delivery_id: int, *, by: str, now: datetime) -> DeliveryRow:
        """Queue the object of a successful delivery again; raise `NotSendableError` if that is not possible."""
        with self._database.write() as connection:
            return send_again(connection, delivery_id, by=by, now=now)

    def sendable_again(
        self,
        *,
        job_id: int | None = None,
        series_instance_uid: str | None = None,
        study_instance_uid: str | None = None,
        peer: str | None = None,
    ) -> tuple[DeliveryRow, ...]:
        """Return the deliveries that `send_again` takes, the oldest first; a series is also that of the sources."""
        with self._database.read() as connection:
            return sendable_again(
                connection,
                job_id=job_id,
                series_instance_uid=series_instance_uid,
                study_instance_uid=study_instance_uid,
                peer=peer,
            )

    def retry_all(self, peer: str, *, kind: str | None = None) -> int:
        """Queue every dead delivery to a peer again, or only those of one kind; return their number.

        Those of a C-MOVE, which has ended long ago, only if they are asked for.
        """
        again = (
            sa.update(deliveries)
            .where(*_of_peer(peer, kind), deliveries.c.state == JobState.DEAD.value)
            .where(sa.true() if kind == MOVE else deliveries.c.move_id.is_(None))
            .values(state=JobState.QUEUED.value, attempt_number=0, ended_at=None)
        )
        with self._database.write() as connection:
            return connection.execute(again).rowcount

    def cancel_all(self, peer: str, now: datetime, *, kind: str | None = None) -> int:
        """Cancel whatever has not reached a peer, or only what is of one kind; return the number."""
        unfinished = [state.value for state, ways in DELIVERY_TRANSITIONS.items() if JobState.CANCELLED in ways]
        stop = (
            sa.update(deliveries)
            .where(*_of_peer(peer, kind), deliveries.c.state.in_(unfinished))
            .values(state=JobState.CANCELLED.value, owner=None, lease_expires_at=None, retry_at=None, ended_at=now)
        )
        with self._database.write() as connection:
            return connection.execute(stop).rowcount

    def cancel(self, delivery_id: int, now: datetime) -> DeliveryRow:
        """Cancel a queued, waiting, running or dead delivery."""
        with self._database.write() as connection:
            delivery = read_delivery(connection, delivery_id, is_to_move=True)
            return _move(connection, delivery, JobState.CANCELLED, ended_at=now)

    def get(self, delivery_id: int) -> DeliveryRow:
        """Return one delivery, or raise `NotFoundError`."""
        with self._database.read() as connection:
            return read_delivery(connection, delivery_id)

    def list(
        self,
        *,
        states: Sequence[JobState] = (),
        job_id: int | None = None,
        peer: str | None = None,
        study_instance_uid: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[DeliveryRow, ...]:
        """Return deliveries, the latest first."""
        statement = SELECT_DELIVERIES.order_by(deliveries.c.id.desc()).limit(limit).offset(offset)
        if states:
            statement = statement.where(deliveries.c.state.in_([state.value for state in states]))
        if job_id is not None:
            statement = statement.where(results.c.job_id == job_id)
        if peer is not None:
            statement = statement.where(deliveries.c.peer == peer)
        if study_instance_uid is not None:  # by series: they have an index here, and studies have none
            its_series = sa.select(series.c.series_instance_uid).where(
                series.c.study_instance_uid == study_instance_uid
            )
            statement = statement.where(deliveries.c.series_instance_uid.in_(its_series))
        with self._database.read() as connection:
            return tuple(delivery_row_of(row) for row in connection.execute(statement))

    def counts(self) -> dict[JobState, int]:
        """Return the number of deliveries in each state, for `status`; states without deliveries are left out."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state))
            return {JobState(state): n for state, n in rows}


def _of_peer(peer: str, kind: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for deliveries to a peer, of one kind or of any."""
    conditions = [deliveries.c.peer == peer]
    if kind == SOURCE:
        conditions += [deliveries.c.result_id.is_(None), deliveries.c.move_id.is_(None)]
    elif kind == MOVE:
        conditions.append(deliveries.c.move_id.is_not(None))
    elif kind is not None:
        conditions.append(deliveries.c.result_id.in_(sa.select(results.c.id).where(results.c.kind == kind)))
    return conditions


def _held_delivery(connection: sa.Connection, delivery_id: int, owner: str) -> DeliveryRow:
    delivery = read_delivery(connection, delivery_id)
    if delivery.state is not JobState.RUNNING or delivery.owner != owner:
        raise LeaseLostError("delivery", delivery_id, owner)
    return delivery


def _move(connection: sa.Connection, delivery: DeliveryRow, wanted: JobState, **changes: object) -> DeliveryRow:
    check_transition("delivery", delivery.id, delivery.state, wanted, ways=DELIVERY_TRANSITIONS)
    if wanted is not JobState.RUNNING:
        changes = {"owner": None, "lease_expires_at": None} | changes
    if wanted is not JobState.WAITING:
        changes = {"retry_at": None} | changes
    connection.execute(
        sa.update(deliveries).where(deliveries.c.id == delivery.id).values(state=wanted.value, **changes)
    )
    return read_delivery(connection, delivery.id)
