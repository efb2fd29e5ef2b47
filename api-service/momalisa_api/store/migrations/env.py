"""Runs migrations on the connection that schema.migrate hands over."""

from alembic import context

from momalisa_api.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
