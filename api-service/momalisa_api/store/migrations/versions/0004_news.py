"""Notify listeners of changes of walks, once per transaction. Only on PostgreSQL."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    # PostgreSQL itself drops duplicates within a transaction. Every change of a walk increases its revision.
    op.execute(
        "CREATE FUNCTION tell_of_walks() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('momalisa_walks', ''); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER walks_tell AFTER UPDATE OF revision OR DELETE ON walks "
        "FOR EACH ROW EXECUTE FUNCTION tell_of_walks()"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER walks_tell ON walks")
        op.execute("DROP FUNCTION tell_of_walks()")
