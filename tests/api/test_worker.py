"""Workers when another worker is lost or stops, and when the bucket or a replica is unavailable."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from sqlalchemy import insert, text

from momalisa_api.fleet.fleet import Fleet
from momalisa_api.metrics import Metrics
from momalisa_api.problems import BucketUnavailable, Unavailable, WalkFailed, WalkNotFound
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.notifications import Listener
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Job, Kind, open_queue
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import claims, workers
from momalisa_api.store.workers import FleetStatus, FleetStatuses, WorkerRegistry
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.work.studio import UPGRADE, Studio
from momalisa_api.work.worker import MAX_TRIES
from tests.support.factories import CARD, ended, running, spec, until_first_frame, until_stalled, write_card

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}


@pytest.fixture
async def known(url: str) -> AsyncIterator[tuple[Catalogue, WorkerRegistry]]:
    """A catalogue with one walk, and the registry of its workers."""
    async with opened(url) as engine:
        async with engine.begin() as connection:
            for table in ("claims", "workers", "asks", "landings", "walks"):
                await connection.execute(text(f"DELETE FROM {table}"))
        await Catalogue(engine).request(spec(), "somebody")
        yield Catalogue(engine), WorkerRegistry(engine)


@pytest.fixture
async def progress(url: str) -> AsyncIterator[Progress]:
    async with opened(url) as engine:
        yield Progress(engine)


async def test_a_lost_worker_counts_once_however_many_shards_it_had(known):
    """One process died, not four."""
    catalogue, registry = known
    for number in range(4):
        assert not await registry.claim(f"job {number}", spec().id, "lost")
    assert [await registry.claim(f"job {number}", spec().id, "next") for number in range(4)] == [True, *[False] * 3]
    assert (await catalogue.get(spec().id)).tries == 1


async def test_a_slow_worker_that_continues_to_claim_counts_once(known):
    """Its heartbeats are late, but it is alive: five of its shards taken over are not five lost workers."""
    catalogue, registry = known
    for number in range(5):
        await registry.claim(f"job {number}", spec().id, "slow")
        assert await registry.claim(f"job {number}", spec().id, "next")
    assert (await catalogue.get(spec().id)).tries == 1


async def test_a_worker_that_reports_again_was_not_lost(known):
    """All workers fall silent while the catalogue is unavailable. Taking over from each other then loses no worker."""
    catalogue, registry = known
    await registry.claim("job", spec().id, "silent")
    await registry.claim("job", spec().id, "next")
    await registry.report("next", 1, {})
    assert (await catalogue.get(spec().id)).tries == 1
    await registry.report("silent", 1, {})
    await registry.report("silent", 1, {})
    assert (await catalogue.get(spec().id)).tries == 0


async def test_a_walk_that_was_deleted_has_no_jobs(known):
    """Its owner deletes it while a replica begins a shard: that is no fault, and no error for the log."""
    catalogue, registry = known
    await catalogue.remove(spec().id)
    with pytest.raises(WalkNotFound):
        await registry.claim("job", spec().id, "next")


async def test_a_worker_that_returns_a_job_is_not_lost(known):
    """Nor is one that claims the same job twice."""
    catalogue, registry = known
    assert not await registry.claim("job", spec().id, "first")
    assert not await registry.claim("job", spec().id, "first")
    await registry.release("job", "first")
    assert not await registry.claim("job", spec().id, "second")
    await registry.release("job", "first")
    assert await registry.claim("job", spec().id, "third"), "a worker must not release the claim of another"
    assert (await catalogue.get(spec().id)).tries == 1


async def test_a_stored_frame_resets_the_tries_of_a_walk(known, progress):
    """A long walk on a cluster that loses machines is not the cause of the losses."""
    catalogue, registry = known
    await registry.claim("job", spec().id, "lost")
    await registry.claim("job", spec().id, "next")
    await progress.note_stored(await catalogue.get(spec().id), [0])
    assert (await catalogue.get(spec().id)).tries == 0


async def test_every_process_reads_the_fleet_status_of_the_workers(known):
    """A web process calls no replica, but shows how many are awake."""
    _, registry = known
    assert (await registry.fleet_status()).of("a") == FleetStatus(0, None)
    await registry.report("one", 4, {"a": FleetStatus(3, 2.0), "b": FleetStatus(2, None)})
    await registry.report("two", 2, {"a": FleetStatus(2, 4.0)})
    status = await registry.fleet_status()
    assert (status.awake, status.of("a"), status.of("b")) == (4, FleetStatus(3, 3.0), FleetStatus(2, None))
    await registry.leave("one")
    assert await registry.fleet_status() == FleetStatuses(2, {"a": FleetStatus(2, 4.0)})


async def test_the_replicas_of_workers_of_the_last_release_are_shown_while_there_are_no_others(known, url):
    """They do not name the model, and during an upgrade workers of both releases report for some minutes."""
    _, registry = known
    async with opened(url) as engine, engine.begin() as connection:
        row = {"id": "old", "replicas_awake": 3, "shard_s": 2.0, "seen_at": datetime.now(UTC)}
        await connection.execute(insert(workers).values(row))
    assert (await registry.fleet_status()).of("a") == FleetStatus(3, 2.0)
    await registry.report("new", 1, {"b": FleetStatus(1, 4.0)})
    status = await registry.fleet_status()
    assert (status.awake, status.of("a"), status.of("b")) == (3, FleetStatus(0, None), FleetStatus(1, 4.0))


async def test_a_shard_that_the_last_release_has_queued_is_rendered(settings, fleet, emptied):
    """Its queue has no model, and the same shard cannot be queued twice."""
    fleet.add()
    async with opened(emptied) as engine, open_queue(engine, Listener(engine), lease_s=10) as queue:
        walk, _ = await Catalogue(engine).request(spec(frames=3), "somebody")
        assert await Progress(engine).plan(walk, walk.layout, [], [[0, 1, 2]])
        await queue.put([Job(Kind.RENDER, walk.id, 1, 0)], walk.tag)
    async with running(settings.model_copy(update={"database_url": emptied}), fleet) as client:
        made = await ended(client, {"state": "waiting", "url": f"/api/v1/walks/{walk.id}"})
    assert made["state"] == "done"


async def test_a_walk_that_kills_one_worker_after_another_fails(settings, fleet):
    """Otherwise it would occupy the deployment for ever."""
    fleet.add(frame_s=3600)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
    for number in range(MAX_TRIES):
        async with opened(settings.database_url) as engine, engine.begin() as connection:
            lost = {"walk_id": walk["id"], "worker": f"lost {number}"}
            jobs = [{"job": f"render/{walk['id']}/1/{shard}", **lost} for shard in range(3)]
            await connection.execute(insert(claims).values(jobs))
        async with running(settings, fleet) as client:
            with anyio.fail_after(10):
                while "momalisa_takeovers_total 1.0" not in (await client.get("/metrics")).text:
                    await anyio.sleep(0.01)
            if number == MAX_TRIES - 1:
                walk = await ended(client, walk)
    assert walk["state"] == "failed"
    assert f"{MAX_TRIES} workers died" in walk["error"]


async def test_a_web_process_accepts_what_a_worker_renders_later(settings, fleet, emptied):
    """It calls no replica, and loses nothing while no worker runs."""
    replica = fleet.add()
    shared = settings.model_copy(update={"database_url": emptied})
    async with running(shared.model_copy(update={"role": "web"}), fleet) as client:
        walk = (await client.post("/api/v1/walks", json={**REQUEST, "seed": 4})).json()
        assert (walk["state"], walk["replicas_awake"]) == ("waiting", 0)
        assert "No replica is running" in walk["message"]
        assert not replica.readiness_checks
        async with running(shared.model_copy(update={"role": "worker"}), fleet) as elsewhere:
            walk = await ended(client, walk)
            assert (await elsewhere.get("/api/v1/model")).status_code == 404
            assert (await elsewhere.get("/readyz")).is_success
    assert walk["state"] == "done"
    assert fleet.frames_rendered == 9


def lose_a_frame(bucket: Path) -> None:
    sorted(bucket.glob("frames/*/*.png"))[3].unlink()


async def test_missing_frames_are_rendered_again_on_request(settings, fleet):
    """The films remain available meanwhile; only missing frames are rendered."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        lose_a_frame(Path(settings.bucket))
        statuses = [(await client.get(f"{walk['url']}/frames/{number}.png")).status_code for number in range(9)]
        gone = await client.get(f"{walk['url']}/frames.zip")
        film = await client.get(f"{walk['url']}/walk.gif")
        assert sorted(statuses) == [*[200] * 8, 410]
        assert (film.status_code, gone.status_code) == (200, 410)
        assert "POST" in gone.json()["detail"]
        again = await client.post("/api/v1/walks", json=REQUEST)
        assert again.status_code == 201
        assert (await client.get(f"{walk['url']}/walk.gif")).status_code == 200
        assert (await ended(client, again.json()))["state"] == "done"
        assert (await client.get(f"{walk['url']}/frames.zip")).status_code == 200
        assert (await client.post("/api/v1/walks", json=REQUEST)).status_code == 200
    assert fleet.frames_rendered == 10


