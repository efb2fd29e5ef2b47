"""The smoothness of finished walks."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("walks", sa.Column("smoothness", sa.JSON()))


def downgrade() -> None:
    op.drop_column("walks", "smoothness")
