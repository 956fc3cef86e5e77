"""Send again what a peer has accepted, as a new delivery of the same object."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.errors import NotSendableError
from dicom_node.store.schema import deliveries, instances, jobs, results
from dicom_node.store.states import JobState
from dicom_node.store.work.audit import add_audit
from dicom_node.store.work.delivery_queries import OF_OBJECT, SELECT_DELIVERIES, delivery_row_of, read_delivery
from dicom_node.store.work.delivery_rows import DeliveryRow


def send_again(connection: sa.Connection, delivery_id: int, *, by: str, now: datetime) -> DeliveryRow:
    """Queue the object of a successful delivery for the same peer again, and return the new delivery.

    The object goes out under the same SOP Instance UID, and a commitment has to be asked for anew. The audit trail
    says who wanted it.

    Raises
    ------
    NotSendableError
        The delivery has not succeeded, was sent again already, or its object is replaced, withdrawn or deleted.
    """
    delivery = read_delivery(connection, delivery_id)
    reason = _why_not_again(connection, delivery)
    if reason is not None:
        raise NotSendableError(delivery_id, reason)
    values = {name: getattr(delivery, name) for name in ("result_id", "peer", *OF_OBJECT)}
    new_id = connection.execute(
        sa.insert(deliveries)
        .values(**values, state=JobState.QUEUED.value, attempt_number=0, created_at=now)
        .returning(deliveries.c.id)
    ).scalar_one()
    replaced = sa.update(deliveries).where(deliveries.c.id == delivery_id)
    connection.execute(replaced.values(replaced_by_id=new_id))
    detail = {"peer": delivery.peer, "delivery": new_id, "replaces": delivery_id}
    add_audit(connection, "sent-again", actor=by, subject=delivery.sop_instance_uid, now=now, detail=detail)
    return read_delivery(connection, new_id)


def sendable_again(
    connection: sa.Connection,
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
    return tuple(delivery_row_of(row) for row in connection.execute(statement))


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
