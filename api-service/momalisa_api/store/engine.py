"""The connection to the database: engines, transactions, and the errors that mean the database is unavailable."""

import errno
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import asyncpg
from sqlalchemy import Table, event
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from momalisa_api.database_url import connect_arguments
from momalisa_api.outages import Outage
from momalisa_api.problems import CatalogueUnavailable

SQLITE_WAIT_MS: Final = 10_000
# A frozen server, or one whose machine is lost, closes no connection. The longest transaction takes milliseconds.
ANSWER_S: Final = 10.0
# By class or code: connection failure, access denied, no such database, out of resources, shutting down, I/O error,
# read-only standby, and rolled back because of a conflict.
SQLSTATES_AWAY: Final = ("08", "28", "3D", "53", "57P", "58", "25006", "40")
# Busy for longer than SQLITE_WAIT_MS, locked, read-only, I/O error, disk full, cannot be opened.
SQLITE_AWAY: Final = frozenset({5, 6, 8, 10, 13, 14})
# The value of a JSON column whose text is no JSON: it fails where the column is used, and not the whole query.
NO_JSON: Final = object()


def open_engine(url: str, *, answer_s: float = ANSWER_S, sqlite_wait_ms: int = SQLITE_WAIT_MS) -> AsyncEngine:
    """An engine for a sqlite:///FILE or postgresql:// URL. It connects when it is first used.

    answer_s: seconds after which PostgreSQL counts as unavailable; sqlite_wait_ms: how long to wait for a lock.
    Raises ValueError for any other URL, and for parameters of the URL that are not supported.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        Path(rest.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(
            f"sqlite+aiosqlite://{rest}",
            json_deserializer=_load_json,
            execution_options=_options(answer_s),
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "connect", partial(_tune_sqlite, wait_ms=sqlite_wait_ms))
        return engine
    if kind in ("postgresql", "postgres"):
        arguments = {**connect_arguments(url), "server_settings": _server_settings(answer_s)}
        return create_async_engine(
            "postgresql+asyncpg://",
            pool_pre_ping=True,
            # Errors are logged, and parameters can be prompts.
            hide_parameters=True,
            connect_args=arguments,
            execution_options={**_options(answer_s), "connect_arguments": arguments},
        )
    raise ValueError(f"{kind}:// is not a supported database; use sqlite:///FILE or postgresql://…")


def check_file(engine: AsyncEngine) -> None:
    """Raises OSError if the file of a SQLite database cannot be opened or created.

    aiosqlite would leave a thread behind that prints a traceback.
    """
    path = engine.url.database or ""
    try:
        sqlite3.connect(path).close()
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), path) from error


def _server_settings(answer_s: float) -> dict[str, str]:
    return {
        # A worker that freezes in a transaction, or whose machine is lost, would hold its locks for hours.
        "idle_in_transaction_session_timeout": f"{answer_s * 1000:.0f}",
        # asyncpg prepares every statement, and from the sixth execution on PostgreSQL may use a generic plan, which is
        # slow for a search word that few walks contain.
        "plan_cache_mode": "force_custom_plan",
    }


def insert_into(engine: AsyncEngine, table: Table) -> PostgresInsert | SqliteInsert:
    """An INSERT with support for ON CONFLICT, which SQLAlchemy implements per database."""
    return postgres_insert(table) if engine.dialect.name == "postgresql" else sqlite_insert(table)


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that is shielded from cancellation, which would leave an unclosed connection.

    Raises CatalogueUnavailable if the database does not respond.
    """
    limit_s = None if engine.dialect.name == "sqlite" else answer_limit_s(engine)
    with answering(engine), anyio.fail_after(limit_s, shield=True):
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for queries that change nothing, each of which sees the newest rows. Otherwise like `transaction`.

    To begin and to end a transaction around a query are two more messages to PostgreSQL, of three.
    """
    if engine.dialect.name == "sqlite":
        async with transaction(engine) as connection:
            yield connection
        return
    with answering(engine), anyio.fail_after(answer_limit_s(engine), shield=True):
        async with engine.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def answering(engine: AsyncEngine) -> Iterator[None]:
    """Around database calls: records whether the database responds, and raises CatalogueUnavailable if not."""
    try:
        yield
    except Exception as error:
        if not is_away(error):
            raise
        outage_of(engine).missed(error.orig or error if isinstance(error, DBAPIError) else error)
        raise CatalogueUnavailable("The walk database is not responding. Retry in a few seconds.") from error
    outage_of(engine).answered()


def is_away(error: BaseException) -> bool:
    """Whether an error means that the database is unavailable, and not that the statement is wrong."""
    # asyncpg raises InterfaceError if the connection was closed.
    if isinstance(error, OSError | PoolTimeout | asyncpg.InterfaceError):
        return True
    cause = error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        cause = error.orig or error
    sqlstate, code = getattr(cause, "sqlstate", None), getattr(cause, "sqlite_errorcode", 0)
    # The low byte is SQLite's primary error code; the upper ones are details.
    return str(sqlstate).startswith(SQLSTATES_AWAY) or code & 0xFF in SQLITE_AWAY


def outage_of(engine: AsyncEngine) -> Outage:
    """The outage record that all users of an engine share."""
    outage: Outage = engine.get_execution_options()["outage"]
    return outage


def unreadable_of(engine: AsyncEngine) -> set[str]:
    """The ids of the walks that this process could not read: one set for all users of the engine."""
    ids: set[str] = engine.get_execution_options()["unreadable"]
    return ids


def answer_limit_s(engine: AsyncEngine) -> float:
    """Seconds after which a database that does not respond counts as unavailable."""
    limit_s: float = engine.get_execution_options()["answer_s"]
    return limit_s


def connect_arguments_of(engine: AsyncEngine) -> dict[str, Any]:
    """asyncpg's arguments for a connection outside the engine's pool: an engine on PostgreSQL."""
    return dict(engine.get_execution_options()["connect_arguments"])


def _options(answer_s: float) -> dict[str, Any]:
    """The execution options of a new engine: SQLAlchemy keeps unknown ones for its users."""
    return {"outage": Outage("catalogue"), "answer_s": answer_s, "unreadable": set()}


def _load_json(text: str) -> Any:
    """Parse a JSON column of SQLite, which stores any text."""
    try:
        return json.loads(text)
    except ValueError:
        return NO_JSON


def _tune_sqlite(connection: Any, _: Any, *, wait_ms: int) -> None:
    """Set up a connection: readers beside a writer, waiting for locks, foreign keys enforced."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={wait_ms}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
