"""The database's schema: brought up to date, and checked against the one that this code was written for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import answering, open_engine


class SchemaOld(Exception):
    """The database was not migrated, or by another release."""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose database has the newest schema, disposed of at the end.

    A SQLite file is brought up to date here. PostgreSQL is shared: its schema is changed by `momalisa migrate` alone.
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


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema up to date. Safe to run again, and from several processes at once."""

    def upgrade(connection: Connection) -> None:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Two processes that migrate at once would trip over each other's tables.
            await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('momalisa migrations'))"))
        await connection.run_sync(upgrade)


async def check(engine: AsyncEngine) -> None:
    """Raises SchemaOld where the schema is not the one that this code was written for."""
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
