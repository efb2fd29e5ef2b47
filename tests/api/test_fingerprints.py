"""Walks on replicas with unlike fingerprints: each keeps to one of them, and where it cannot, it says so."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from PIL import Image
from sqlalchemy import text

from momalisa_api.app import open_bucket
from momalisa_api.fleet.dispatch import HANGING_FACTOR, ReplicaSlot, ShardQueue, ShardTask
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.replica import Replica
from momalisa_api.fleet.wire import ModelAnswer, RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.settings import Settings
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import opened
from momalisa_api.walks.fingerprints import MIXED
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Shard, plan_shards
from tests.support.factories import (
    CARD,
    KEY,
    FakeFleet,
    MemoryModels,
    ended,
    frames_of,
    running,
    spec,
    until_first_frame,
)

pytestmark = pytest.mark.anyio
A, B = "a" * 16, "b" * 16
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 17, "spacing": "uniform"}
WALK = spec(frames=17)
SHARDS = plan_shards(WALK.id, frames_of(WALK), 4)


@asynccontextmanager
async def dispatching(fleet: FakeFleet, awake: int, **options: Any) -> AsyncIterator[Fleet]:
    """A fleet of fake replicas, once this many can take work."""
    settings: dict[str, Any] = {"refresh_s": 0.05, "shard_tries": 4, "backups": False, **options}
    async with fleet.client() as client, anyio.create_task_group() as tasks:
        replicas = Fleet(fleet.addresses, client, MemoryModels(), Metrics(), **settings)
        tasks.start_soon(replicas.run)
        with anyio.fail_after(10):
            while replicas.awake < awake:
                await replicas.wait_awake(KEY)
                await anyio.sleep(0.01)
        yield replicas
        tasks.cancel_scope.cancel()


async def render(replicas: Fleet, fingerprint: str, shards: list[Shard] = SHARDS) -> list[float]:
    """Render shards of a walk that keeps to a fingerprint. Returns the fractions that arrived."""
    came: list[float] = []

    async def one(shard: Shard) -> None:
        async for event in replicas.render(shard, 0, fingerprint):
            if isinstance(event, RenderedFrame):
                came.append(event.fraction)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for shard in shards:
                tasks.start_soon(one, shard)
    return sorted(came)


ALL = sorted(frame.fraction for frame in frames_of(WALK))


async def request(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    walk: dict[str, Any] = (await client.post("/api/v1/walks", json={**REQUEST, **changes})).json()
    return walk


def stored(settings: Settings, name: str) -> list[Path]:
    """Objects in the frames' folders."""
    return list(Path(settings.bucket).glob(f"frames/*/{name}"))


async def named_in_film(client: httpx.AsyncClient, walk: dict[str, Any]) -> list[str | None]:
    """The fingerprints in the metadata of a walk's GIF."""
    gif = await client.get(walk["url"] + "/walk.gif")
    with Image.open(io.BytesIO(gif.content)) as picture:
        found: list[str | None] = json.loads(picture.info["comment"])["fingerprints"]
    return found


async def test_a_walk_keeps_to_one_fingerprint_while_replicas_of_it_are_awake(settings, fleet):
    """Two kinds of GPUs round differently: a walk of both would tremble."""
    replicas = [fleet.add(fingerprint=name) for name in (A, B, A)]
    async with running(settings, fleet) as client:
        walk = await ended(client, await request(client))
        assert await named_in_film(client, walk) == [A]
    assert [bool(replica.render_calls) for replica in replicas] == [True, False, True]
    assert walk["warnings"] == []


async def test_a_walk_whose_replicas_are_gone_goes_on_with_others_and_says_so(settings, fleet):
    """It must not wait for ever, and its films must not hide what they are made of."""
    first, other = fleet.add(fingerprint=A, dies_after=6), fleet.add(fingerprint=B)
    async with running(settings, fleet) as client:
        walk = await ended(client, await request(client))
        assert await named_in_film(client, walk) == [A, B]
    assert (first.sent, other.sent) == (6, 11)
    assert walk["warnings"] == [MIXED]


