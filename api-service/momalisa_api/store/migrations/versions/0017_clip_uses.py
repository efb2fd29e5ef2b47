"""Walks that use clips, and the files that a walk's recipe has beside its frames."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clip_uses",
        sa.Column("clip", sa.String(32), sa.ForeignKey("clips.key"), primary_key=True),
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("clip_uses_of_walk", "clip_uses", ["walk_id"])
    op.add_column("walks", sa.Column("extras", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("walks", "extras")
    op.drop_table("clip_uses")
