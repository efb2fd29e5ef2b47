"""Pictures of visitors: what is stored, which walks use it, and what each owner has uploaded, for the daily limits."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pictures",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
    )
    op.create_index("pictures_of_owner", "pictures", ["owner", "id"])
    op.create_index("pictures_by_end", "pictures", ["expires_at"])
    op.create_table(
        "picture_uses",
        sa.Column("picture", sa.String(32), sa.ForeignKey("pictures.key"), primary_key=True),
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("picture_uses_of_walk", "picture_uses", ["walk_id"])
    op.create_table(
        "uploads",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("uploads_of_owner", "uploads", ["owner", "uploaded_at"])
    op.create_index("uploads_by_time", "uploads", ["uploaded_at"])


def downgrade() -> None:
    op.drop_table("uploads")
    op.drop_table("picture_uses")
    op.drop_table("pictures")
