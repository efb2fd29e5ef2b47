"""The database behind the catalogue: its tables, its engine, its migrations. Knows rows, not walks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

SQLITE_WAIT_MS = 10_000


class SchemaOld(Exception):
    """The database was not migrated, or by another release."""


metadata = MetaData()

walks = Table(
    "walks",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("spec", JSON, nullable=False),
    Column("stops", Text, nullable=False, doc="All stops, case folded: what the gallery's search looks through."),
    Column("frames", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("tries", Integer, nullable=False, doc="Workers lost over this walk since a frame of it last landed."),
    Column("tag", BigInteger, nullable=False, doc="Its turn: the lowest is rendered first."),
    Column("plan", JSON(none_as_null=True), doc="Its shards, each a list of frame numbers; null before it is planned."),
    Column("plans", Integer, nullable=False, doc="How many plans there have been: shards of an older one are void."),
    Column("films", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("error", Text),
    Column("hidden", Boolean, nullable=False, doc="Off the wall: by an operator, or marked; the url still works."),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("walks_open", "state", "tag", "number"),
    sqlite_autoincrement=True,
)

landings = Table(
    "landings",
    metadata,
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Column("frame", Integer, primary_key=True),
)

asks = Table(
    "asks",
    metadata,
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(64), primary_key=True),
    Column("listed", Boolean, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Index("asks_of_owner", "owner", "asked_at"),
)


keys = Table(
    "keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("made_at", DateTime(timezone=True), nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("job", String(96), primary_key=True, doc="The key of a job in the queue."),
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("worker", String(32), nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("replicas_awake", Integer, nullable=False),
    Column("shard_s", Float),
    Column("seen_at", DateTime(timezone=True), nullable=False),
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose database has the newest schema, disposed of at the end.

    A SQLite file is brought up to date here. PostgreSQL is shared: its schema is changed by `momalisa migrate` alone.
    Raises SchemaOld, and what open_engine raises.
    """
    engine = open_engine(url)
    try:
        if engine.dialect.name == "sqlite":
            await migrate(engine)
        await check(engine)
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await engine.dispose()


def open_engine(url: str) -> AsyncEngine:
    """An engine for a sqlite:///file or a postgresql:// url; nothing connects before it is used.

    Raises ValueError for any other kind of url.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        Path(rest.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(f"sqlite+aiosqlite://{rest}")
        event.listen(engine.sync_engine, "connect", _tune_sqlite)
        return engine
    if kind in ("postgresql", "postgres"):
        return create_async_engine(f"postgresql+asyncpg://{rest}", pool_pre_ping=True)
    raise ValueError(f"{kind}:// is no database that MoMALisa knows; use sqlite:///FILE or postgresql://…")


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that a cancel waits for: cut in two, it would leave a connection that nobody closes."""
    with anyio.CancelScope(shield=True):
        async with engine.begin() as connection:
            yield connection


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


def _tune_sqlite(connection: Any, _: Any) -> None:
    """Readers beside a writer, waiting instead of failing, references held to."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={SQLITE_WAIT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
