"""Watching walks: one look for all who watch, at once where PostgreSQL tells of a change, and through outages."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
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
from momalisa_api.store.workers import WorkerRegistry
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.live import LiveUpdates, Tell
from momalisa_api.web.routes.events import events_of
from momalisa_api.web.routes.schemas import WalkViews
from tests.support.factories import spec
from tests.support.postgres import Postgres, server

pytestmark = pytest.mark.anyio
OWNER = "somebody"
AN_HOUR_S = 3600.0
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server of our own: it goes away now and then."""
    with server() as postgres:
        yield postgres


@asynccontextmanager
async def process(url: str) -> AsyncIterator[AsyncEngine]:
    """What a process has of a database."""
    engine = open_engine(url)
    try:
        await migrate(engine)
        yield engine
    finally:
        await engine.dispose()


async def plainly(walk: Walk) -> bytes:
    return str(walk.revision).encode()


@asynccontextmanager
async def watching(engine: AsyncEngine, every_s: float, tell: Tell = plainly) -> AsyncIterator[LiveUpdates]:
    """Live updates that run; on PostgreSQL their connection listens when the block begins."""
    listener = Listener(engine)
    watch = LiveUpdates(Catalogue(engine), every_s, WalkChanges(listener))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.run)
        tasks.start_soon(watch.run, tell)
        if engine.dialect.name == "postgresql":
            await someone_listens(engine)
        yield watch
        tasks.cancel_scope.cancel()


async def someone_listens(engine: AsyncEngine) -> None:
    with anyio.fail_after(20):
        while not (await asked(engine, LISTENERS)):
            await anyio.sleep(0.02)


async def asked(engine: AsyncEngine, query: str) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(text(query))).scalars())


async def waiting_walk(catalogue: Catalogue) -> Walk:
    await catalogue.remove(spec().id)
    walk, _ = await catalogue.request(spec(), OWNER)
    return walk


async def told_of(watch: LiveUpdates, walk: Walk, *changes: Awaitable[Any]) -> Walk | None:
    """What somebody who watches a walk is given when changes are made to it."""
    told: list[Walk | None] = []

    async def wait() -> None:
        newer = await watch.newer(walk.id, walk.revision)
        told.append(newer.walk if newer else None)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            for change in changes:
                await change
    return told[0]


async def test_a_change_made_by_another_process_is_noticed_at_once(postgres):
    """Through NOTIFY: the next poll is an hour away. Every kind of change is notified, and a deletion too."""
    async with process(postgres.url) as engine, process(postgres.url) as another:
        elsewhere = Progress(another)
        first = await waiting_walk(Catalogue(another))
        async with watching(engine, AN_HOUR_S) as watch:
            landed = await told_of(watch, first, elsewhere.note_stored(first, [0]))
            assert landed
            warned = await told_of(watch, landed, elsewhere.warn(first.id, ["careful"]))
            assert warned
            moved = await told_of(watch, warned, elsewhere.move(first.id, State.WAITING, State.RENDERING))
            assert moved
            assert (moved.stored, moved.warnings, moved.state) == ({0}, ("careful",), State.RENDERING)
            assert await told_of(watch, moved, Catalogue(another).remove(first.id)) is None


async def test_a_change_without_a_listening_connection_is_noticed_too(postgres):
    """The listening connection is lost, a walk changes, and only then there is a new connection."""
    async with process(postgres.url) as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        async with watching(engine, AN_HOUR_S) as watch:
            await asked(engine, f"SELECT pg_terminate_backend(pid) FROM ({LISTENERS}) AS listeners")
            await Progress(engine).note_stored(walk, [0])
            with anyio.fail_after(20):
                newer = await watch.newer(walk.id, walk.revision)
                assert newer
                assert newer.walk.stored == {0}
            await someone_listens(engine)


async def test_watchers_wait_through_an_outage_and_hear_what_changed(postgres):
    """It does not fail for them, and does not end this process."""
    async with process(postgres.url) as engine, process(postgres.url) as another:
        elsewhere = Progress(another)
        walk = await waiting_walk(Catalogue(another))
        async with watching(engine, 0.01) as watch:
            away = anyio.to_thread.run_sync(postgres.restart)
            told = await told_of(watch, walk, away, elsewhere.note_stored(walk, [0]))
    assert told
    assert told.stored == {0}


