"""Jobs keep their route: which rule took the series, which stacks are run, which peers get the results."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the route, which earlier jobs do not have, and drop what nothing read; the reason is in the job's history."""
    op.drop_index("ix_jobs_state_priority_id", table_name="jobs")
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("rule_name", sa.Text(), nullable=True))
        jobs.add_column(sa.Column("stacks", sa.Text(), nullable=True))
        jobs.add_column(sa.Column("deliver_to", sa.Text(), nullable=True))
        jobs.drop_constraint("uq_jobs_work", type_="unique")
        jobs.drop_column("stack_policy")
        jobs.drop_column("priority")
        jobs.drop_column("reason")
        jobs.create_unique_constraint("uq_jobs_work", ["series_instance_uid", "generation", "pipeline_digest"])
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
