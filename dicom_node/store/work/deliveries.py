"""The outbox: deliver each result to each of its peers, until the peer has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dicom_node.store.database import Database
from dicom_node.store.errors import IllegalTransitionError, LeaseLostError, NotFoundError, NotSendableError
from dicom_node.store.index.filing import Filed
from dicom_node.store.schema import commitments, deliveries, delivery_checks, instances, jobs, results
from dicom_node.store.states import CommitmentState, JobState, Origin, check_transition
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.delivery_checks import await_check
from dicom_node.store.work.rows import DeliveryRow

SELECT_DELIVERIES: sa.Select[Any] = (
    sa.select(
        *(deliveries.c[name] for name in DeliveryRow.__dataclass_fields__ if name in deliveries.c),
        results.c.job_id,
        commitments.c.state.label("commitment"),
        commitments.c.reason.label("commitment_reason"),
        delivery_checks.c.n_sent,
        delivery_checks.c.n_found,
    )
    .select_from(deliveries)
    .outerjoin(results, deliveries.c.result_id == results.c.id)
    .outerjoin(commitments, commitments.c.delivery_id == deliveries.c.id)
    .outerjoin(
        delivery_checks,
        (delivery_checks.c.peer == deliveries.c.peer)
        & (delivery_checks.c.series_instance_uid == deliveries.c.series_instance_uid),
    )
)


_OF_OBJECT = (
    "study_instance_uid",
    "series_instance_uid",
    "sop_class_uid",
    "sop_instance_uid",
    "transfer_syntax_uid",
    "digest",
)


def queue_delivery(
    connection: sa.Connection, filed: Filed, peer: str, now: datetime, *, result_id: int | None = None
) -> None:
    """Queue an object for a peer within the caller's write transaction."""
    header = filed.header
    connection.execute(
        sa.insert(deliveries).values(
            result_id=result_id,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            digest=filed.digest,
            peer=peer,
            state=JobState.QUEUED.value,
            attempt_number=0,
            created_at=now,
        )
    )


