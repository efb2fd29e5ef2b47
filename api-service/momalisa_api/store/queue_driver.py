"""pgqueuer over the catalogue's own engine: one pool of connections, and patience while PostgreSQL is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Self, TypeVar

import anyio
import asyncpg
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import NotifyCallback
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.engine import ANSWER_S, answering

T = TypeVar("T")

PAUSE_S: Final = 0.5


@asynccontextmanager
async def raw_connection(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection]:
    """asyncpg's own connection under one of the engine's; each statement is a transaction of its own.

    Raises CatalogueUnavailable where PostgreSQL does not answer.
    """
    with answering(engine):
        async with engine.connect() as connection:
            yield await _raw(connection)


class EngineDriver:
    """pgqueuer's driver for an engine on PostgreSQL. Raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._shutdown = asyncio.Event()
        self._tasks = TaskManager()

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        with answering(self._engine), anyio.fail_after(ANSWER_S):
            async with raw_connection(self._engine) as connection:
                return [dict(row) for row in await connection.fetch(query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        with answering(self._engine), anyio.fail_after(ANSWER_S):
            async with raw_connection(self._engine) as connection:
                return str(await connection.execute(query, *args))

    async def notify(self, channel: str, payload: str) -> None:
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        raise NotImplementedError("who only puts jobs in line does not listen")

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return self._tasks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """The engine is not ours to close."""


class PatientDriver(EngineDriver):
    """For who works off the queue: waits while PostgreSQL is away, and listens again once it is back.

    So a restart of PostgreSQL costs a worker nothing that it has in hand.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._listening: list[asyncio.Task[None]] = []

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return await _patiently(lambda: EngineDriver.fetch(self, query, *args))

    async def execute(self, query: str, *args: object) -> str:
        return await _patiently(lambda: EngineDriver.execute(self, query, *args))

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._listening.append(asyncio.create_task(self._listen(channel, callback)))

    async def __aexit__(self, *_: object) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        self._listening.clear()

    async def _listen(self, channel: str, callback: NotifyCallback) -> None:
        """Hold one connection that listens; a new one whenever it is lost."""
        while True:
            with suppress(CatalogueUnavailable), answering(self._engine):
                async with self._engine.connect() as connection:
                    try:
                        await _hear(await _raw(connection), channel, callback)
                    finally:
                        # Back in the pool it would go on listening.
                        await connection.invalidate()
            await asyncio.sleep(PAUSE_S)


async def _hear(connection: asyncpg.Connection, channel: str, callback: NotifyCallback) -> None:
    """Pass on what is said on a channel until the connection is lost."""
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    await connection.add_listener(channel, lambda _connection, _pid, _channel, payload: callback(payload))
    await lost.wait()


async def _raw(connection: AsyncConnection) -> asyncpg.Connection:
    return (await connection.get_raw_connection()).driver_connection


async def _patiently(act: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await act()
        except CatalogueUnavailable:
            await asyncio.sleep(PAUSE_S)
