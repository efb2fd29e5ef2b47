"""Hears at once that some walk has changed, in whichever process. What has changed, the catalogue says.

PostgreSQL tells it (a trigger, see migrations). SQLite tells nothing, and one who waits for news looks every so often.
"""

from typing import Final

import anyio
import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import CONNECT_S, outage_of

CHANNEL: Final = "momalisa_walks"
# However many walks change, whoever waits is woken twenty times a second at most.
GATHER_S: Final = 0.05
# What was told may be lost with a connection that broke unnoticed; what is listened to need not be looked for often.
IDLE_S: Final = 1.0
PROBE_S: Final = 15.0
PAUSE_S: Final = 1.0
TROUBLE: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class News:
    """One connection a process that listens, and whoever waits for what it hears."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._came = anyio.Event()
        self._woken_at = 0.0
        self._listening = False

    async def run(self) -> None:
        """Listen for ever, on a new connection where the last one is lost. Returns at once on SQLite."""
        if self._engine.dialect.name != "postgresql":
            return
        while True:
            try:
                await self._listen()
            except TROUBLE as error:
                outage_of(self._engine).missed(error)
            await anyio.sleep(PAUSE_S)

    async def wait(self, at_most_s: float) -> None:
        """Wait until a walk has changed, or some seconds have passed: more of them while changes are told."""
        with anyio.move_on_after(max(at_most_s, IDLE_S) if self._listening else at_most_s):
            await self._came.wait()
            await anyio.sleep_until(self._woken_at + GATHER_S)
        self._woken_at = anyio.current_time()
        self._came = anyio.Event()

    async def _connect(self) -> asyncpg.Connection:
        """A connection like the engine's, but none of its pool, where it would go on listening."""
        _, arguments = self._engine.dialect.create_connect_args(self._engine.url)
        # SQLAlchemy's own, which it does not pass on either.
        arguments.pop("prepared_statement_cache_size", None)
        return await asyncpg.connect(**arguments, timeout=CONNECT_S)

    async def _listen(self) -> None:
        """Hold a connection and pass on what it is told, until it is lost."""
        connection, lost = await self._connect(), anyio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._came.set())
            self._listening = True
            # Nobody told what changed before this.
            self._came.set()
            while not lost.is_set():
                outage_of(self._engine).answered()
                with anyio.move_on_after(PROBE_S):
                    await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT 1", timeout=CONNECT_S)
        finally:
            self._listening = False
            # Whoever waits for long, as is right while changes are told, shall look in shorter steps.
            self._came.set()
            connection.terminate()
