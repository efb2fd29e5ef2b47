"""The job queue in memory and on a real PostgreSQL, which restarts and freezes in some of the tests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from uuid import uuid4

import anyio
import anyio.to_thread
import pytest
from pgqueuer import Queries, QueueManager
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.types import QueueEntrypoint, QueueManagerId
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.engine import open_engine
from momalisa_api.store.notifications import Listener, WalkChanges
from momalisa_api.store.queue import Job, Kind, Queue, RetryLater, migrate_queue, open_queue
from momalisa_api.store.queue_driver import MAX_CONNECTIONS, PatientDriver, QueueDriver, open_pool
from momalisa_api.store.schema import opened
from tests.support.postgres import Postgres, clean_engine, server
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
WALK = "5" * 32
LEASE_S = 1.0
AN_HOUR_S = 3600.0


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    async with opened(url) as engine:
        if engine.dialect.name == "postgresql":
            async with engine.begin() as connection:
                for table in ("pgqueuer", "pgqueuer_log"):
                    await connection.execute(text(f"DELETE FROM {table}"))
        yield engine


@pytest.fixture
async def queue(engine: AsyncEngine) -> AsyncIterator[Queue]:
    async with queue_of(engine) as queue:
        yield queue


@asynccontextmanager
async def queue_of(engine: AsyncEngine, lease_s: float = LEASE_S, **options: float) -> AsyncIterator[Queue]:
    """The queue of a process, with a listener that also serves the watchers of walks."""
    listener = Listener(engine)
    WalkChanges(listener)
    async with open_queue(engine, listener, lease_s, **options) as queue, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        yield queue
        tasks.cancel_scope.cancel()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server of this module's own, as it restarts."""
    with server() as postgres:
        yield postgres


@pytest.fixture
async def own_engine(own_postgres: Postgres) -> AsyncIterator[AsyncEngine]:
    async with clean_engine(own_postgres.url) as engine:
        yield engine


def shard(number: int, walk: str = WALK) -> Job:
    return Job(Kind.RENDER, walk, 1, number)


@asynccontextmanager
async def working(
    queue: Queue, handle: Callable[[Job], Awaitable[None]], max_in_flight: int = 2, kind: Kind = Kind.RENDER
) -> AsyncIterator[None]:
    """A worker for as long as the block, and until its jobs in progress are done."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run, {kind: handle}, max_in_flight)
        with anyio.fail_after(30):
            yield
        queue.end()


async def connections(postgres: Postgres, condition: str = "true") -> int:
    """How many clients are connected to a server, besides the one that counts."""
    others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
    query = f"SELECT 1 FROM pg_stat_activity WHERE {others} AND {condition}"
    return len(await anyio.to_thread.run_sync(postgres.rows, query))


async def until_listening(postgres: Postgres) -> None:
    while not await connections(postgres, "query LIKE 'LISTEN%'"):
        await anyio.sleep(0.02)


async def test_jobs_with_the_lowest_tag_are_next_and_equal_tags_keep_their_order(queue):
    """A newcomer's shards go before the later walks of an owner with many walks."""
    done: list[int] = []

    async def handle(job: Job) -> None:
        done.append(job.shard)

    await queue.put([shard(0), shard(1)], tag=500)
    await queue.put([shard(2), shard(3)], tag=25)
    async with working(queue, handle):
        await until(lambda: len(done) == 4)
    assert done == [2, 3, 0, 1]


async def test_a_tag_beyond_the_lowest_priority_is_last(queue):
    """Tags count frames for as long as walks are open, and a priority has 32 bits."""
    done: list[int] = []

    async def handle(job: Job) -> None:
        done.append(job.shard)

    await queue.put([shard(0)], tag=2**40)
    await queue.put([shard(1)], tag=5)
    async with working(queue, handle):
        await until(lambda: len(done) == 2)
    assert done == [1, 0]


async def test_a_job_that_is_queued_or_in_progress_is_not_queued_twice(queue):
    """Every worker's reconciler queues what seems to be missing. Once a job is done, it can be queued again."""
    begun, done, go_on = [], [], anyio.Event()

    async def handle(job: Job) -> None:
        begun.append(job)
        await go_on.wait()
        done.append(job)

    await queue.put([shard(0), shard(1)], tag=0)
    await queue.put([shard(1), shard(2)], tag=0)
    async with working(queue, handle, max_in_flight=4):
        await until(lambda: len(begun) == 3)
        await queue.put([shard(number) for number in range(3)], tag=0)
        go_on.set()
        await until(lambda: len(done) == 3)
        while len(done) == 3:
            # Its key is free once the end of the job is recorded, which is a moment later.
            await queue.put([shard(0)], tag=0)
            await anyio.sleep(0.02)
    assert [job.shard for job in done[:4]].count(0) == 2


