"""The job queue: each job is done by one worker at a time. pgqueuer, on PostgreSQL or in this process's memory.

A job only names a part of a walk; the catalogue holds the rest. So the reconciler (work/worker.py) can queue again
whatever the queue loses.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from json import dumps, loads
from typing import Final, Self

import anyio
import asyncpg
import structlog
from pgqueuer import QueueManager
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.inmemory import InMemoryDriver, InMemoryQueries
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.models import Job as QueuedJob
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.backoff import delay_s
from momalisa_api.store.engine import answering, connect_arguments_of
from momalisa_api.store.notifications import Listener
from momalisa_api.store.queue_driver import PatientDriver, QueueDriver, open_pool

log = structlog.get_logger()

# Notifications wake a worker at once. Polling finds jobs whose notification was lost, and those of a lost worker.
QUEUE_POLL_S: Final = 1.0
FIRST_RESTART_S: Final = 0.5
LONGEST_RESTART_S: Final = 10.0
LOWEST_PRIORITY: Final = -(2**31)


class Kind(StrEnum):
    """The steps of a walk that are jobs, and telling those who wait for its end."""

    PLAN = "plan"
    RENDER = "render"
    MEASURE = "measure"
    FILM = "film"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Job:
    """One step of a walk.

    plan: the number of the walk's plan; shard: the number of the shard in that plan; model: of a shard, else empty.
    """

    kind: Kind
    walk_id: str
    plan: int
    shard: int = 0
    model: str = ""

    @property
    def key(self) -> str:
        """The queue never holds two jobs with the same key."""
        return f"{self.kind}/{self.walk_id}/{self.plan}/{self.shard}"

    @property
    def entrypoint(self) -> str:
        """The queue that the job is in. Each model has one for its shards."""
        return entrypoint_of(self.kind, self.model)

    def to_bytes(self) -> bytes:
        """The job as the queue stores it."""
        return dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """The inverse of to_bytes."""
        content = loads(payload)
        # Jobs of the last release have no model.
        model = content.get("model", "")
        return cls(Kind(content["kind"]), content["walk_id"], content["plan"], content["shard"], model)


def entrypoint_of(kind: Kind, model: str = "") -> str:
    """pgqueuer's name of the queue for jobs of a kind: shards of each model, so that none waits for another model."""
    return f"{kind} {model}" if model else str(kind)


class RetryLater(RetryRequested):
    """Raised by a handler: the job goes back into the queue, for any worker, and is due after some seconds."""

    def __init__(self, reason: str, after_s: float) -> None:
        super().__init__(timedelta(seconds=after_s), reason)


Handler = Callable[[Job], Awaitable[None]]
Repository = Queries | InMemoryQueries


