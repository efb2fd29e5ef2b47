"""Live updates: one query for all watchers, at once after a notification of PostgreSQL, and through outages."""

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine
from momalisa_api.store.fair_queue import FairQueue
from momalisa_api.store.notifications import Listener, WalkChanges
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import migrate
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.live import LiveUpdates, Tell
from momalisa_api.web.routes.events import events_of
from tests.support.factories import spec
from tests.support.postgres import Postgres, server

pytestmark = pytest.mark.anyio
OWNER = "somebody"
AN_HOUR_S = 3600.0
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A separate server, since it stops now and then."""
    with server() as postgres:
        yield postgres


@asynccontextmanager
async def process(url: str) -> AsyncIterator[AsyncEngine]:
    """The engine of one process."""
    engine = open_engine(url)
    try:
        await migrate(engine)
        yield engine
    finally:
        await engine.dispose()


async def plainly(walks: Sequence[Walk]) -> list[bytes]:
    return [str(walk.revision).encode() for walk in walks]


@asynccontextmanager
async def watching(engine: AsyncEngine, every_s: float, tell: Tell = plainly) -> AsyncIterator[LiveUpdates]:
    """Running live updates. On PostgreSQL their connection listens when the block starts."""
    listener = Listener(engine)
    watch = LiveUpdates(Catalogue(engine), every_s, WalkChanges(listener))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        tasks.start_soon(watch.run, tell)
        if engine.dialect.name == "postgresql":
            await until_listening(engine)
        yield watch
        tasks.cancel_scope.cancel()


async def until_listening(engine: AsyncEngine) -> None:
    with anyio.fail_after(20):
        while not (await query(engine, LISTENERS)):
            await anyio.sleep(0.02)


async def query(engine: AsyncEngine, statement: str) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(text(statement))).scalars())


async def waiting_walk(catalogue: Catalogue) -> Walk:
    await catalogue.remove(spec().id)
    walk, _ = await catalogue.request(spec(), OWNER)
    return walk


async def newer_walk(watch: LiveUpdates, walk: Walk, *changes: Awaitable[Any]) -> Walk | None:
    """The walk that a watcher receives after changes to it, or None."""
    received: list[Walk | None] = []

    async def wait() -> None:
        newer = await watch.newer(walk.id, walk.revision)
        received.append(newer.walk if newer else None)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            for change in changes:
                await change
    return received[0]


async def test_on_sqlite_a_change_made_by_this_process_is_noticed_at_once(tmp_path):
    """`make up` is one process, and SQLite sends no notifications. The next poll is an hour away."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        first = await waiting_walk(Catalogue(engine))
        async with watching(engine, AN_HOUR_S) as watch:
            await anyio.wait_all_tasks_blocked()
            stored = await newer_walk(watch, first, Progress(engine).note_stored(first, [0]))
            assert stored
            assert await newer_walk(watch, stored, Catalogue(engine).remove(first.id)) is None


async def test_a_change_made_by_another_process_is_noticed_at_once(postgres):
    """Through NOTIFY: the next poll is an hour away. Every kind of change is notified, and a deletion too."""
    async with process(postgres.url) as engine, process(postgres.url) as another:
        elsewhere = Progress(another)
        first = await waiting_walk(Catalogue(another))
        async with watching(engine, AN_HOUR_S) as watch:
            stored = await newer_walk(watch, first, elsewhere.note_stored(first, [0]))
            assert stored
            warned = await newer_walk(watch, stored, elsewhere.warn(first.id, ["careful"]))
            assert warned
            moved = await newer_walk(watch, warned, elsewhere.move(first.id, State.WAITING, State.RENDERING))
            assert moved
            assert (moved.stored, moved.warnings, moved.state) == ({0}, ("careful",), State.RENDERING)
            assert await newer_walk(watch, moved, Catalogue(another).remove(first.id)) is None


async def test_a_change_without_a_listening_connection_is_noticed_too(postgres):
    """The listening connection is lost, a walk changes, and only then is there a new connection."""
    async with process(postgres.url) as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        async with watching(engine, AN_HOUR_S) as watch:
            await query(engine, f"SELECT pg_terminate_backend(pid) FROM ({LISTENERS}) AS listeners")
            await Progress(engine).note_stored(walk, [0])
            with anyio.fail_after(20):
                newer = await watch.newer(walk.id, walk.revision)
                assert newer
                assert newer.walk.stored == {0}
            await until_listening(engine)


async def test_watchers_wait_through_an_outage_and_receive_the_changes(postgres):
    """The outage neither fails their requests nor ends the process."""
    async with process(postgres.url) as engine, process(postgres.url) as another:
        elsewhere = Progress(another)
        walk = await waiting_walk(Catalogue(another))
        async with watching(engine, 0.01) as watch:
            outage = anyio.to_thread.run_sync(postgres.restart)
            received = await newer_walk(watch, walk, outage, elsewhere.note_stored(walk, [0]))
    assert received
    assert received.stored == {0}