async def test_a_job_that_is_returned_is_done_later(queue):
    """Neither an outage nor a stopping worker ends a job: any worker may do it."""
    tries = count()

    async def handle(job: Job) -> None:
        if next(tries) == 0:
            raise RetryLater("the bucket is unavailable", 0.1)

    await queue.put([shard(0)], tag=0)
    async with working(queue, handle):
        await until(lambda: next(tries) > 2)


async def test_no_more_jobs_are_taken_than_may_be_in_flight(queue):
    """Other workers cannot take jobs that this worker holds; if it died, they would be late by the lease."""
    inside, most, done = set(), [], []

    async def handle(job: Job) -> None:
        inside.add(job)
        most.append(len(inside))
        await anyio.sleep(0.02)
        inside.discard(job)
        done.append(job)

    await queue.put([shard(number) for number in range(12)], tag=0)
    async with working(queue, handle, max_in_flight=4):
        await until(lambda: len(done) == 12)
    assert 2 <= max(most) <= 4


async def test_a_runner_that_fails_is_restarted(queue, monkeypatch, caplog):
    """pgqueuer's loop ends with the first unexpected error; work must go on, and the log must have the error."""
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    def break_once(*_: object) -> AsyncIterator[object]:
        monkeypatch.undo()
        raise RuntimeError("unexpected")

    monkeypatch.setattr(QueueManager, "fetch_jobs", break_once)
    await queue.put([shard(0)], tag=0)
    async with working(queue, handle):
        await until(lambda: done)


async def test_a_lost_worker_holds_its_jobs_no_longer_than_the_lease(queue, engine):
    """It took a job and then stopped without a word: no heartbeat arrives any more."""
    if engine.dialect.name == "sqlite":
        pytest.skip("in memory the queue is lost with its worker")
    await queue.put([shard(0)], tag=0)
    entrypoints = {QueueEntrypoint(Kind.RENDER): EntrypointExecutionParameter(concurrency_limit=0)}
    async with open_pool(engine) as pool:
        taken = await Queries(QueueDriver(pool, engine)).dequeue(
            1, entrypoints, QueueManagerId(uuid4()), None, timedelta(seconds=LEASE_S)
        )
    assert len(taken) == 1
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    async with working(queue, handle):
        await until(lambda: done)
    assert done == [shard(0)]


async def test_concurrent_and_repeated_migrations_of_the_queue_are_harmless(engine):
    """Every process of a roll-out may migrate."""
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(migrate_queue, engine)


async def test_a_migration_waits_for_another_one_as_long_as_it_takes(own_postgres, own_engine):
    """Changes of a large table take longer than a statement of a running process may."""
    lock = "pg_advisory_{}lock(hashtext('momalisa queue'))"
    impatient = open_engine(own_postgres.url, answer_s=0.1)
    async with own_engine.connect() as other, anyio.create_task_group() as tasks:
        await other.execute(text(f"SELECT {lock.format('')}"))
        tasks.start_soon(migrate_queue, impatient)
        await anyio.sleep(1)
        await other.execute(text(f"SELECT {lock.format('un')}"))


async def test_the_log_of_the_queue_can_be_pruned(queue, engine):
    """Nothing reads it, and every job adds three rows."""
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    await queue.put([shard(0)], tag=0)
    async with working(queue, handle):
        await until(lambda: done)
    assert await queue.log_length() > 0
    await queue.prune()
    assert await queue.log_length() == 0


async def test_a_restart_of_postgresql_costs_a_worker_none_of_its_jobs(own_postgres, own_engine):
    """One job ends while the server is down, one goes on, a new one starts after: each is done exactly once."""
    begun: list[int] = []
    may_end = {number: anyio.Event() for number in range(3)}

    async def handle(job: Job) -> None:
        begun.append(job.shard)
        await may_end[job.shard].wait()

    async with queue_of(own_engine, lease_s=60) as queue:
        await queue.put([shard(0), shard(1)], tag=0)
        async with working(queue, handle, max_in_flight=4):
            await until(lambda: len(begun) == 2)
            await anyio.to_thread.run_sync(own_postgres.stop)
            may_end[0].set()
            await anyio.sleep(1.5)
            await anyio.to_thread.run_sync(own_postgres.start)
            await queue.put([shard(2)], tag=0)
            await until(lambda: 2 in begun)
            may_end[1].set()
            may_end[2].set()
            while await anyio.to_thread.run_sync(own_postgres.rows, "SELECT id FROM pgqueuer"):
                await anyio.sleep(0.05)
    assert sorted(begun) == [0, 1, 2]