async def test_a_walk_waits_while_the_bucket_is_unavailable_and_continues_by_itself(settings, fleet, monkeypatch):
    """No try is counted, nothing fails, and no request has to be repeated."""
    refused: list[str] = []

    async def refuse(_: object, key: str, *__: object) -> bool:
        refused.append(key)
        raise BucketUnavailable("the bucket does not answer")

    fleet.add()
    async with running(settings, fleet) as client:
        with monkeypatch.context() as outage:
            outage.setattr(FolderBucket, "put", refuse)
            walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
            with anyio.fail_after(20):
                while len(refused) < 4:
                    await asyncio.sleep(0.01)
            walk = (await client.get(walk["url"])).json()
            assert walk["state"] == "rendering"
        walk = await ended(client, walk)
    assert walk["state"] == "done"
    async with opened(settings.database_url) as engine:
        assert (await Catalogue(engine).get(walk["id"])).tries == 0


@pytest.mark.parametrize("roles", [("all",), ("web", "worker")], ids="+".join)
async def test_a_cancelled_walk_stops_its_replicas_without_a_poll(settings, fleet, emptied, roles):
    """The next poll is an hour away: a GPU must not render for nobody meanwhile. One process alone has SQLite."""
    replica = fleet.add(frame_s=3600)
    database = emptied if "worker" in roles else settings.database_url
    async with AsyncExitStack() as stack:
        changes = ({"role": role, "database_url": database, "live_poll_s": 3600.0} for role in roles)
        processes = [running(settings.model_copy(update=change), fleet) for change in changes]
        client, *_ = [await stack.enter_async_context(process) for process in processes]
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        with anyio.fail_after(10):
            while not replica.render_calls:
                await anyio.sleep(0.01)
            assert (await client.delete(walk["url"])).json()["state"] == "cancelled"
            while not replica.closed:
                await anyio.sleep(0.01)


