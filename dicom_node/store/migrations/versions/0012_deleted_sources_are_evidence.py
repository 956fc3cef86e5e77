"""What retention deleted still belongs to the evidence on a study."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table; studies of which sources were deleted before are judged again, by what is left."""
    op.create_table(
        "deleted_sources",
        sa.Column(
            "series_instance_uid",
            sa.String(64),
            sa.ForeignKey("series.series_instance_uid", name="fk_deleted_sources_series_instance_uid"),
            primary_key=True,
        ),
        sa.Column("instances", sa.Text(), nullable=False),
        sa.Column("patient_ids", sa.Text(), nullable=False),
    )
    op.execute(
        "UPDATE studies SET gate_digest = NULL WHERE study_instance_uid IN"
        " (SELECT study_instance_uid FROM series WHERE state = 'deleted')"
    )
