"""The fingerprints of the replicas that render a walk. Processes of the release before this one record none."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("walks", sa.Column("fingerprint", sa.String(64)))
    op.add_column("walks", sa.Column("fingerprints", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("walks", "fingerprints")
    op.drop_column("walks", "fingerprint")
