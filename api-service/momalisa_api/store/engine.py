"""The database behind the catalogue: its tables, its engine, its migrations. Knows rows, not walks."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import asyncpg
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
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from momalisa_api.outages import Outage
from momalisa_api.problems import CatalogueUnavailable

SQLITE_WAIT_MS = 10_000
CONNECT_S: Final = 5.0
# A server that froze, or whose machine is gone, breaks no connection. Our longest transaction takes milliseconds.
ANSWER_S: Final = 10.0
# By class or code: no connection, not let in, no such database, nothing left, shutting down, its disk, a standby, and
# rolled back for another's sake.
SQLSTATES_AWAY: Final = ("08", "28", "3D", "53", "57P", "58", "25006", "40")
# Busy for longer than SQLITE_WAIT_MS, locked, read-only, its disk, full, not to be opened.
SQLITE_AWAY: Final = frozenset({5, 6, 8, 10, 13, 14})


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
    Column("layout", JSON(none_as_null=True), doc="Its newest round; null before it is planned."),
    Column("plan", JSON(none_as_null=True), doc="Its shards, each a list of numbers of points; null at first."),
    Column("plans", Integer, nullable=False, doc="How many plans there have been: shards of an older one are void."),
    Column("films", JSON, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("smoothness", JSON(none_as_null=True), doc="How it moves, once it is filmed."),
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
    Column("plan", Integer, nullable=False, server_default="0", doc="The plan that numbers it."),
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

losses = Table(
    "losses",
    metadata,
    Column("walk_id", String(32), ForeignKey("walks.id", ondelete="CASCADE"), primary_key=True),
    Column("worker", String(32), primary_key=True),
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


def open_engine(url: str) -> AsyncEngine:
    """An engine for a sqlite:///file or a postgresql:// url; nothing connects before it is used.

    Raises ValueError for any other kind of url.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        Path(rest.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(f"sqlite+aiosqlite://{rest}", execution_options=_noted())
        event.listen(engine.sync_engine, "connect", _tune_sqlite)
        return engine
    if kind in ("postgresql", "postgres"):
        return create_async_engine(
            f"postgresql+asyncpg://{rest}",
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_S, "server_settings": _server_settings()},
            execution_options=_noted(),
        )
    raise ValueError(f"{kind}:// is no database that MoMALisa knows; use sqlite:///FILE or postgresql://…")


def _server_settings() -> dict[str, str]:
    return {
        # A worker that freezes in mid-transaction, or whose machine is gone, would hold its locks for hours.
        "idle_in_transaction_session_timeout": f"{ANSWER_S * 1000:.0f}",
        # asyncpg prepares every statement, and from the sixth time on PostgreSQL may plan those for any value there is:
        # a word that few walks hold would be looked for in all of them, as if it were one that many hold.
        "plan_cache_mode": "force_custom_plan",
    }


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that a cancel waits for: cut in two, it would leave a connection that nobody closes.

    Raises CatalogueUnavailable where the database does not answer.
    """
    limit_s = None if engine.dialect.name == "sqlite" else ANSWER_S
    with answering(engine), anyio.fail_after(limit_s, shield=True):
        async with engine.begin() as connection:
            yield connection


@contextmanager
def answering(engine: AsyncEngine) -> Iterator[None]:
    """For whatever asks the database: notes whether it answers, and raises CatalogueUnavailable where it does not."""
    try:
        yield
    except Exception as error:
        if not is_away(error):
            raise
        outage_of(engine).missed(error.orig or error if isinstance(error, DBAPIError) else error)
        raise CatalogueUnavailable("The catalogue of walks does not answer. Ask again soon.") from error
    outage_of(engine).answered()


def is_away(error: BaseException) -> bool:
    """Whether a database was not reached, or could not work, rather than refused what it was asked."""
    # asyncpg's InterfaceError: the connection was closed under it.
    if isinstance(error, OSError | PoolTimeout | asyncpg.InterfaceError):
        return True
    cause = error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        cause = error.orig or error
    sqlstate, code = getattr(cause, "sqlstate", None), getattr(cause, "sqlite_errorcode", 0)
    # The low byte is SQLite's error; what stands above it says more closely where.
    return str(sqlstate).startswith(SQLSTATES_AWAY) or code & 0xFF in SQLITE_AWAY


def outage_of(engine: AsyncEngine) -> Outage:
    """What all who use an engine know of its database's absence."""
    outage: Outage = engine.get_execution_options()["outage"]
    return outage


def _noted() -> dict[str, Outage]:
    """SQLAlchemy carries along what it does not know, for whoever has the engine."""
    return {"outage": Outage("catalogue")}


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
