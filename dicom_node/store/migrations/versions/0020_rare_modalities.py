"""Find the series of a modality that few have."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_series_modality", "series", ["modality"])
