"""How a series was completed, and which results later ones replace."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns; what was closed before is known by its jobs."""
    op.add_column("series", sa.Column("forced_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("series", sa.Column("waits_because", sa.Text(), nullable=True))
    op.add_column("series", sa.Column("complete_because", sa.Text(), nullable=True))
    op.add_column("series", sa.Column("is_doubted", sa.Boolean(), nullable=True))
    op.add_column("series", sa.Column("pipeline_digest", sa.String(length=64), nullable=True))
    op.add_column("instances", sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("results", sa.Column("superseded_by_job_id", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE series SET pipeline_digest = (SELECT max(jobs.pipeline_digest) FROM jobs"
        " WHERE jobs.series_instance_uid = series.series_instance_uid AND jobs.generation = series.generation)"
    )
