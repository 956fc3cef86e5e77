"""Compare the decisions on studies with their entries in the audit trail.

A study leaves the node because of a row in `decisions`; the entry of the same transaction is in the hash chain. A row
without an entry was written by somebody else, an entry without a row was a decision that somebody removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dicom_node.store.schema import audit, decisions
from dicom_node.store.work.decisions import DECIDED
from dicom_node.store.work.rows import DecisionRow

_COLUMNS = [decisions.c[name] for name in DecisionRow.__dataclass_fields__]


def decision_findings(connection: sa.Connection) -> Iterator[str]:
    """Yield a sentence for each decision that is not the one that the audit trail has, and for each that is missing."""
    entries: dict[tuple[Any, ...], int] = {}  # the newest entry of what a decision says
    for entry in connection.execute(sa.select(audit).where(audit.c.action == DECIDED)):
        detail = json.loads(entry.detail)
        said = (detail.get("decision"), detail.get("kind"), detail.get("reason"), detail.get("evidence_fingerprint"))
        entries[(entry.subject, entry.actor, entry.occurred_at, *said)] = entry.id
    for row in connection.execute(sa.select(*_COLUMNS).order_by(decisions.c.id)):
        who = (row.study_instance_uid, row.decided_by, row.decided_at)
        if entries.pop((*who, row.id, row.kind, row.reason, row.evidence_fingerprint), None) is None:
            yield f"decision {row.id} on study {row.study_instance_uid} is not in the audit trail as it is in the index"
    deleted_at = {
        row.subject: row.last_id
        for row in connection.execute(
            sa.select(audit.c.subject, sa.func.max(audit.c.id).label("last_id"))
            .where(audit.c.action == "study-deleted")
            .group_by(audit.c.subject)
        )
    }
    for (subject, _, _, number, *_), entry_id in entries.items():
        if entry_id > deleted_at.get(subject, 0):
            yield f"decision {number} on study {subject} is in the audit trail, and no longer in the index"
