"""Up to where the audit trail was sent to a syslog receiver."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "audit_forwarding",
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_audit_forwarding")),
    )
