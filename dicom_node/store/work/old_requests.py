"""Old requests for storage commitment: their rows are deleted, what peers have promised stays."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from dicom_node.store.schema import commitment_items, commitment_requests, commitments, deliveries
from dicom_node.store.states import CommitmentState
from dicom_node.store.work.audit import add_audit

REQUESTS_AT_ONCE: Final = 500  # in one write transaction; a request has up to 10,000 items
ACTION: Final = "commitment-requests-deleted"


def delete_old_requests(connection: sa.Connection, before: datetime, now: datetime) -> int:
    """Delete some requests that were sent before a time, with an audit entry for each peer; return their number.

    A request stays while an object of it has no answer yet: a report on it may come late, and still counts.
    """
    awaited = (
        sa.select(commitment_items.c.transaction_uid)
        .join_from(commitment_items, commitments, commitments.c.delivery_id == commitment_items.c.delivery_id)
        .join(deliveries, deliveries.c.id == commitments.c.delivery_id)
        .where(
            commitment_items.c.transaction_uid == commitment_requests.c.transaction_uid,
            commitments.c.state == CommitmentState.ASKED.value,
            deliveries.c.replaced_by_id.is_(None),
        )
    )
    old = (
        sa.select(commitment_requests.c.transaction_uid, commitment_requests.c.peer)
        .where(commitment_requests.c.requested_at <= before, ~awaited.exists())
        .order_by(commitment_requests.c.requested_at)
        .limit(REQUESTS_AT_ONCE)
    )
    by_peer: dict[str, list[str]] = {}
    for row in connection.execute(old):
        by_peer.setdefault(row.peer, []).append(row.transaction_uid)
    for peer, uids in by_peer.items():
        for table in (commitment_items, commitment_requests):
            connection.execute(sa.delete(table).where(table.c.transaction_uid.in_(uids)))
        detail = {"n_requests": len(uids), "requested_until": before.isoformat()}
        add_audit(connection, ACTION, actor="node", subject=peer, now=now, detail=detail)
    return sum(map(len, by_peer.values()))
