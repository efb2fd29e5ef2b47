"""What the replicas of each model can do, for web processes, which do not talk to them."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("features", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("models", "features")
