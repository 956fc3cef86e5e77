"""Deliveries that a C-MOVE asks for."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add what they are asked by."""
    op.add_column("deliveries", sa.Column("move_id", sa.String(32), nullable=True))
    op.add_column("deliveries", sa.Column("move_originator", sa.Text(), nullable=True))
    op.add_column("deliveries", sa.Column("move_message_id", sa.Integer(), nullable=True))
    op.create_index("ix_deliveries_move_id", "deliveries", ["move_id"])
