"""pgqueuer's connection to PostgreSQL: its own pool driver, made to outlast outages.

Each override names a test of tests/api/test_queue.py that fails without it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import anyio
import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.ports.driver import NotifyCallback
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.backoff import retry_forever
from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.engine import answer_limit_s, answering, connect_arguments_of
from momalisa_api.store.notifications import Listener

Returned = TypeVar("Returned")

MAX_CONNECTIONS: Final = 4
CLOSE_S: Final = 2.0
FIRST_RETRY_S: Final = 0.25
LONGEST_RETRY_S: Final = 2.0


@asynccontextmanager
async def open_pool(engine: AsyncEngine) -> AsyncIterator[asyncpg.Pool]:
    """A pool for the queue's own statements, of at most `MAX_CONNECTIONS`; none is open before the first statement."""
    pool = await asyncpg.create_pool(
        **connect_arguments_of(engine),
        min_size=0,
        max_size=MAX_CONNECTIONS,
        reset=_leave_as_it_is,
        # A statement that was cancelled on a frozen server would otherwise keep its connection for as long as TCP does.
        command_timeout=answer_limit_s(engine),
    )
    try:
        yield pool
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await pool.close()


async def _leave_as_it_is(_: object) -> None:
    """The queue's statements leave nothing behind in their session, so that it need not be reset after each."""


class QueueDriver(AsyncpgPoolDriver):
    """Raises CatalogueUnavailable in an outage, for callers that return the problem or try again later."""

    def __init__(self, pool: asyncpg.Pool, engine: AsyncEngine) -> None:
        super().__init__(pool)
        self._engine = engine

    # For test_a_job_that_cannot_be_queued_in_an_outage_is_a_problem and
    # test_queueing_a_job_does_not_hang_on_a_frozen_server.
    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return await self._call(partial(super().fetch, query, *args))

    # For test_a_job_that_is_returned_in_an_outage_is_done_after_it.
    async def execute(self, query: str, *args: object) -> str:
        return await self._call(partial(super().execute, query, *args))

    async def _call(self, act: Callable[[], Awaitable[Returned]]) -> Returned:
        with answering(self._engine), anyio.fail_after(answer_limit_s(self._engine)):
            return await act()


class PatientDriver(QueueDriver):
    """Waits for the end of an outage, for a worker: pgqueuer's loop would end, or forget what became of a job."""

    def __init__(self, pool: asyncpg.Pool, engine: AsyncEngine, listener: Listener) -> None:
        super().__init__(pool, engine)
        self._listener = listener
        self._unsubscribe: list[Callable[[], None]] = []

    # For test_a_restart_of_postgresql_costs_a_worker_none_of_its_jobs.
    async def _call(self, act: Callable[[], Awaitable[Returned]]) -> Returned:
        call = partial(super()._call, act)
        return await retry_forever(call, CatalogueUnavailable, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)

    # For test_one_connection_per_process_listens_also_after_a_restart.
    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._unsubscribe.append(self._listener.subscribe(channel, callback))

    # For test_a_runner_that_ended_receives_no_notifications.
    async def __aexit__(self, *_: object) -> None:
        while self._unsubscribe:
            self._unsubscribe.pop()()
