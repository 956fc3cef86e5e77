"""Objects that are being removed from a store that several machines share."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "removed_objects",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_removed_objects")),
    )
    op.create_index("ix_removed_objects_ended_at", "removed_objects", ["ended_at"])