async def test_a_thousand_watchers_need_one_query_and_one_event(tmp_path):
    """The snapshot of a walk is read and written out once for all its watchers."""
    written: list[int] = []
    received: list[bytes] = []

    async def render_events(walks: Sequence[Walk]) -> list[bytes]:
        written.extend(walk.revision for walk in walks)
        return await plainly(walks)

    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)

        async def receive() -> None:
            newer = await watch.newer(walk.id, walk.revision)
            assert newer
            received.append(newer.event)

        async with watching(engine, 0.01, render_events) as watch, anyio.create_task_group() as watchers:
            for _ in range(1000):
                watchers.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            queries: list[str] = []

            @event.listens_for(engine.sync_engine, "before_cursor_execute")
            def note(_connection, _cursor, statement, *_) -> None:
                if "landings" in statement and statement.startswith("SELECT"):
                    queries.append(statement)

            await Progress(engine).note_stored(walk, [0])
    assert len(queries) == 1
    assert written == [walk.revision + 1]
    assert received == [str(walk.revision + 1).encode()] * 1000


async def test_other_requests_are_served_while_a_thousand_watchers_are_notified(tmp_path):
    """A visitor's request must not wait until all watchers of a walk have received a change."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        received = 0
        answered_at: list[int] = []

        async def receive() -> None:
            nonlocal received
            await watch.newer(walk.id, walk.revision)
            received += 1

        async def send_another_request() -> None:
            while not received:
                await anyio.lowlevel.checkpoint()
            await catalogue.knows(walk.id)
            answered_at.append(received)

        async with watching(engine, 0.01) as watch, anyio.create_task_group() as visitors:
            for _ in range(1000):
                visitors.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            visitors.start_soon(send_another_request)
            await Progress(engine).note_stored(walk, [0])
    assert received == 1000
    assert answered_at[0] < 500


async def test_an_idle_stream_is_kept_alive(tmp_path):
    """Proxies close silent connections. A change is sent between the pings."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        async with watching(engine, 0.01) as watch:
            with anyio.fail_after(20):
                events = events_of(walk, walk.revision, watch, ping_s=0.02)
                assert [await anext(events) for _ in range(3)] == [b": ping\n\n"] * 3
                await Progress(engine).move(walk.id, State.WAITING, State.CANCELLED)
                rest = [event async for event in events]
    assert rest[-1] == b"2"
    assert set(rest[:-1]) <= {b": ping\n\n"}


async def test_the_first_event_is_written_once_for_all_who_arrive_together(postgres):
    """After a restart of a process, all its watchers reconnect at once. The next poll is an hour away."""
    written: list[int] = []
    received: list[bytes] = []

    async def render_events(walks: Sequence[Walk]) -> list[bytes]:
        written.extend(walk.revision for walk in walks)
        return await plainly(walks)

    async with process(postgres.url) as engine:
        walk = await waiting_walk(Catalogue(engine))

        async def receive() -> None:
            async with aclosing(events_of(walk, 0, watch)) as events:
                received.append(await anext(events))

        async with watching(engine, AN_HOUR_S, render_events) as watch:
            with anyio.fail_after(30):
                async with anyio.create_task_group() as watchers:
                    for _ in range(1000):
                        watchers.start_soon(receive)
    assert received == [b"1"] * 1000
    assert written == [1]


async def test_walks_without_watchers_are_not_polled(tmp_path):
    """After a browser is closed, queries for its walk must stop, even if the walk does not change."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        polls: list[str] = []

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def note(_connection, _cursor, statement, *_) -> None:
            if statement.startswith("SELECT walks.id, walks.revision"):
                polls.append(statement)

        async with watching(engine, 0.001) as watch:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as watchers:
                    watchers.start_soon(watch.newer, walk.id, walk.revision)
                    while len(polls) < 3:
                        await anyio.sleep(0.01)
                    watchers.cancel_scope.cancel()
            await FairQueue(engine).counts()
            before = len(polls)
            # A poll would be due after each of these.
            for _ in range(50):
                await FairQueue(engine).counts()
    assert len(polls) == before


async def test_a_stopping_process_releases_its_watchers(tmp_path):
    """They reconnect to another process."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        walk = await waiting_walk(Catalogue(engine))
        async with watching(engine, AN_HOUR_S) as watch:

            async def end() -> None:
                watch.end()

            assert await newer_walk(watch, walk, end()) is None
            assert await watch.newer(walk.id, walk.revision) is None