async def test_a_second_walk_goes_to_the_idle_replicas_of_the_other_fingerprint(settings, fleet):
    """Otherwise half of a fleet would starve while walks wait for the other half."""
    first, other = fleet.add(fingerprint=A), fleet.add(fingerprint=B)
    first.stalled = True
    async with running(settings.model_copy(update={"backup_shards": False}), fleet) as client:
        await request(client)
        with anyio.fail_after(10):
            while not first.render_calls:
                await anyio.sleep(0.01)
        walk = await ended(client, await request(client, seed=1))
        assert await named_in_film(client, walk) == [B]
    assert other.sent == REQUEST["frames"]


async def test_a_walk_keeps_to_the_fingerprint_of_the_frames_that_it_finds(settings, fleet):
    """Frames belong to a recipe: a walk of 17 uses those of 9, and the others must fit to them."""
    first, other = fleet.add(fingerprint=B), fleet.add(fingerprint=A, ready=False)
    async with running(settings, fleet) as client:
        short = await ended(client, await request(client, frames=9))
        other.ready = True
        with anyio.fail_after(10):
            while (await client.get(short["url"])).json()["replicas_awake"] < 2:
                await anyio.sleep(0.01)
        walk = await ended(client, await request(client))
        assert await named_in_film(client, walk) == [B]
    assert (first.sent, other.sent, walk["warnings"]) == (17, 0, [])


@pytest.mark.parametrize("known", [True, False])
async def test_a_walk_that_adds_to_frames_of_others_says_so(settings, fleet, known):
    """Frames that the last release stored tell no fingerprint: their walk may be mixed, and so may later ones."""
    first = fleet.add(fingerprint=B)
    async with running(settings, fleet) as client:
        await ended(client, await request(client, frames=9))
        for mark in [] if known else stored(settings, "fingerprint-*"):
            mark.unlink()
        first.fingerprint = A
        walk = await ended(client, await request(client))
        later = await ended(client, await request(client, frame_ms=100))
        for mixed in (walk, later):
            assert sorted(await named_in_film(client, mixed), key=str) == ([A, B] if known else [None, A])
    assert walk["warnings"] == later["warnings"] == [MIXED]


async def test_a_fingerprint_is_in_the_bucket_before_its_first_frame(settings, fleet):
    """Another walk that finds the frame must find its fingerprint."""
    fleet.add(fingerprint=A, dies_after=1)
    async with running(settings, fleet) as client:
        await until_first_frame(client, await request(client))
    [mark] = stored(settings, "fingerprint-*")
    [frame] = stored(settings, "*.png")
    assert mark.stat().st_mtime_ns < frame.stat().st_mtime_ns


async def test_a_purge_leaves_the_fingerprints_of_frames_that_another_walk_uses(settings, fleet):
    """Otherwise the next walk that adds frames to them would not know that it mixes."""
    fleet.add(fingerprint=A)
    async with running(settings, fleet) as client:
        await ended(client, await request(client, frames=9))
        long = await ended(client, await request(client))
        async with opened(settings.database_url) as engine:
            await Erasures(engine, open_bucket(settings)).purge(long["id"])
    assert len(stored(settings, f"fingerprint-{A}.txt")) == 1


async def test_a_replica_that_lost_a_shard_once_tries_again_before_others_mix(fleet):
    """One lost connection is no reason; two losses are."""
    first, other = fleet.add(fingerprint=A, refusal=(500, "once")), fleet.add(fingerprint=B)
    async with dispatching(fleet, 2) as replicas:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(render, replicas, A, SHARDS[:1])
                while not first.refusals:
                    await anyio.lowlevel.checkpoint()
                first.refusal = None
        assert not other.render_calls
        first.refusal = (500, "always")
        await render(replicas, A, SHARDS[:1])
    assert other.sent == len(SHARDS[0].fractions)


async def test_a_replica_without_the_memory_for_a_walk_leaves_it_to_others(fleet):
    """The larger of two kinds of GPUs can render it."""
    small, large = fleet.add(fingerprint=A, refusal=(507, "too little")), fleet.add(fingerprint=B)
    async with dispatching(fleet, 2) as replicas:
        await render(replicas, A, SHARDS[:1])
    assert (small.refusals, large.sent) == (1, len(SHARDS[0].fractions))


