"""Read and queue deliveries within a transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.store.errors import NotFoundError
from dicom_node.store.index.filing import Filed
from dicom_node.store.schema import commitments, deliveries, delivery_checks, instances, results
from dicom_node.store.states import CommitmentState, JobState, Origin
from dicom_node.store.work.delivery_rows import MOVE, SOURCE, DeliveryRow

SELECT_DELIVERIES: sa.Select[Any] = (
    sa.select(
        *(deliveries.c[name] for name in DeliveryRow.__dataclass_fields__ if name in deliveries.c),
        results.c.job_id,
        sa.case((deliveries.c.move_id.is_not(None), MOVE), else_=sa.func.coalesce(results.c.kind, SOURCE)).label(
            "kind"
        ),
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

OF_OBJECT = (
    "study_instance_uid",
    "series_instance_uid",
    "sop_class_uid",
    "sop_instance_uid",
    "transfer_syntax_uid",
    "digest",
)


def delivery_row_of(row: sa.Row[Any]) -> DeliveryRow:
    """Return a row, selected by `SELECT_DELIVERIES`, as a value."""
    values = row._asdict()
    values["state"] = JobState(values["state"])
    if values["commitment"] is not None:
        values["commitment"] = CommitmentState(values["commitment"])
    return DeliveryRow(**values)


def read_delivery(connection: sa.Connection, delivery_id: int, *, is_to_move: bool = False) -> DeliveryRow:
    """Return one delivery, or raise `NotFoundError`; one that is to be moved is locked, since it may be claimed now."""
    statement = SELECT_DELIVERIES.where(deliveries.c.id == delivery_id)
    if is_to_move:
        statement = statement.with_for_update(of=deliveries)
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise NotFoundError("delivery", str(delivery_id))
    return delivery_row_of(row)


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

    Whatever was queued for this peer before, with the same bytes, is left out, whatever became of it. What a C-MOVE
    asked for does not count, since it may have been cancelled.
    """
    known = sa.select(deliveries.c.id).where(
        deliveries.c.result_id.is_(None),
        deliveries.c.move_id.is_(None),
        deliveries.c.series_instance_uid == series_instance_uid,
        deliveries.c.peer == peer,
        deliveries.c.sop_instance_uid == instances.c.sop_instance_uid,
        deliveries.c.digest == instances.c.digest,
    )
    copied = [deliveries.c[name].name for name in OF_OBJECT]
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


def await_commitment(connection: sa.Connection, delivery_ids: Sequence[int], peer: str, now: datetime) -> None:
    """Have a peer asked for storage commitment of deliveries, within the caller's write transaction."""
    if delivery_ids:
        values = {"peer": peer, "state": CommitmentState.DUE.value, "reason": "", "n_requests": 0, "due_at": now}
        connection.execute(
            sa.insert(commitments), [{"delivery_id": delivery_id, **values} for delivery_id in delivery_ids]
        )
