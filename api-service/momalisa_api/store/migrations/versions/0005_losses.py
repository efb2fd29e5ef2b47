"""The workers that were lost while they rendered a walk."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "losses",
        sa.Column("walk_id", sa.String(32), sa.ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("worker", sa.String(32), primary_key=True),
    )


def downgrade() -> None:
    op.drop_table("losses")