async def test_a_replica_that_came_back_with_another_fingerprint_stores_nothing_of_it(fleet):
    """It was started again with another image since the last check; only its answer tells."""
    fleet.add(fingerprint=A, frame_s=0.01)
    changed = fleet.add(fingerprint=A, frame_s=0.01)
    async with dispatching(fleet, 2, refresh_s=60) as replicas:
        changed.fingerprint = B
        assert await render(replicas, A) == ALL
    assert len(changed.render_calls) == 1
    assert fleet.replicas["replica-1"].sent == len(ALL)


async def test_a_replica_whose_fingerprint_is_no_word_gets_no_work(fleet):
    """The fingerprint becomes a part of a key in the bucket."""
    odd = fleet.add(fingerprint="../" + A)
    fleet.add(fingerprint=A)
    async with dispatching(fleet, 1) as replicas:
        assert await render(replicas, A) == ALL
        assert replicas.awake == 1
    assert odd.render_calls == []


@pytest.mark.parametrize(
    ("slot_of", "times_as_long", "helps"), [(A, 2, True), (B, 2, False), (B, HANGING_FACTOR, True)]
)
async def test_replicas_with_another_fingerprint_take_over_only_runs_that_hang(slot_of, times_as_long, helps):
    """A late run is common on a busy machine, and its frames will still come. A run that hangs would take minutes."""
    holder, idle = slot(A, shard_s=1.0), slot(slot_of, shard_s=1.0)
    queue = ShardQueue(lambda: (holder, idle), Metrics(), backups=True, first_guess_s=1, first_left_out_s=1)
    with queued(queue) as task:
        assert await queue.next_for(holder, 0.01) is task
        queue.begin(task, holder).started -= times_as_long
        assert (await queue.next_for(idle, 0.01) is task) is helps


async def test_a_run_that_hangs_is_left_to_a_replica_of_its_own_fingerprint(fleet):
    """It comes as soon as that one is idle."""
    holder, alike, idle = slot(A, shard_s=1.0), slot(A, shard_s=1.0), slot(B, shard_s=1.0)
    queue = ShardQueue(lambda: (holder, alike, idle), Metrics(), backups=True, first_guess_s=1, first_left_out_s=1)
    with queued(queue) as task:
        assert await queue.next_for(holder, 0.01) is task
        queue.begin(task, holder).started -= 2 * HANGING_FACTOR
        assert await queue.next_for(idle, 0.01) is None
        assert await queue.next_for(alike, 0.01) is task


def slot(fingerprint: str, shard_s: float) -> ReplicaSlot:
    nobody: Any = None
    made = ReplicaSlot(Replica("http://replica", nobody), fit=True, shard_s={KEY: shard_s})
    made.hold({KEY: ModelAnswer(card=ModelCard.model_validate(CARD), fingerprint=fingerprint)})
    return made


@contextmanager
def queued(queue: ShardQueue) -> Iterator[ShardTask]:
    """A task of a walk that keeps to A, in the queue."""
    send, receive = anyio.create_memory_object_stream[Any](0)
    task = ShardTask(SHARDS[0].recipe, set(SHARDS[0].fractions), send, fingerprint=A)
    queue.add(task)
    with receive:
        yield task
    queue.drop(task)


@pytest.fixture
async def recorded(url: str) -> AsyncIterator[tuple[Catalogue, Progress]]:
    """A catalogue with one walk."""
    async with opened(url) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM walks"))
        await Catalogue(engine).request(WALK, "somebody")
        yield Catalogue(engine), Progress(engine)


async def test_of_two_workers_that_choose_a_fingerprint_at_once_one_decides(recorded):
    """Replicas of both kinds wake up at once, and each worker sees another one first."""
    catalogue, progress = recorded
    assert (await catalogue.get(WALK.id)).fingerprint is None
    assert [await progress.keep_to(WALK.id, name) for name in (B, A)] == [B, B]
    assert await progress.frames_by_fingerprint(WALK.model) == {B: WALK.frames}


async def test_a_walk_keeps_to_what_rendered_it_and_not_to_what_it_should_have_kept_to(recorded):
    """Replicas that went away before they rendered anything must not mix in when they come back."""
    catalogue, progress = recorded
    await progress.keep_to(WALK.id, A)
    walk = await catalogue.get(WALK.id)
    for name in (B, A, B):
        await progress.rendered_by(walk, name)
    walk = await catalogue.get(WALK.id)
    assert (walk.fingerprint, walk.fingerprints, walk.warnings) == (B, (B, A), (MIXED,))
