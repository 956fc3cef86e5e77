"""How many instances the results of a series were made of, once they are deleted."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; what was deleted before is known by the audit trail."""
    op.add_column("series", sa.Column("n_sources_deleted", sa.Integer(), nullable=False, server_default="0"))
    connection = op.get_bind()
    deleted = connection.execute(sa.text("SELECT subject, detail FROM audit WHERE action = 'sources-deleted'"))
    for uid, detail in deleted.all():
        facts = json.loads(detail)
        connection.execute(
            sa.text(
                "UPDATE series SET n_sources_deleted = :n_deleted"
                " WHERE series_instance_uid = :uid AND n_sources_deleted < :n_deleted AND EXISTS"
                " (SELECT 1 FROM jobs WHERE jobs.series_instance_uid = :uid AND jobs.generation = :generation)"
            ),
            {"uid": uid, "n_deleted": facts["n_instances"], "generation": facts["generation"]},
        )
