"""Charges: who started which walk, and from which network. What owners have requested today still counts."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    charges = op.create_table(
        "charges",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="SET NULL")),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("network", sa.String(64)),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("charged_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("charges_of_walk", "charges", ["walk_id"])
    op.create_index("charges_of_owner", "charges", ["owner", "charged_at"])
    op.create_index("charges_of_network", "charges", ["network", "charged_at"])
    op.create_index("charges_by_time", "charges", ["charged_at"])
    walks = sa.table("walks", sa.column("id"), sa.column("frames"))
    asks = sa.table("asks", sa.column("walk_id"), sa.column("owner"), sa.column("asked_at", sa.DateTime(timezone=True)))
    today = (
        sa.select(asks.c.walk_id, asks.c.owner, walks.c.frames, asks.c.asked_at)
        .select_from(asks.join(walks, asks.c.walk_id == walks.c.id))
        .where(asks.c.asked_at > datetime.now(UTC) - timedelta(days=1))
    )
    op.execute(sa.insert(charges).from_select(["walk_id", "owner", "frames", "charged_at"], today))
    op.add_column("uploads", sa.Column("network", sa.String(64)))
    op.create_index("uploads_of_network", "uploads", ["network", "uploaded_at"])


def downgrade() -> None:
    op.drop_index("uploads_of_network", "uploads")
    op.drop_column("uploads", "network")
    op.drop_table("charges")
