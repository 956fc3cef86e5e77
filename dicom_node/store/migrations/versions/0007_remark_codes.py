"""Codes of remarks have a column of their own; whether a study may be cleared is not read from a report any more."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column, and fill it from the reports."""
    op.add_column("verdicts", sa.Column("remark_codes", sa.Text(), nullable=False, server_default="[]"))
    verdicts = sa.table("verdicts", sa.column("id"), sa.column("report"), sa.column("remark_codes"))
    connection = op.get_bind()
    for row_id in connection.execute(sa.select(verdicts.c.id)).scalars().all():
        of_row = verdicts.c.id == row_id
        report = json.loads(connection.execute(sa.select(verdicts.c.report).where(of_row)).scalar_one())
        codes = sorted({remark["code"] for remark in report.get("remarks", ())})
        if codes:
            connection.execute(sa.update(verdicts).where(of_row).values(remark_codes=json.dumps(codes)))
