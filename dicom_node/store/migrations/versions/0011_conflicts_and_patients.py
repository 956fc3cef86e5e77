"""Conflicts know how they were settled and what differs; instances know their patient."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add columns; instances from before are taken for the patient of their study."""
    op.add_column("conflicts", sa.Column("choice", sa.String(32), nullable=True))
    op.add_column("conflicts", sa.Column("differences", sa.Text, nullable=True))
    op.execute("UPDATE conflicts SET choice = 'kept' WHERE settled_at IS NOT NULL")
    op.add_column("instances", sa.Column("patient_id", sa.Text, nullable=True))
    op.execute(
        "UPDATE instances SET patient_id = (SELECT studies.patient_id FROM studies"
        " WHERE studies.study_instance_uid = instances.study_instance_uid)"
    )
    op.create_index("ix_instances_patient_id", "instances", ["patient_id"])
