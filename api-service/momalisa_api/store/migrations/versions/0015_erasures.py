"""Private walks, deleted walks whose files are left, and what retention has removed from walks that stay."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("walk_id", sa.String(32), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("spec_version", sa.Integer(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_erasures_walk_id", "erasures", ["walk_id"])
    op.create_index("ix_erasures_due_at", "erasures", ["due_at"])
    op.add_column("walks", sa.Column("finished_at", sa.DateTime(timezone=True)))
    for name in ("frames_removed", "films_removed"):
        op.add_column("walks", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("walks_by_end", "walks", ["finished_at"])
    if op.get_bind().dialect.name == "postgresql":
        scope = sa.Computed("spec ->> 'scope'", persisted=True)
    else:
        # As with the model: a damaged spec is no JSON.
        scope = sa.Computed("CASE WHEN json_valid(spec) THEN json_extract(spec, '$.scope') END", persisted=False)
    op.add_column("walks", sa.Column("scope", sa.Text(), scope))
    op.create_index("walks_of_scope", "walks", ["scope"])


def downgrade() -> None:
    op.drop_index("walks_of_scope", "walks")
    op.drop_index("walks_by_end", "walks")
    op.drop_column("walks", "scope")
    for name in ("films_removed", "frames_removed", "finished_at"):
        op.drop_column("walks", name)
    op.drop_table("erasures")
