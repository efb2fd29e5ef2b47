"""The queue on both of its homes: the same suite in memory and on a real PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from uuid import uuid4

import anyio
import pytest
from pgqueuer import Queries, QueueManager
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.types import QueueEntrypoint, QueueManagerId
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.queue import Job, Kind, Queue, RetryLater, migrate_queue
from momalisa_api.store.queue_driver import EngineDriver
from momalisa_api.store.schema import opened

pytestmark = pytest.mark.anyio
WALK = "5" * 32
LEASE_S = 1.0


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(url) as engine:
        if engine.dialect.name == "postgresql":
            async with engine.begin() as connection:
                await connection.execute(text("DELETE FROM pgqueuer"))
        yield engine


@pytest.fixture
def queue(engine: AsyncEngine) -> Queue:
    return Queue(engine, LEASE_S)


def shard(number: int, walk: str = WALK) -> Job:
    return Job(Kind.RENDER, walk, 1, number)


@asynccontextmanager
async def working(
    queue: Queue, handle: Callable[[Job], Awaitable[None]], in_hand: int = 2, kind: Kind = Kind.RENDER
) -> AsyncIterator[None]:
    """A worker for as long as the block, and until what it has in hand is done."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run, {kind: handle}, in_hand)
        with anyio.fail_after(30):
            yield
        queue.end()


async def until(happened: Callable[[], object]) -> None:
    while not happened():
        await anyio.sleep(0.01)


async def test_the_lowest_turn_is_next_and_equal_turns_keep_their_order(queue):
    """A newcomer's shards go before the later walks of somebody who asked for many."""
    done: list[int] = []

    async def handle(job: Job) -> None:
        done.append(job.shard)

    await queue.put([shard(0), shard(1)], tag=500)
    await queue.put([shard(2), shard(3)], tag=25)
    async with working(queue, handle):
        await until(lambda: len(done) == 4)
    assert done == [2, 3, 0, 1]


async def test_a_job_that_is_in_line_or_in_hand_is_not_put_there_twice(queue):
    """The reconciler of every worker puts what it thinks is lacking; once it is done, it can be put again."""
    begun, done, go_on = [], [], anyio.Event()

    async def handle(job: Job) -> None:
        begun.append(job)
        await go_on.wait()
        done.append(job)

    await queue.put([shard(0), shard(1)], tag=0)
    await queue.put([shard(1), shard(2)], tag=0)
    async with working(queue, handle, in_hand=4):
        await until(lambda: len(begun) == 3)
        await queue.put([shard(number) for number in range(3)], tag=0)
        go_on.set()
        await until(lambda: len(done) == 3)
        while len(done) == 3:
            # Its key is free when the job has ended, which is noted a moment later.
            await queue.put([shard(0)], tag=0)
            await anyio.sleep(0.02)
    assert [job.shard for job in done[:4]].count(0) == 2


async def test_a_job_that_is_given_back_is_done_later(queue):
    """Trouble and going home are no ends: the job is there for any worker."""
    tries = count()

    async def handle(job: Job) -> None:
        if next(tries) == 0:
            raise RetryLater("the bucket is away", 0.1)

    await queue.put([shard(0)], tag=0)
    async with working(queue, handle):
        await until(lambda: next(tries) > 2)


async def test_no_more_are_taken_than_fit_in_hand(queue):
    """What a worker has in hand others cannot have, and it would be late by the lease should the worker die."""
    inside, most, done = set(), [], []

    async def handle(job: Job) -> None:
        inside.add(job)
        most.append(len(inside))
        await anyio.sleep(0.02)
        inside.discard(job)
        done.append(job)

    await queue.put([shard(number) for number in range(12)], tag=0)
    async with working(queue, handle, in_hand=4):
        await until(lambda: len(done) == 12)
    assert 2 <= max(most) <= 4


async def test_what_breaks_in_the_loop_begins_anew(queue, monkeypatch):
    """pgqueuer's loop ends at the first thing it has not foreseen; work must go on."""
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    def break_once(*_: object) -> AsyncIterator[object]:
        monkeypatch.undo()
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(QueueManager, "fetch_jobs", break_once)
    await queue.put([shard(0)], tag=0)
    async with working(queue, handle):
        await until(lambda: done)


async def test_a_worker_that_was_lost_holds_its_jobs_no_longer_than_the_lease(queue, engine):
    """It took a job and then said nothing more, no heartbeat and no goodbye."""
    if engine.dialect.name == "sqlite":
        pytest.skip("in memory a lost worker takes its queue along")
    await queue.put([shard(0)], tag=0)
    entrypoints = {QueueEntrypoint(Kind.RENDER): EntrypointExecutionParameter(concurrency_limit=0)}
    taken = await Queries(EngineDriver(engine)).dequeue(
        1, entrypoints, QueueManagerId(uuid4()), None, timedelta(seconds=LEASE_S)
    )
    assert len(taken) == 1
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    async with working(queue, handle):
        await until(lambda: done)
    assert done == [shard(0)]


async def test_migrating_the_queue_again_and_at_once_is_harmless(engine):
    """Every process of a roll-out may do it."""
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(migrate_queue, engine)


async def test_the_queues_log_does_not_grow_for_ever(queue, engine):
    """Nobody reads it, and every job adds three lines."""
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    await queue.put([shard(0)], tag=0)
    async with working(queue, handle):
        await until(lambda: done)
    assert await queue.log_length() > 0
    await queue.prune()
    assert await queue.log_length() == 0
