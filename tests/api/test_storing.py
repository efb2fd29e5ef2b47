"""How frames get into the bucket and the catalogue: many at a time, and in the right order."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from momalisa_api import app as assembler
from momalisa_api.concurrency import SingleFlight, task_group
from momalisa_api.problems import CatalogueUnavailable, Unavailable
from momalisa_api.store.folder import FolderBucket
from momalisa_api.work import listings
from momalisa_api.work.listings import Listings
from momalisa_api.work.notes import Notes
from tests.support.factories import ended, running
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 12, "spacing": "uniform"}


class HeldUp(FolderBucket):
    """Stores no frame before it may, and counts listings of recipes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.may = anyio.Event()
        self.arrived: list[str] = []
        self.listings = 0

    async def put(self, key: str, content: bytes) -> bool:
        if key.endswith(".png"):
            self.arrived.append(key)
            await self.may.wait()
        return await super().put(key, content)

    async def present(self, prefix: str) -> frozenset[str]:
        self.listings += prefix.startswith("frames/")
        return await super().present(prefix)


@pytest.fixture
def bucket(settings, monkeypatch) -> HeldUp:
    made = HeldUp(Path(settings.bucket))
    monkeypatch.setattr(assembler, "open_bucket", lambda _: made)
    return made


async def test_a_replica_renders_its_next_shards_while_the_bucket_stores_the_last_ones(settings, fleet, bucket):
    """A call to an object store takes as long as some frames on a GPU. No frame is recorded before it is stored."""
    replica = fleet.add()
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        await until(lambda: len(bucket.arrived) == 12)
        assert len(replica.render_calls) == 3
        walk = (await client.get(walk["url"])).json()
        assert walk["frames_ready"] == []
        bucket.may.set()
        walk = await ended(client, walk)
    assert walk["state"] == "done"
    assert len(bucket.arrived) == 12


async def test_a_replica_waits_for_a_bucket_that_is_slower(settings, fleet, bucket, monkeypatch):
    """Frames that wait take memory."""
    monkeypatch.setattr("momalisa_api.work.studio.MAX_FRAMES_IN_FLIGHT", 5)
    replica = fleet.add()
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        await until(lambda: len(bucket.arrived) == 5)
        with anyio.move_on_after(0.5):
            await until(lambda: replica.sent == 12)
        assert len(bucket.arrived) == 5
        assert replica.sent < 12
        bucket.may.set()
        assert (await ended(client, walk))["state"] == "done"


async def test_shards_that_begin_together_list_their_recipe_once(settings, fleet, bucket):
    """A call for each shard would cost more time than a small shard on a GPU."""
    fleet.add()
    bucket.may.set()
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frames": 40})).json())
    assert walk["state"] == "done"
    assert bucket.listings < 10


async def test_a_listing_is_not_used_for_long(tmp_path, monkeypatch):
    """A shard that was taken over must not render again what the lost worker stored."""
    bucket = FolderBucket(tmp_path)
    shared = Listings(bucket)
    assert await shared.recent("frames/a/") == frozenset()
    await bucket.put("frames/a/0.0.png", b"")
    assert await shared.recent("frames/a/") == frozenset()
    assert await shared.present("frames/a/") == {"frames/a/0.0.png"}
    assert await shared.recent("frames/a/") == {"frames/a/0.0.png"}
    await bucket.put("frames/a/1.0.png", b"")
    monkeypatch.setattr(listings, "RECENT_S", 0.0)
    assert len(await shared.recent("frames/a/")) == 2


class SlowProgress:
    """Records one call for each release of `turns`. failing: whether the next call fails."""

    def __init__(self) -> None:
        self.turns = anyio.Semaphore(0)
        self.calls: list[list[int]] = []
        self.failing = False

    async def note_stored(self, walk: Any, numbers: list[int]) -> None:
        self.calls.append(numbers)
        await self.turns.acquire()
        if self.failing:
            raise CatalogueUnavailable("away")


WALK: Any = SimpleNamespace(id="walk", plans=1)


async def test_frames_that_arrive_while_others_are_recorded_need_one_transaction():
    """The first one is not held up: visitors watch for it."""
    progress = SlowProgress()
    notes = Notes(progress)
    async with anyio.create_task_group() as tasks:
        for number in range(9):
            tasks.start_soon(notes.stored, WALK, [number])
            await anyio.wait_all_tasks_blocked()
        progress.turns.release()
        progress.turns.release()
    assert progress.calls == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]


async def test_every_frame_of_a_batch_fails_with_it():
    """A frame that seems recorded would never be recorded again."""
    progress, failed = SlowProgress(), list[int]()
    notes = Notes(progress)

    async def store(number: int) -> None:
        try:
            await notes.stored(WALK, [number])
        except Unavailable:
            failed.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(store, number)
            await anyio.wait_all_tasks_blocked()
        progress.turns.release()
        await anyio.wait_all_tasks_blocked()
        progress.failing = True
        progress.turns.release()
    assert failed == [1, 2, 3]
    assert len(progress.calls) == 2


async def test_a_batch_outlives_the_task_that_records_it():
    """A shard can be cancelled while others of the same walk go on."""
    progress, scopes, recorded = SlowProgress(), [anyio.CancelScope() for _ in range(3)], list[int]()
    notes = Notes(progress)

    async def store(number: int) -> None:
        with scopes[number]:
            await notes.stored(WALK, [number])
            recorded.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(store, number)
            await anyio.wait_all_tasks_blocked()
        progress.turns.release()
        await anyio.wait_all_tasks_blocked()
        assert progress.calls == [[0], [1, 2]]
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        progress.turns.release()
    assert progress.calls == [[0], [1, 2], [1, 2]]
    assert recorded == [0, 2]


async def test_calls_at_the_same_time_are_one_call_and_share_its_outcome():
    """Its result, and its exception too; but another one makes the call if its task is cancelled."""
    flights, may, calls, outcomes = SingleFlight[int](), anyio.Semaphore(0), list[int](), list[int | str]()
    first = anyio.CancelScope()

    async def act() -> int:
        calls.append(len(calls))
        await may.acquire()
        if len(calls) == 3:
            raise CatalogueUnavailable("away")
        return calls[-1]

    async def call(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                outcomes.append(await flights.do("key", act))
            except Unavailable as error:
                outcomes.append(str(error))

    async with anyio.create_task_group() as tasks:
        for scope in (first, anyio.CancelScope(), anyio.CancelScope()):
            tasks.start_soon(call, scope)
            await anyio.wait_all_tasks_blocked()
        assert calls == [0]
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        may.release()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(call, anyio.CancelScope())
            await anyio.wait_all_tasks_blocked()
        may.release()
    assert outcomes == [1, 1, "away", "away"]


async def test_a_task_group_raises_the_exception_itself():
    """Callers tell an outage from a failure by its class."""

    async def away() -> None:
        raise CatalogueUnavailable("away")

    async def nested() -> None:
        async with task_group() as outer, anyio.create_task_group() as inner:
            outer.start_soon(anyio.sleep_forever)
            inner.start_soon(away)

    with pytest.raises(CatalogueUnavailable, match="away"):
        await nested()
