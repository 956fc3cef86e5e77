"""States of studies are announced to others: a history of them, and an outbox of what each target is to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

UID = sa.String(64)
WORD = sa.String(32)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns and tables; every study is to be announced."""
    op.add_column("studies", sa.Column("announced_for", sa.String(64), nullable=True))
    op.add_column("studies", sa.Column("announced_state", WORD, nullable=True))
    op.create_index("ix_studies_announced_for", "studies", ["announced_for"])
    op.create_index("ix_audit_subject_action", "audit", ["subject", "action"])
    op.create_table(
        "announcements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("decided_by", WORD, nullable=True),
        sa.Column("standings", sa.Text, nullable=False),
        sa.Column("evidence_fingerprint", sa.String(64), nullable=True),
        sa.Column("gate_digest", sa.String(64), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.UniqueConstraint("study_instance_uid", "version", name="uq_announcements_study_instance_uid_version"),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("told_version", sa.BigInteger, nullable=True),
        sa.Column("told_state", WORD, nullable=True),
        sa.Column("told_at", MOMENT, nullable=True),
        sa.Column("state", WORD, nullable=False),
        sa.Column("attempt_number", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text, nullable=True),
        sa.Column("lease_expires_at", MOMENT, nullable=True),
        sa.Column("retry_at", MOMENT, nullable=True),
        sa.Column("error_code", sa.Text, nullable=True),
        sa.Column("error_message", sa.Text, nullable=True),
        sa.UniqueConstraint("study_instance_uid", "target", name="uq_notices_study_instance_uid_target"),
    )
    op.create_index("ix_notices_target_state_id", "notices", ["target", "state", "id"])
