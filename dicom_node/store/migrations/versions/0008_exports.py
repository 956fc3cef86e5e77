"""Exports are remembered: which study was published where, and which copies have arrived."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

UID = sa.String(64)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add two tables; earlier exports are in the audit trail only."""
    op.create_table(
        "exports",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("copy_study_instance_uid", UID, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("key_fingerprint", sa.String(64), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("evidence_fingerprint", sa.String(64), nullable=False),
        sa.Column("gate_digest", sa.String(64), nullable=False),
        sa.Column("content_digest", sa.String(64), nullable=False),
        sa.Column("n_instances", sa.Integer, nullable=False),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("published_at", MOMENT, nullable=True),
        sa.Column("withdrawn_at", MOMENT, nullable=True),
        sa.Column("withdrawn_because", sa.Text, nullable=True),
        sa.UniqueConstraint("study_instance_uid", "key_fingerprint", "target", name="uq_exports_study"),
    )
    op.create_index("ix_exports_state", "exports", ["state"])
    op.create_table(
        "export_copies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("export_id", sa.Integer, sa.ForeignKey("exports.id"), nullable=False),
        sa.Column("sop_instance_uid", UID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("has_arrived", sa.Boolean, nullable=False),
        sa.UniqueConstraint("export_id", "sop_instance_uid", name="uq_export_copies_export_id_sop_instance_uid"),
    )
