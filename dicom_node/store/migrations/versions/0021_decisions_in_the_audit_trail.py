"""Decisions on studies are entries of the audit trail too, and cannot be changed."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_decisions = sa.table(
    "decisions",
    *map(
        sa.column,
        ("id", "study_instance_uid", "kind", "reason", "decided_by", "evidence_fingerprint", "decided_at"),
    ),
)
_audit = sa.table("audit", *map(sa.column, ("actor", "action", "subject", "detail", "occurred_at")))


def upgrade() -> None:
    """Add an entry for each earlier decision, with its own time; the scheduler seals them like new ones."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(_decisions).order_by(_decisions.c.id)).all():
        detail = {
            "decision": row.id,
            "kind": row.kind,
            "reason": row.reason,
            "evidence_fingerprint": row.evidence_fingerprint,
        }
        values = {
            "actor": row.decided_by,
            "action": "decided",
            "subject": row.study_instance_uid,
            "detail": json.dumps(detail, ensure_ascii=False),
            "occurred_at": row.decided_at,
        }
        connection.execute(sa.insert(_audit).values(**values))
    what = (
        "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        if connection.dialect.name == "sqlite"
        else "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(f"CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions {what}")
