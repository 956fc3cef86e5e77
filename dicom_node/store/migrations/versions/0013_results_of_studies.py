"""Results may belong to a study instead of a job."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the job optional; add the study and the evidence that a result of a study is based on."""
    with op.batch_alter_table("results") as results:
        results.alter_column("job_id", existing_type=sa.Integer(), nullable=True)
        results.add_column(sa.Column("study_instance_uid", sa.String(64), nullable=True))
        results.add_column(sa.Column("evidence_fingerprint", sa.String(64), nullable=True))
        results.create_foreign_key(
            "fk_results_study_instance_uid", "studies", ["study_instance_uid"], ["study_instance_uid"]
        )
        results.create_index("ix_results_study_instance_uid", ["study_instance_uid"])
