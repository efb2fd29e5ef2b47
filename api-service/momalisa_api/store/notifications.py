"""Notifications from PostgreSQL: one connection per process receives them and passes them to subscribers by channel.

A notification only says that something changed: subscribers read the database for what. SQLite sends none, so there
each process passes on its own changes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from momalisa_api.backoff import repeat_forever
from momalisa_api.store.engine import connect_arguments_of, outage_of

WALKS_CHANNEL: Final = "momalisa_walks"
# However many walks change, a waiting task is woken at most twenty times a second.
DEBOUNCE_S: Final = 0.05
# A connection may break unnoticed, and its notifications are lost: subscribers that receive them still poll.
POLL_WHILE_LISTENING_S: Final = 1.0
PROBE_S: Final = 15.0
COMMAND_S: Final = 5.0
FIRST_RECONNECT_S: Final = 0.5
LONGEST_RECONNECT_S: Final = 2.0
_WROTE: Final = "momalisa wrote"
OUTAGE_ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True, eq=False)
class _Subscription:
    received: Callable[[str], None]
    interrupted: Callable[[], None]


class Listener:
    """The one connection of this process that listens. It reconnects whenever it is lost."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._subscriptions: dict[str, list[_Subscription]] = {}
        self._listened: set[str] = set()
        self._changed = anyio.Event()

    def subscribe(
        self, channel: str, received: Callable[[str], None], interrupted: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Pass the payloads of a channel to `received`. Returns a function that ends the subscription.

        interrupted: called whenever notifications may have been lost, or will be: when the connection begins to listen
        to the channel, and when it is lost.
        """
        subscription = _Subscription(received, interrupted)
        self._subscriptions.setdefault(channel, []).append(subscription)
        self._changed.set()
        return lambda: self._subscriptions[channel].remove(subscription)

    def listens_to(self, channel: str) -> bool:
        """Whether notifications of a channel arrive at present."""
        return channel in self._listened

    async def run(self) -> None:
        """Listen until cancelled."""
        if self._engine.dialect.name == "postgresql":
            await repeat_forever(
                self._listen, FIRST_RECONNECT_S, longest_s=LONGEST_RECONNECT_S, failed=self._connection_failed
            )
        with _after_writes(self._engine, partial(self._receive, None, 0, WALKS_CHANNEL, "")):
            await anyio.sleep_forever()

    async def _listen(self) -> None:
        """Hold a connection and listen to every channel that has a subscription, until the connection is lost."""
        connection = await asyncpg.connect(**connect_arguments_of(self._engine), command_timeout=COMMAND_S)
        connection.add_termination_listener(lambda _: self._changed.set())
        try:
            while not connection.is_closed():
                self._changed = anyio.Event()
                for channel in self._subscriptions.keys() - self._listened:
                    await connection.add_listener(channel, self._receive)
                    self._listened.add(channel)
                    self._interrupt(channel)
                outage_of(self._engine).answered()
                with anyio.move_on_after(PROBE_S) as quiet:
                    await self._changed.wait()
                if quiet.cancelled_caught:
                    await connection.execute("SELECT 1")
        finally:
            for channel in tuple(self._listened):
                self._listened.remove(channel)
                self._interrupt(channel)
            connection.terminate()

    def _receive(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        for subscription in tuple(self._subscriptions.get(channel, ())):
            subscription.received(payload)

    def _interrupt(self, channel: str) -> None:
        for subscription in tuple(self._subscriptions[channel]):
            subscription.interrupted()

    def _connection_failed(self, error: Exception) -> None:
        if not isinstance(error, OUTAGE_ERRORS):
            raise error
        outage_of(self._engine).missed(error)


@contextmanager
def _after_writes(engine: AsyncEngine, tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` after each transaction of this process that has written anything."""

    def note(connection: Connection, _cursor: Any, _text: Any, _values: Any, context: Any, _many: Any) -> None:
        if context.isinsert or context.isupdate or context.isdelete:
            connection.info[_WROTE] = True

    def pass_on(_: Any, record: ConnectionPoolEntry) -> None:
        if record.info.pop(_WROTE, False):
            tell()

    # A connection returns to the pool after its commit: whoever is told reads what was written.
    hooks = (engine.sync_engine, "after_cursor_execute", note), (engine.sync_engine, "checkin", pass_on)
    for hook in hooks:
        event.listen(*hook)
    try:
        yield
    finally:
        for hook in hooks:
            event.remove(*hook)


class WalkChanges:
    """Wakes a task when any walk has changed, in whichever process."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._changed = anyio.Event()
        self._woken_at = 0.0
        listener.subscribe(WALKS_CHANNEL, lambda _: self.wake(), self.wake)

    def wake(self) -> None:
        """Wake the waiting task as if a walk had changed."""
        self._changed.set()

    async def wait(self, at_most_s: float) -> None:
        """Wait until a walk has changed, or for some seconds: at least `POLL_WHILE_LISTENING_S` while listening."""
        listening = self._listener.listens_to(WALKS_CHANNEL)
        with anyio.move_on_after(max(at_most_s, POLL_WHILE_LISTENING_S) if listening else at_most_s):
            await self._changed.wait()
            await anyio.sleep_until(self._woken_at + DEBOUNCE_S)
        self._woken_at = anyio.current_time()
        self._changed = anyio.Event()
