"""Notices: who is told when a walk ends, the daily limits of that, and addresses that want no mail."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("walk_id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["walk_id", "owner"], ["asks.walk_id", "asks.owner"], ondelete="CASCADE", onupdate="CASCADE"
        ),
    )
    op.create_index("notices_of_request", "notices", ["walk_id", "owner"])
    op.create_table(
        "notice_charges",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("network", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("charged_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("notice_charges_by_time", "notice_charges", ["charged_at"])
    op.create_table(
        "mail_stops",
        sa.Column("address", sa.String(64), primary_key=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("mail_stops")
    op.drop_table("notice_charges")
    op.drop_table("notices")
