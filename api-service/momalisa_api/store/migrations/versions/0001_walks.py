"""Walks, their stored frames, and the requests for them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "walks",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("stops", sa.Text(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("films", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("walks_open", "walks", ["state", "number"])
    op.create_table(
        "landings",
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("frame", sa.Integer(), primary_key=True),
    )
    op.create_table(
        "asks",
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("asks_of_owner", "asks", ["owner", "asked_at"])
    if op.get_bind().dialect.name == "postgresql":
        # The gallery's search is for words anywhere in a prompt, which only trigrams index.
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.execute("CREATE INDEX walks_stops ON walks USING gin (stops gin_trgm_ops)")


def downgrade() -> None:
    for table in ("asks", "landings", "walks"):
        op.drop_table(table)
