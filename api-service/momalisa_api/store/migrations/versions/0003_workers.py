"""The order of the fair queue, the plans of walks, and the claims of workers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("walks") as walks:
        walks.add_column(sa.Column("tag", sa.BigInteger(), nullable=False, server_default="0"))
        walks.add_column(sa.Column("plan", sa.JSON()))
        walks.add_column(sa.Column("plans", sa.Integer(), nullable=False, server_default="0"))
        walks.drop_index("walks_open")
        walks.create_index("walks_open", ["state", "tag", "number"])
    op.create_table(
        "claims",
        sa.Column("job", sa.String(96), primary_key=True),
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("worker", sa.String(32), nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("replicas_awake", sa.Integer(), nullable=False),
        sa.Column("shard_s", sa.Float()),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    for table in ("workers", "claims"):
        op.drop_table(table)
    with op.batch_alter_table("walks") as walks:
        walks.drop_index("walks_open")
        walks.create_index("walks_open", ["state", "number"])
        for column in ("plans", "plan", "tag"):
            walks.drop_column(column)
