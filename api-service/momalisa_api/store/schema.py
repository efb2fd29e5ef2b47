"""The database schema: migrations, and a check that the database has the schema this code needs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import answering, check_file, open_engine


class SchemaOld(Exception):
    """The database has not been migrated, or by another release."""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose database has the newest schema, disposed of afterwards.

    A SQLite file is migrated here. PostgreSQL is shared, so only `momalisa migrate` changes its schema.
    Raises SchemaOld, CatalogueUnavailable, and what open_engine raises.
    """
    engine = open_engine(url)
    try:
        with answering(engine):
            if engine.dialect.name == "sqlite":
                await migrate(engine)
            await check(engine)
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await engine.dispose()


async def migrate(engine: AsyncEngine, to: str = "head") -> None:
    """Migrate the database to a later schema: the newest, or the revision `to`.

    Safe to repeat, and to run in several processes at once.
    Raises SchemaOld if a newer release has migrated the database, CatalogueUnavailable, and OSError if there can be no
    file for SQLite.
    """
    if engine.dialect.name == "sqlite":
        check_file(engine)

    def upgrade(connection: Connection) -> None:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, to)

    with answering(engine):
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                # Concurrent migrations would create the same tables.
                await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('momalisa migrations'))"))
            try:
                await connection.run_sync(upgrade)
            except CommandError as error:
                raise SchemaOld(
                    f"This release does not know the database's schema: {error}. Use a newer one."
                ) from error


async def check(engine: AsyncEngine) -> None:
    """Raises SchemaOld if the database does not have the schema that this code needs."""
    newest = ScriptDirectory.from_config(_alembic()).get_current_head()
    async with engine.connect() as connection:
        there = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    if there != newest:
        raise SchemaOld(
            f"The database's schema is {there or 'missing'}, and {newest} is needed: run `momalisa migrate`."
        )


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
