"""The fractions of a walk's frames, and the plan that stored each frame."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("walks", sa.Column("layout", sa.JSON()))
    op.add_column("landings", sa.Column("plan", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("landings", "plan")
    op.drop_column("walks", "layout")
