"""Find names in their other component groups."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_studies_patient_name_groups_key", "studies", ["patient_name_groups_key"])