async def test_a_stopping_worker_returns_its_shards_at_once(settings, fleet, emptied):
    """The next worker need not wait for a lease to expire."""
    shared = settings.model_copy(update={"database_url": emptied, "lease_s": 3600.0})
    replica = fleet.add(frame_s=0.01)
    async with running(shared, fleet) as client:
        walk = await until_first_frame(client, (await client.post("/api/v1/walks", json={**REQUEST, "seed": 5})).json())
        replica.frame_s = 3600
    replica.frame_s = 0
    async with running(shared, fleet) as client:
        walk = await ended(client, walk)
        metrics = (await client.get("/metrics")).text
    assert walk["state"] == "done"
    assert "momalisa_takeovers_total 0.0" in metrics


async def test_a_walk_of_a_model_that_was_replaced_fails_and_holds_up_no_other(settings, fleet, tmp_path):
    """The operator changed the model while a long walk was rendered: its frames can never be rendered again."""
    replica = fleet.add()
    async with running(settings, fleet) as client:
        long = (await client.post("/api/v1/walks", json={**REQUEST, "frames": 241})).json()
        long = await until_stalled(client, await until_first_frame(client, long), replica)
    (tmp_path / "next").mkdir()
    replica.stalled, replica.card = False, {**CARD, "model": "next-model", "revision": "2"}
    changed = settings.model_copy(update={"model_card": write_card(tmp_path / "next", replica.card)})
    async with running(changed, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        assert (await ended(client, walk))["state"] == "done"
        long = await ended(client, long)
    assert long["state"] == "failed"
    assert "test-model (1), which is not served any more" in long["error"]
    assert "with next-model (2)" in long["error"]
    assert long["frames_ready"]


async def test_while_the_model_changes_a_walk_waits_for_a_worker_with_its_model(tmp_path):
    """Old workers run beside new web processes for a while, and take jobs of walks that need the new model."""
    card = ModelCard.model_validate(CARD)
    async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine, httpx.AsyncClient() as client:
        catalogue, progress = Catalogue(engine), Progress(engine)
        models = ModelRegistry(engine, [card.model], card)
        fleet = Fleet("http://nowhere", client, models, Metrics(), refresh_s=1, shard_tries=1, backups=False)
        async with open_queue(engine, Listener(engine), lease_s=10) as queue:
            parts = (models, catalogue, progress, FolderBucket(tmp_path / "bucket"), queue, fleet)
            older = Studio(*parts)
            walk, _ = await catalogue.request(spec(model="next-model"), "somebody")
            newer = Studio(*parts)
            await older.do(Job(Kind.PLAN, walk.id, 0), walk, anyio.lowlevel.checkpoint)
            walk, shard = await catalogue.get(walk.id), Job(Kind.RENDER, walk.id, 1)
            with pytest.raises(Unavailable, match="has no replica of next-model"):
                await older.do(shard, walk, anyio.lowlevel.checkpoint)
            with pytest.raises(WalkFailed, match="not served any more"):
                await newer.do(shard, walk, anyio.lowlevel.checkpoint)
            with pytest.raises(WalkFailed, match="not served any more"):
                await older.do(shard, replace(walk, created_at=datetime.now(UTC) - UPGRADE), anyio.lowlevel.checkpoint)