async def test_a_job_that_is_returned_in_an_outage_is_done_after_it(own_postgres, own_engine):
    """pgqueuer deletes a job that it cannot return, and the walk would wait for the reconciler."""
    tries = 0
    outage = anyio.Event()

    async def handle(job: Job) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await outage.wait()
            raise RetryLater("the catalogue is unavailable", 0.1)

    async with queue_of(own_engine, lease_s=60) as queue:
        await queue.put([shard(0)], tag=0)
        async with working(queue, handle):
            await until(lambda: tries)
            await anyio.to_thread.run_sync(own_postgres.stop)
            outage.set()
            await anyio.sleep(0.5)
            await anyio.to_thread.run_sync(own_postgres.start)
            await until(lambda: tries == 2)


async def test_a_job_that_cannot_be_queued_in_an_outage_is_a_problem(own_postgres, own_engine):
    """A caller gets 503, and a worker tries again; an unexpected error would fail the walk."""
    async with queue_of(own_engine) as queue:
        await queue.put([shard(0)], tag=0)
        own_postgres.stop()
        for _ in range(MAX_CONNECTIONS + 1):
            with pytest.raises(CatalogueUnavailable):
                await queue.put([shard(1)], tag=0)
        own_postgres.start()
        await queue.put([shard(1)], tag=0)


async def test_queueing_a_job_does_not_hang_on_a_frozen_server(own_postgres):
    """A machine that is gone closes no connection: callers must not wait for as long as TCP does."""
    async with clean_engine(own_postgres.url, answer_s=1.0) as engine, queue_of(engine) as queue:
        await queue.put([shard(0)], tag=0)
        with own_postgres.frozen():
            for _ in range(MAX_CONNECTIONS + 1):
                with anyio.fail_after(5), pytest.raises(CatalogueUnavailable):
                    await queue.put([shard(1)], tag=0)
        with anyio.fail_after(20):
            await queue.put([shard(1)], tag=0)


async def test_one_connection_per_process_listens_also_after_a_restart(own_postgres, own_engine):
    """It serves the queue's two runners and the watchers of walks; the queue's own pool has its limit."""
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    await own_engine.dispose()
    async with queue_of(own_engine) as queue, working(queue, handle, kind=Kind.FILM), working(queue, handle):
        for _ in range(2):
            with anyio.fail_after(20):
                await until_listening(own_postgres)
                await queue.put([shard(len(done))], tag=0)
                await until(lambda: done)
            assert await connections(own_postgres, "query LIKE 'LISTEN%'") == 1
            assert await connections(own_postgres, "query NOT LIKE 'LISTEN%'") <= MAX_CONNECTIONS
            await anyio.to_thread.run_sync(own_postgres.restart)
            done.clear()


async def test_a_notification_starts_a_job_at_once_also_after_a_restart(own_postgres, own_engine):
    """The next poll is an hour away."""
    done: list[Job] = []

    async def handle(job: Job) -> None:
        done.append(job)

    async with queue_of(own_engine, poll_s=AN_HOUR_S) as queue, working(queue, handle):
        await until_listening(own_postgres)
        await queue.put([shard(0)], tag=0)
        await until(lambda: len(done) == 1)
        # Until the runner waits for the next notification.
        await anyio.sleep(0.5)
        await anyio.to_thread.run_sync(own_postgres.restart)
        await until_listening(own_postgres)
        await queue.put([shard(1)], tag=0)
        await until(lambda: len(done) == 2)


async def test_a_runner_that_ended_receives_no_notifications(own_postgres, own_engine):
    """Runners restart after errors; each would leave a queue behind that grows with every notification."""
    received: list[tuple[str, object]] = []
    listener = Listener(own_engine)
    listener.subscribe("a channel", lambda payload: received.append(("still", payload)))
    async with open_pool(own_engine) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        async with PatientDriver(pool, own_engine, listener) as driver:
            await driver.add_listener("a channel", lambda payload: received.append(("driver", payload)))
            with anyio.fail_after(20):
                await until(lambda: listener.listens_to("a channel"))
                await driver.notify("a channel", "1")
                await until(lambda: len(received) == 2)
        with anyio.fail_after(20):
            await driver.notify("a channel", "2")
            await until(lambda: ("still", "2") in received)
        tasks.cancel_scope.cancel()
    assert ("driver", "2") not in received


async def test_the_queue_has_the_same_settings_of_the_server_as_the_catalogue(own_engine):
    """A frozen worker must not hold its locks for hours, whichever of the two connections it has."""
    async with open_pool(own_engine) as pool, own_engine.connect() as connection:
        for name, default in (("idle_in_transaction_session_timeout", "0"), ("plan_cache_mode", "auto")):
            found = await pool.fetchval(f"SHOW {name}")
            assert found == await connection.scalar(text(f"SHOW {name}")) != default