def queue_sources(connection: sa.Connection, series_instance_uid: str, peer: str, now: datetime) -> None:
    """Queue the received instances of a series for a peer within the caller's write transaction.

    Whatever was queued for this peer before, with the same bytes, is left out, whatever became of it.
    """
    known = sa.select(deliveries.c.id).where(
        deliveries.c.result_id.is_(None),
        deliveries.c.series_instance_uid == series_instance_uid,
        deliveries.c.peer == peer,
        deliveries.c.sop_instance_uid == instances.c.sop_instance_uid,
        deliveries.c.digest == instances.c.digest,
    )
    copied = [deliveries.c[name].name for name in _OF_OBJECT]
    constants = {
        "peer": sa.literal(peer),
        "state": sa.literal(JobState.QUEUED.value),
        "attempt_number": sa.literal(0),
        "created_at": sa.literal(now, type_=deliveries.c.created_at.type),
    }
    statement = (
        sa.select(*(instances.c[name] for name in copied), *constants.values())
        .where(
            instances.c.series_instance_uid == series_instance_uid,
            instances.c.origin == Origin.RECEIVED.value,
            ~known.exists(),
        )
        .order_by(instances.c.instance_number, instances.c.id)
    )
    connection.execute(sa.insert(deliveries).from_select([*copied, *constants], statement))


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
        with self._database.write() as connection:
            chosen = connection.execute(first).scalar_one_or_none()
            # Results first: a person waits for them, and forwarded series are large.
            order = (deliveries.c.result_id.is_(None), deliveries.c.id)
            due = SELECT_DELIVERIES.where(is_due, deliveries.c.peer == chosen).order_by(*order).limit(limit)
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
        with self._database.write() as connection:
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
            delivery = _delivery(connection, delivery_id)
            if delivery.state is JobState.RUNNING:
                raise IllegalTransitionError("delivery", delivery_id, delivery.state, JobState.QUEUED, ("cancelled",))
            return _move(connection, delivery, JobState.QUEUED, attempt_number=0, ended_at=None)

    def send_again(self, delivery_id: int, *, by: str, now: datetime) -> DeliveryRow:
        """Queue the object of a successful delivery for the same peer again, and return the new delivery.

        The object goes out under the same SOP Instance UID, and a commitment has to be asked for anew. The audit trail
        says who wanted it.

        Raises
        ------
        NotSendableError
            The delivery has not succeeded, was sent again already, or its object is replaced, withdrawn or deleted.
        """
        with self._database.write() as connection:
            delivery = _delivery(connection, delivery_id)
            reason = _why_not_again(connection, delivery)
            if reason is not None:
                raise NotSendableError(delivery_id, reason)
            values = {name: getattr(delivery, name) for name in ("result_id", "peer", *_OF_OBJECT)}
            new_id = connection.execute(
                sa.insert(deliveries)
                .values(**values, state=JobState.QUEUED.value, attempt_number=0, created_at=now)
                .returning(deliveries.c.id)
            ).scalar_one()
            replaced = sa.update(deliveries).where(deliveries.c.id == delivery_id)
            connection.execute(replaced.values(replaced_by_id=new_id))
            detail = {"peer": delivery.peer, "delivery": new_id, "replaces": delivery_id}
            add_audit(connection, "sent-again", actor=by, subject=delivery.sop_instance_uid, now=now, detail=detail)
            return _delivery(connection, new_id)

    def sendable_again(
        self,
        *,
        job_id: int | None = None,
        series_instance_uid: str | None = None,
        study_instance_uid: str | None = None,
        peer: str | None = None,
    ) -> tuple[DeliveryRow, ...]:
        """Return the deliveries that `send_again` takes, the oldest first.

        Parameters
        ----------
        series_instance_uid
            Of the objects themselves, or of the series that results were made of.
        """
        statement = (
            SELECT_DELIVERIES.outerjoin(jobs, jobs.c.id == results.c.job_id)
            .where(
                deliveries.c.state == JobState.SUCCEEDED.value,
                deliveries.c.replaced_by_id.is_(None),
                sa.select(instances.c.id)
                .where(instances.c.digest == deliveries.c.digest, instances.c.superseded_at.is_(None))
                .exists(),
            )
            .order_by(deliveries.c.id)
        )
        if job_id is not None:
            statement = statement.where(results.c.job_id == job_id)
        if series_instance_uid is not None:
            of_series = (deliveries.c.series_instance_uid, jobs.c.series_instance_uid)
            statement = statement.where(sa.or_(*(column == series_instance_uid for column in of_series)))
        if study_instance_uid is not None:
            statement = statement.where(deliveries.c.study_instance_uid == study_instance_uid)
        if peer is not None:
            statement = statement.where(deliveries.c.peer == peer)
        with self._database.read() as connection:
            return tuple(delivery_row_of(row) for row in connection.execute(statement))

    def cancel(self, delivery_id: int, now: datetime) -> DeliveryRow:
        """Cancel a queued, waiting or running delivery."""
        with self._database.write() as connection:
            return _move(connection, _delivery(connection, delivery_id), JobState.CANCELLED, ended_at=now)

    def get(self, delivery_id: int) -> DeliveryRow:
        """Return one delivery, or raise `NotFoundError`."""
        with self._database.read() as connection:
            return _delivery(connection, delivery_id)

    def list(
        self,
        *,
        states: Sequence[JobState] = (),
        job_id: int | None = None,
        peer: str | None = None,
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
        with self._database.read() as connection:
            return tuple(delivery_row_of(row) for row in connection.execute(statement))

    def counts(self) -> dict[JobState, int]:
        """Return the number of deliveries in each state, for `status`; states without deliveries are left out."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(deliveries.c.state, sa.func.count()).group_by(deliveries.c.state))
            return {JobState(state): n for state, n in rows}


def delivery_row_of(row: sa.Row[Any]) -> DeliveryRow:
    """Return a row, selected by `SELECT_DELIVERIES`, as a value."""
    values = row._asdict()
    values["state"] = JobState(values["state"])
    if values["commitment"] is not None:
        values["commitment"] = CommitmentState(values["commitment"])
    return DeliveryRow(**values)


def _delivery(connection: sa.Connection, delivery_id: int) -> DeliveryRow:
    row = connection.execute(SELECT_DELIVERIES.where(deliveries.c.id == delivery_id)).one_or_none()
    if row is None:
        raise NotFoundError("delivery", str(delivery_id))
    return delivery_row_of(row)


def _why_not_again(connection: sa.Connection, delivery: DeliveryRow) -> str | None:
    """Return why the object of a delivery cannot be sent again, or None."""
    if delivery.state is not JobState.SUCCEEDED:
        return f"it is {delivery.state.value}, only what succeeded is sent again; see `deliveries retry`"
    if delivery.replaced_by_id is not None:
        return f"it was sent again already, as delivery {delivery.replaced_by_id}"
    named = sa.select(instances.c.superseded_at).where(instances.c.digest == delivery.digest)
    superseded_at = connection.execute(named).scalars().all()
    if not superseded_at:
        return "its object was deleted"
    is_current = any(moment is None for moment in superseded_at)
    return None if is_current else "a later result has replaced its object, or it was withdrawn; send what counts now"


def _held_delivery(connection: sa.Connection, delivery_id: int, owner: str) -> DeliveryRow:
    delivery = _delivery(connection, delivery_id)
    if delivery.state is not JobState.RUNNING or delivery.owner != owner:
        raise LeaseLostError("delivery", delivery_id, owner)
    return delivery


def _move(connection: sa.Connection, delivery: DeliveryRow, wanted: JobState, **changes: object) -> DeliveryRow:
    check_transition("delivery", delivery.id, delivery.state, wanted)
    if wanted is not JobState.RUNNING:
        changes = {"owner": None, "lease_expires_at": None} | changes
    if wanted is not JobState.WAITING:
        changes = {"retry_at": None} | changes
    connection.execute(
        sa.update(deliveries).where(deliveries.c.id == delivery.id).values(state=wanted.value, **changes)
    )
    return _delivery(connection, delivery.id)


def await_commitment(connection: sa.Connection, delivery_ids: Sequence[int], peer: str, now: datetime) -> None:
    """Have a peer asked for storage commitment of deliveries, within the caller's write transaction."""
    if delivery_ids:
        values = {"peer": peer, "state": CommitmentState.DUE.value, "reason": "", "n_requests": 0, "due_at": now}
        connection.execute(
            sa.insert(commitments), [{"delivery_id": delivery_id, **values} for delivery_id in delivery_ids]
        )
