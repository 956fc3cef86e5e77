"""Deliveries say themselves what they send, so that received instances can be forwarded; storage commitment."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

UID = sa.String(64)
WORD = sa.String(32)
MOMENT = sa.DateTime(timezone=True)
OF_INSTANCE = ("study_instance_uid", "series_instance_uid", "sop_class_uid", "transfer_syntax_uid", "digest")


def upgrade() -> None:
    """Add columns and tables; fill in the objects of deliveries from their results."""
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.alter_column("result_id", existing_type=sa.Integer(), nullable=True)
        deliveries.drop_constraint("uq_deliveries_result_id_peer", type_="unique")
        for name in (*OF_INSTANCE, "sop_instance_uid"):
            deliveries.add_column(sa.Column(name, UID, nullable=False, server_default=""))
        deliveries.add_column(sa.Column("replaced_by_id", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE deliveries SET sop_instance_uid ="
        " (SELECT results.sop_instance_uid FROM results WHERE results.id = deliveries.result_id)"
    )
    for name in OF_INSTANCE:
        op.execute(
            f"UPDATE deliveries SET {name} = COALESCE((SELECT instances.{name} FROM instances"  # noqa: S608
            " WHERE instances.sop_instance_uid = deliveries.sop_instance_uid), '')"
        )
    with op.batch_alter_table("deliveries") as deliveries:
        for name in (*OF_INSTANCE, "sop_instance_uid"):
            deliveries.alter_column(name, existing_type=UID, existing_nullable=False, server_default=None)
    op.create_index("ix_deliveries_result_id", "deliveries", ["result_id"])
    op.create_index("ix_deliveries_series_instance_uid_peer", "deliveries", ["series_instance_uid", "peer"])
    op.create_table(
        "commitments",
        sa.Column(
            "delivery_id",
            sa.Integer(),
            sa.ForeignKey("deliveries.id", name="fk_commitments_delivery_id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("n_requests", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=True),
        sa.Column("committed_at", MOMENT, nullable=True),
    )
    op.create_index("ix_commitments_peer_due_at", "commitments", ["peer", "due_at"])
    op.create_table(
        "commitment_requests",
        sa.Column("transaction_uid", UID, primary_key=True),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("reported_at", MOMENT, nullable=True),
    )
    op.create_index("ix_commitment_requests_peer_requested_at", "commitment_requests", ["peer", "requested_at"])
    op.create_table(
        "commitment_items",
        sa.Column(
            "transaction_uid",
            UID,
            sa.ForeignKey("commitment_requests.transaction_uid", name="fk_commitment_items_transaction_uid"),
            primary_key=True,
        ),
        sa.Column(
            "delivery_id",
            sa.Integer(),
            sa.ForeignKey("deliveries.id", name="fk_commitment_items_delivery_id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("outcome", WORD, nullable=True),
        sa.Column("failure_reason", sa.Integer(), nullable=True),
    )
