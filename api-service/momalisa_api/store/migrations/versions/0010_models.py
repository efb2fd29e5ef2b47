"""Several models: their registry, the model of each walk, and what workers see of each model.

A walk's model is computed from its spec, so that it is right for walks that processes of the last release store, too.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True)),
        sa.Column("shard_s", sa.Float()),
    )
    op.add_column("workers", sa.Column("models", sa.JSON()))
    if op.get_bind().dialect.name == "postgresql":
        model = sa.Computed("spec ->> 'model'", persisted=True)
    else:
        # A damaged spec is no JSON, and must not fail the queries about other walks.
        model = sa.Computed("CASE WHEN json_valid(spec) THEN json_extract(spec, '$.model') END", persisted=False)
    op.add_column("walks", sa.Column("model", sa.Text(), model))
    op.create_index("walks_of_model", "walks", ["model", "number"])


def downgrade() -> None:
    op.drop_index("walks_of_model", "walks")
    op.drop_column("walks", "model")
    op.drop_column("workers", "models")
    op.drop_table("models")
