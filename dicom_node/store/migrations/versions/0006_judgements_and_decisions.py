"""Why a study is in its state is kept, people decide on studies, and conflicts are evidence."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

UID = sa.String(64)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns and a table; studies that were judged before are judged again, since nothing says by which rules."""
    for column in (
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("judged_at", MOMENT, nullable=True),
        sa.Column("gate_digest", sa.String(64), nullable=True),
        sa.Column("evidence_fingerprint", sa.String(64), nullable=True),
    ):
        op.add_column("studies", column)
    op.add_column("conflicts", sa.Column("series_instance_uid", UID, nullable=True))
    op.add_column("conflicts", sa.Column("settled_at", MOMENT, nullable=True))
    op.create_index("ix_conflicts_series_instance_uid", "conflicts", ["series_instance_uid"])
    op.execute(
        "UPDATE conflicts SET series_instance_uid = (SELECT instances.series_instance_uid FROM instances"
        " WHERE instances.sop_instance_uid = conflicts.sop_instance_uid)"
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_instance_uid", UID, sa.ForeignKey("studies.study_instance_uid"), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("evidence_fingerprint", sa.String(64), nullable=False),
        sa.Column("decided_at", MOMENT, nullable=False),
    )
    op.create_index("ix_decisions_study_instance_uid_decided_at", "decisions", ["study_instance_uid", "decided_at"])
