"""Jobs of walks, each done by one worker at a time: pgqueuer, on PostgreSQL or in this process's memory.

A job says which part of which walk is to be done and no more: what that means stands in the catalogue. So nothing is
lost with the queue that the reconciler (worker.py) could not put there again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from json import dumps, loads
from typing import Final, Self

import anyio
import structlog
from pgqueuer import QueueManager
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.inmemory import InMemoryDriver, InMemoryQueries
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.models import Job as QueuedJob
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.queue_driver import EngineDriver, PatientDriver, raw_connection

log = structlog.get_logger()

# Notifications wake a worker at once; this is for those that were lost, and for shards of a worker that was.
LOOK_S: Final = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
LOWEST_PRIORITY: Final = -(2**31)


class Kind(StrEnum):
    """What can be done for a walk."""

    PLAN = "plan"
    RENDER = "render"
    MEASURE = "measure"
    FILM = "film"


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do for a walk. plan: which of its plans is meant; shard: the number of the shard in it."""

    kind: Kind
    walk_id: str
    plan: int
    shard: int = 0

    @property
    def key(self) -> str:
        """No two jobs with the same key are in the queue at a time."""
        return f"{self.kind}/{self.walk_id}/{self.plan}/{self.shard}"

    def to_bytes(self) -> bytes:
        """As it lies in the queue."""
        return dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Read what to_bytes wrote."""
        content = loads(payload)
        return cls(Kind(content["kind"]), content["walk_id"], content["plan"], content["shard"])


class RetryLater(Exception):
    """Raised by whoever does a job: it goes back into the queue, for any worker, after some seconds."""

    def __init__(self, reason: str, after_s: float) -> None:
        super().__init__(reason)
        self.after_s = after_s


Handler = Callable[[Job], Awaitable[None]]


class Queue:
    """The jobs of a deployment. Every job is done at least once; what a lost worker had is done by another."""

    def __init__(self, engine: AsyncEngine, lease_s: float) -> None:
        """engine: the catalogue's; on SQLite the jobs live in this process. lease_s: silence after which a worker is
        taken for lost.
        """
        self._engine = engine
        self._lease = timedelta(seconds=lease_s)
        self._ending = asyncio.Event()
        self._memory: InMemoryQueries | None = None
        if engine.dialect.name == "postgresql":
            self._enqueuer: Queries | InMemoryQueries = Queries(EngineDriver(engine))
        else:
            self._enqueuer = self._memory = InMemoryQueries(InMemoryDriver())

    async def put(self, jobs: Iterable[Job], tag: int) -> None:
        """Put jobs in line, but none that is there already. tag: the turn of their walk; the lowest is next."""
        some = list(jobs)
        if not some:
            return
        count = len(some)
        await self._enqueuer.enqueue(
            [str(job.kind) for job in some],
            [job.to_bytes() for job in some],
            [max(LOWEST_PRIORITY, -tag)] * count,
            dedupe_key=[job.key for job in some],
            on_conflict="skip",
        )

    async def run(self, handlers: Mapping[Kind, Handler], in_hand: int) -> None:
        """Have jobs of these kinds done, `in_hand` at a time, until `end`. Handlers raise only RetryLater.

        pgqueuer's own loop ends when something unforeseen happens to it; then it begins anew.
        """
        pause_s = FIRST_PAUSE_S
        while not self._ending.is_set():
            began = anyio.current_time()
            try:
                await self._run_once(handlers, max(2, in_hand))
            except Exception as error:
                log.warning("the queue stopped and begins anew", reason=repr(error))
            pause_s = FIRST_PAUSE_S if anyio.current_time() - began > LONGEST_PAUSE_S else pause_s * 2
            with anyio.move_on_after(min(pause_s, LONGEST_PAUSE_S)):
                await self._ending.wait()

    def end(self) -> None:
        """Take no more jobs. `run` returns when those in hand are done or given back."""
        self._ending.set()

    async def prune(self) -> None:
        """Empty pgqueuer's own log: nobody reads it, and it would grow for ever."""
        kinds = [str(kind) for kind in Kind]
        await self._enqueuer.clear_queue_log(kinds)
        await self._enqueuer.clear_statistics_log(kinds)

    async def log_length(self) -> int:
        """Lines in pgqueuer's own log."""
        return await self._enqueuer.unaggregated_log_count()

    async def _run_once(self, handlers: Mapping[Kind, Handler], in_hand: int) -> None:
        runner = QueueManager(self._memory or Queries(PatientDriver(self._engine)))
        for kind, handle in handlers.items():
            runner.entrypoint(str(kind))(_entrypoint(handle))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_with, runner)
            await runner.run(
                dequeue_timeout=timedelta(seconds=LOOK_S),
                # pgqueuer wants room for two batches.
                batch_size=in_hand // 2,
                max_concurrent_tasks=in_hand,
                heartbeat_timeout=self._lease,
                log_aggregation_interval=timedelta(0),
            )
            tasks.cancel_scope.cancel()

    async def _end_with(self, runner: QueueManager) -> None:
        await self._ending.wait()
        runner.shutdown.set()


def _entrypoint(handle: Handler) -> Callable[[QueuedJob], Awaitable[None]]:
    """A handler as pgqueuer calls it. Any exception but a wish to retry would end the job for good."""

    async def do(queued: QueuedJob) -> None:
        try:
            await handle(Job.from_bytes(queued.payload or b"{}"))
        except RetryLater as later:
            raise RetryRequested(timedelta(seconds=later.after_s), str(later)) from later

    return do


async def migrate_queue(engine: AsyncEngine) -> None:
    """Bring the queue's schema up to date; in memory there is none. Safe to run again, and twice at once."""
    if engine.dialect.name != "postgresql":
        return
    async with raw_connection(engine) as connection:
        # A session's lock: some of the changes cannot stand in one transaction.
        await connection.execute("SELECT pg_advisory_lock(hashtext('momalisa queue'))")
        try:
            queries = Queries(AsyncpgDriver(connection))
            if await queries.schema_is_installed():
                await queries.upgrade()
            else:
                await queries.install()
        finally:
            await connection.execute("SELECT pg_advisory_unlock(hashtext('momalisa queue'))")