class Queue:
    """The jobs of a deployment. Each is done at least once: when a worker is lost, others do its jobs."""

    def __init__(
        self, enqueuer: Repository, make_queries: Callable[[], Repository], lease_s: float, poll_s: float
    ) -> None:
        """enqueuer: its statements raise CatalogueUnavailable in an outage; make_queries: called once per run, returns
        one whose statements wait. lease_s: seconds without a heartbeat after which a worker is considered lost.
        poll_s: seconds between two checks for jobs whose notification was lost.
        """
        self._enqueuer = enqueuer
        self._make_queries = make_queries
        self._lease = timedelta(seconds=lease_s)
        self._poll = timedelta(seconds=poll_s)
        self._ending = asyncio.Event()
        self._entrypoints = set(map(str, Kind))

    async def put(self, jobs: Iterable[Job], tag: int) -> None:
        """Queue jobs, except those that are in the queue or in progress. tag: position in the queue, the lowest first.

        Raises CatalogueUnavailable.
        """
        await self.put_all((job, tag) for job in jobs)

    async def put_all(self, jobs: Iterable[tuple[Job, int]]) -> None:
        """Queue jobs with a tag each, in one statement. Otherwise like `put`."""
        new = list(jobs)
        if not new:
            return
        await self._enqueuer.enqueue(
            [job.entrypoint for job, _ in new],
            [job.to_bytes() for job, _ in new],
            [max(LOWEST_PRIORITY, -tag) for _, tag in new],
            dedupe_key=[job.key for job, _ in new],
            on_conflict="skip",
        )

    async def run(self, handlers: Mapping[Kind, Handler], max_in_flight: int, model: str = "") -> None:
        """Do jobs of these kinds, at most `max_in_flight` (at least 2) at a time, until `end`.

        model: of the shards; empty for jobs without one. A handler may raise RetryLater. After any other exception
        pgqueuer logs it and deletes the job.
        """
        entrypoints = {entrypoint_of(kind, model): handle for kind, handle in handlers.items()}
        self._entrypoints.update(entrypoints)
        failures = 0
        while not self._ending.is_set():
            began = anyio.current_time()
            try:
                await self._run_once(entrypoints, max(2, max_in_flight))
            # For test_a_runner_that_fails_is_restarted (tests/api/test_queue.py).
            except Exception:
                failures = 1 if anyio.current_time() - began > LONGEST_RESTART_S else failures + 1
                pause_s = delay_s(failures, FIRST_RESTART_S, LONGEST_RESTART_S)
                log.exception("queue runner failed, restarting", pause_s=pause_s)
                with anyio.move_on_after(pause_s):
                    await self._ending.wait()

    def end(self) -> None:
        """Take no more jobs. `run` returns when those in progress are done or returned to the queue."""
        self._ending.set()

    async def prune(self) -> None:
        """Delete pgqueuer's own log and statistics: nothing reads them, and they would grow for ever."""
        names = sorted(self._entrypoints)
        await self._enqueuer.clear_queue_log(names)
        await self._enqueuer.clear_statistics_log(names)

    async def log_length(self) -> int:
        """Rows in pgqueuer's own log."""
        return await self._enqueuer.unaggregated_log_count()

    async def _run_once(self, handlers: Mapping[str, Handler], max_in_flight: int) -> None:
        runner = QueueManager(self._make_queries())
        runner.shutdown = self._ending
        for name, handle in handlers.items():
            runner.entrypoint(name)(_entrypoint(handle))
        await runner.run(
            dequeue_timeout=self._poll,
            # pgqueuer requires room for two batches.
            batch_size=max_in_flight // 2,
            max_concurrent_tasks=max_in_flight,
            heartbeat_timeout=self._lease,
            log_aggregation_interval=timedelta(0),
        )


@asynccontextmanager
async def open_queue(
    engine: AsyncEngine, listener: Listener, lease_s: float, poll_s: float = QUEUE_POLL_S
) -> AsyncIterator[Queue]:
    """The queue of a deployment: in the catalogue's PostgreSQL, or in this process's memory beside SQLite.

    listener: of this process; its notifications start new jobs at once. lease_s, poll_s: see Queue.
    """
    if engine.dialect.name != "postgresql":
        memory = InMemoryQueries(InMemoryDriver())
        yield Queue(memory, lambda: memory, lease_s, poll_s)
        return
    async with open_pool(engine) as pool:
        enqueuer = Queries(QueueDriver(pool, engine))
        yield Queue(enqueuer, lambda: Queries(PatientDriver(pool, engine, listener)), lease_s, poll_s)


def _entrypoint(handle: Handler) -> Callable[[QueuedJob], Awaitable[None]]:
    async def do(queued: QueuedJob) -> None:
        await handle(Job.from_bytes(queued.payload or b"{}"))

    return do


async def migrate_queue(engine: AsyncEngine) -> None:
    """Bring the queue's schema up to date; does nothing on SQLite. Safe to repeat, and to run concurrently."""
    if engine.dialect.name != "postgresql":
        return
    with answering(engine):
        # Statements have no time limit: a concurrent migration must end first, and changes of a large table take long.
        connection = await asyncpg.connect(**connect_arguments_of(engine))
        try:
            # A session's lock: some of the changes cannot run inside a transaction.
            await connection.execute("SELECT pg_advisory_lock(hashtext('momalisa queue'))")
            queries = Queries(AsyncpgDriver(connection))
            if await queries.schema_is_installed():
                await queries.upgrade()
            else:
                await queries.install()
        finally:
            # This releases the lock, too.
            await connection.close()
