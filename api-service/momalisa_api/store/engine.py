"""The connection to the database: engines, transactions, and the errors that mean the database is unavailable."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import asyncpg
from sqlalchemy import (
    event,
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


def _tune_sqlite(connection: Any, _: Any) -> None:
    """Readers beside a writer, waiting instead of failing, references held to."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={SQLITE_WAIT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