async def test_a_thousand_watchers_cost_one_look_and_one_telling(tmp_path):
    """Revisions of all that is watched, and one snapshot, written out once, for all who watch the same walk."""
    written: list[int] = []
    heard: list[bytes] = []

    async def tell(walk: Walk) -> bytes:
        written.append(walk.revision)
        return await plainly(walk)

    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)

        async def hear() -> None:
            newer = await watch.newer(walk.id, walk.revision)
            assert newer
            heard.append(newer.event)

        async with watching(engine, 0.01, tell) as watch, anyio.create_task_group() as watchers:
            for _ in range(1000):
                watchers.start_soon(hear)
            await anyio.wait_all_tasks_blocked()
            asked_for: list[str] = []

            @event.listens_for(engine.sync_engine, "before_cursor_execute")
            def note(_connection, _cursor, statement, *_) -> None:
                if "landings" in statement and statement.startswith("SELECT"):
                    asked_for.append(statement)

            await Progress(engine).note_stored(walk, [0])
    assert len(asked_for) == 1
    assert written == [walk.revision + 1]
    assert heard == [str(walk.revision + 1).encode()] * 1000


async def test_while_a_thousand_are_told_others_have_their_turn(tmp_path):
    """A visitor who asks for something else must not wait until all who watch a walk have been told of it."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        heard = 0
        answered_at: list[int] = []

        async def hear() -> None:
            nonlocal heard
            await watch.newer(walk.id, walk.revision)
            heard += 1

        async def ask_for_something_else() -> None:
            while not heard:
                await anyio.lowlevel.checkpoint()
            await catalogue.knows(walk.id)
            answered_at.append(heard)

        async with watching(engine, 0.01) as watch, anyio.create_task_group() as visitors:
            for _ in range(1000):
                visitors.start_soon(hear)
            await anyio.wait_all_tasks_blocked()
            visitors.start_soon(ask_for_something_else)
            await Progress(engine).note_stored(walk, [0])
    assert heard == 1000
    assert answered_at[0] < 500


async def test_a_stream_in_which_nothing_happens_is_kept_alive(tmp_path):
    """Whatever stands between us and a browser takes a silent line for a dead one; a change is told in between."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        async with watching(engine, 0.01) as watch:
            card: Any = SimpleNamespace(micro_batch=4)
            views = WalkViews(card, WorkerRegistry(engine), FairQueue(engine))
            with anyio.fail_after(20):
                events = events_of(walk, 0, views, watch, ping_s=0.02)
                assert (await anext(events)).startswith(b"event: walk\ndata: {")
                assert [await anext(events) for _ in range(3)] == [b": ping\n\n"] * 3
                await Progress(engine).move(walk.id, State.WAITING, State.CANCELLED)
                said = [event async for event in events]
    assert said[-1] == b"2"
    assert set(said[:-1]) <= {b": ping\n\n"}


async def test_who_leaves_is_not_looked_for(tmp_path):
    """A browser that is closed must not keep its walk being asked for until it changes."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        catalogue = Catalogue(engine)
        walk = await waiting_walk(catalogue)
        looks: list[str] = []

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def note(_connection, _cursor, statement, *_) -> None:
            if statement.startswith("SELECT walks.id, walks.revision"):
                looks.append(statement)

        async with watching(engine, 0.001) as watch:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as watchers:
                    watchers.start_soon(watch.newer, walk.id, walk.revision)
                    while len(looks) < 3:
                        await anyio.sleep(0.01)
                    watchers.cancel_scope.cancel()
            await FairQueue(engine).counts()
            before = len(looks)
            # A look would be due after each of these.
            for _ in range(50):
                await FairQueue(engine).counts()
    assert len(looks) == before


async def test_a_process_that_ends_lets_its_watchers_go(tmp_path):
    """They will watch from another."""
    async with process(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        walk = await waiting_walk(Catalogue(engine))
        async with watching(engine, AN_HOUR_S) as watch:

            async def end() -> None:
                watch.end()

            assert await told_of(watch, walk, end()) is None
            assert await watch.newer(walk.id, walk.revision) is None
