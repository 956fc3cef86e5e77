"""What peers list of what they accepted, and which encodings they take."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

UID = sa.String(64)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "delivery_checks",
        sa.Column("peer", sa.Text(), primary_key=True),
        sa.Column("series_instance_uid", UID, primary_key=True),
        sa.Column("study_instance_uid", UID, nullable=False),
        sa.Column("n_sent", sa.Integer(), nullable=True),
        sa.Column("n_found", sa.Integer(), nullable=True),
        sa.Column("n_checks", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("checked_at", MOMENT, nullable=True),
        sa.Column("due_at", MOMENT, nullable=True),
    )
    op.create_index("ix_delivery_checks_peer_due_at", "delivery_checks", ["peer", "due_at"])
    op.create_table(
        "peer_contexts",
        sa.Column("peer", sa.Text(), primary_key=True),
        sa.Column("sop_class_uid", UID, primary_key=True),
        sa.Column("transfer_syntax_uid", UID, primary_key=True),
        sa.Column("is_accepted", sa.Boolean(), nullable=False),
        sa.Column("noted_at", MOMENT, nullable=False),
    )
