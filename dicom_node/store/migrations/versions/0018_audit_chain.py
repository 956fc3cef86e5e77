"""The hash chain over the audit trail, and triggers that refuse to change either."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_TABLES = ("audit", "audit_chain")


def upgrade() -> None:
    """Add the chain; entries from before it are sealed by the scheduler."""
    op.create_table(
        "audit_chain",
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("audit_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["audit_id"], ["audit.id"], name=op.f("fk_audit_chain_audit_id")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_chain")),
    )
    op.create_index("ix_audit_chain_audit_id", "audit_chain", ["audit_id"], unique=True)
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
        )
    for table in _TABLES:
        for action in ("UPDATE", "DELETE"):
            name = f"{table}_no_{action.lower()}"
            what = (
                "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
                if is_sqlite
                else "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            )
            op.execute(f"CREATE TRIGGER {name} BEFORE {action} ON {table} {what}")
