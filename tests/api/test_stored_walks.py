"""Walks that another release stored: older ones are read forward, unreadable ones do not disturb the others."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from structlog.testing import capture_logs

from momalisa_api.app import open_bucket
from momalisa_api.problems import Gone, WalkNotFound
from momalisa_api.settings import Settings
from momalisa_api.store import schema
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.fair_queue import FairQueue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.queue import migrate_queue
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import walks
from momalisa_api.walks.between import ADDED_FIELDS, BetweenSpec
from momalisa_api.walks.spec import SPEC_VERSION, spec_from_stored
from tests.support.factories import ended, painted, running, spec
from tests.support.postgres import new_database

pytestmark = pytest.mark.anyio
REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(schema._alembic()).walk_revisions())
DONE, OPEN = "0" * 31 + "d", "0" * 31 + "e"
RECIPE: dict[str, Any] = {
    "negative_prompt": "",
    "seed": 0,
    "width": 32,
    "height": 32,
    "steps": 4,
    "guidance_scale": 4.0,
    "scheduler": "DDIMScheduler",
    "model": "test-model",
    "revision": "1",
    "start": "a giraffe",
    "end": "a battleship",
}


def spec_of(revision: str) -> dict[str, Any]:
    """A spec as the release with this schema stored it."""
    settings = {name: value for name, value in RECIPE.items() if name not in ("start", "end")}
    stored = {**settings, "stops": [RECIPE["start"], RECIPE["end"]], "frames": 3, "frame_ms": 80}
    stored |= {"gif_there_and_back": True, "mp4_there_and_back": False}
    return stored if revision < "0006" else {**stored, "spacing": "uniform"}


def row_of(revision: str, walk_id: str, state: str) -> dict[str, Any]:
    """A row of the table `walks`; a revision has some of these columns."""
    return {
        "id": walk_id,
        "spec": spec_of(revision),
        "spec_version": 2,
        "stops": "a giraffe\na battleship",
        "frames": 3,
        "state": state,
        "revision": 4,
        "tries": 0,
        "tag": 0,
        "plans": 0,
        "films": ["walk.gif"] if state == "done" else [],
        "warnings": [],
        "hidden": False,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }


async def add_walks(engine: AsyncEngine, revision: str) -> None:
    """Add a finished walk and one that is being rendered, as the release with this schema would."""

    def tables(connection: Any) -> list[Table]:
        reflected = MetaData()
        reflected.reflect(connection, only=("walks", "asks", "landings"))
        return [reflected.tables[name] for name in ("walks", "asks", "landings")]

    async with engine.begin() as connection:
        walks, asks, landings = await connection.run_sync(tables)
        columns = {column["name"] for column in await connection.run_sync(lambda c: inspect(c).get_columns("walks"))}
        for walk_id, state in ((DONE, "done"), (OPEN, "rendering")):
            row = row_of(revision, walk_id, state)
            await connection.execute(walks.insert().values({name: row[name] for name in row.keys() & columns}))
            asked = {"walk_id": walk_id, "owner": "cookie:1", "listed": True, "asked_at": row["created_at"]}
            await connection.execute(asks.insert().values(asked))
        await connection.execute(landings.insert().values(walk_id=OPEN, frame=0))


async def store_pictures(folder: Path) -> None:
    """Store the frames and the film of the finished walk."""
    canonical = json.dumps(RECIPE, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    recipe_id = hashlib.sha256(canonical.encode()).hexdigest()[:32]
    async with aclosing(FolderBucket(folder)) as bucket:
        for fraction in (0.0, 0.5, 1.0):
            await bucket.put(f"frames/{recipe_id}/{fraction!r}.png", painted(RECIPE, fraction))
        await bucket.put(f"walks/{DONE}/walk.gif", b"GIF89a")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_walks_of_every_older_schema_are_shown_after_an_upgrade(url, revision, settings, fleet):
    """An upgrade must lose no walk: the finished one is shown with its pictures, the other one is finished."""
    if url.startswith("postgresql"):
        url = await new_database(url, f"schema-{revision}")
    engine = open_engine(url)
    await schema.migrate(engine, revision)
    await add_walks(engine, revision)
    await schema.migrate(engine)
    await migrate_queue(engine)
    await engine.dispose()
    await store_pictures(Path(settings.bucket))
    async with running(settings.model_copy(update={"database_url": url}), fleet) as client:
        page = (await client.get(f"/api/v1/walks?model={RECIPE['model']}")).json()
        assert {walk["id"] for walk in page["walks"]} == {DONE, OPEN}
        assert {walk["spec"]["spacing"] for walk in page["walks"]} == {"uniform"}
        for name in ("frames/0.png", "frames/2.png", "walk.gif", "frames.zip"):
            assert (await client.get(f"/api/v1/walks/{DONE}/{name}")).status_code == 200
        finished = await ended(client, {"state": "rendering", "url": f"/api/v1/walks/{OPEN}"})
    assert (finished["state"], finished["frames_ready"]) == ("done", [0, 1, 2])
    assert fleet.frames_rendered == 0, "all its frames are in the bucket"


def test_every_field_that_a_version_adds_has_a_meaning_for_older_specs():
    """Whoever adds a field to the spec increases the version."""
    assert sorted(ADDED_FIELDS) == list(range(2, SPEC_VERSION + 1))
    added = {name for fields in ADDED_FIELDS.values() for name in fields}
    assert set(BetweenSpec.model_fields) - added == set(spec_of("0001")), (
        "increase SPEC_VERSION and extend ADDED_FIELDS"
    )


def test_a_walk_of_the_last_release_keeps_its_id():
    """The same request finds the walk that was made before the upgrade."""
    old = {**spec_of("0008"), "spacing": "even"}
    canonical = json.dumps(old, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    read = spec_from_stored(old, 2)
    assert read.effort == "balanced"
    assert read.id == hashlib.sha256(canonical.encode()).hexdigest()[:32]


@pytest.mark.parametrize(("effort", "version"), [("balanced", 2), ("fast", 3), ("best", 3)])
def test_a_spec_is_stored_in_the_oldest_version_that_means_the_same(effort, version):
    """So workers of the last release can read the usual walks while an upgrade runs."""
    walk = spec(spacing="even", effort=effort)
    content, stored_version = walk.to_stored()
    assert (stored_version, "effort" in content) == (version, version == 3)
    assert spec_from_stored(content, version) == walk
    assert (walk.id == spec(spacing="even").id) is (effort == "balanced")


@pytest.mark.parametrize("version", [0, SPEC_VERSION + 1])
def test_a_spec_of_an_unknown_version_is_refused(version):
    """A newer release may have given a field another meaning."""
    with pytest.raises(ValueError, match="this release reads 1 to"):
        spec_from_stored(spec().model_dump(mode="json"), version)


async def damage(connection: AsyncConnection, walk_id: str, **columns: Any) -> None:
    await connection.execute(update(walks).where(walks.c.id == walk_id).values(columns))


DAMAGED: list[dict[str, Any]] = [
    {"spec": {"stops": ["a giraffe"]}},
    {"spec": {**spec().model_dump(mode="json"), "spacing": "curly"}},
    {"spec": ["no", "object"]},
    {"spec_version": SPEC_VERSION + 1},
    {"state": "dreaming"},
    {"films": 5},
    {"layout": {"points": "none"}},
    {"plan": 7},
    {"smoothness": {"evenness": "very"}},
    {"smoothness": 0},
    {"spec": {**spec().model_dump(mode="json"), "stops": ["a giraffe"]}},
    {"spec": {**spec().model_dump(mode="json"), "frames": 1}},
    {"layout": {"seed": 0, "settled": False, "points": []}},
    {"layout": {"seed": 0, "settled": False, "points": [[0, 1, 0.5]]}},
    {"state": "done", "layout": {"seed": 0, "settled": False, "points": [[0, 0, 0.5]]}},
    {"plan": [[0, 25]]},
    {"films": [5]},
    {"warnings": [None]},
]


@pytest.mark.parametrize("columns", DAMAGED, ids=lambda columns: json.dumps(columns)[:40])
async def test_an_unreadable_walk_is_left_out_logged_once_and_counted(engine, columns):
    """One bad row must not take the gallery from everybody."""
    catalogue, gallery = Catalogue(engine), Gallery(engine)
    bad, good = [(await catalogue.request(spec(seed=seed), "somebody"))[0].id for seed in range(2)]
    async with engine.begin() as connection:
        await damage(connection, bad, **columns)
    with capture_logs() as log:
        for _ in range(2):
            assert [walk.id for walk in (await gallery.page()).walks] == [good]
            assert (await gallery.page(owner="somebody")).next_cursor is None
            assert good in {walk.id async for walk in catalogue.open_walks()}
            assert set(await catalogue.read([bad, good])) == {good}
            assert await gallery.listed_walk(bad) is None
    assert [(line["log_level"], line["walk"]) for line in log] == [("error", bad)]
    with pytest.raises(Gone, match="momalisa purge"):
        await catalogue.get(bad)
    assert await catalogue.count_unreadable() == 1
    await catalogue.remove(bad)
    assert await catalogue.count_unreadable() == 0
    with pytest.raises(WalkNotFound):
        await catalogue.get(bad)


@pytest.mark.parametrize("columns", [{"spec_version": SPEC_VERSION + 1}, {"spec": {}}], ids=str)
async def test_the_autoscaler_keeps_no_replica_for_an_unreadable_walk(engine, columns):
    """Nothing renders it, so it would stay pending for ever, for example after a rollback."""
    catalogue = Catalogue(engine)
    bad, _ = await catalogue.request(spec(frames=9), "somebody")
    await catalogue.request(spec(frames=5), "somebody")
    async with engine.begin() as connection:
        await damage(connection, bad.id, **columns)
    assert [walk.spec.frames async for walk in catalogue.open_walks()] == [5]
    assert await FairQueue(engine).frames_pending() == {spec().model: 5}


async def test_an_unreadable_walk_is_replaced_when_it_is_requested_again(engine):
    """The request says everything that the row has lost."""
    catalogue = Catalogue(engine)
    await catalogue.request(spec(), "somebody")
    async with engine.begin() as connection:
        await damage(connection, spec().id, spec={})
    walk, new = await catalogue.request(spec(), "somebody else")
    assert (walk.spec, new) == (spec(), True)
    assert await catalogue.count_unreadable() == 0


async def test_pages_with_unreadable_walks_are_full_and_complete(engine):
    """A page that is shorter than the limit looks like the last one."""
    catalogue, gallery = Catalogue(engine), Gallery(engine)
    ids = [(await catalogue.request(spec(seed=seed), "somebody"))[0].id for seed in range(8)]
    async with engine.begin() as connection:
        for number in (0, 3, 4, 5, 7):
            await damage(connection, ids[number], spec={})
    first = await gallery.page(limit=2)
    second = await gallery.page(limit=2, before=first.next_cursor)
    assert [walk.spec.seed for walk in first.walks] == [6, 2]
    assert [walk.spec.seed for walk in second.walks] == [1]
    assert second.next_cursor is None


async def test_a_sqlite_column_that_is_no_json_is_unreadable_too(tmp_path):
    """SQLite stores any text, and SQLAlchemy would fail the whole query."""
    async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        await Catalogue(engine).request(spec(), "somebody")
        await Catalogue(engine).request(spec(seed=1), "somebody")
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE walks SET spec = '{' WHERE id = :id"), {"id": spec().id})
        assert [walk.spec.seed for walk in (await Gallery(engine).page()).walks] == [1]


@asynccontextmanager
async def with_an_unreadable_walk(settings: Settings) -> AsyncIterator[str]:
    """The id of an open walk that cannot be read."""
    async with opened(settings.database_url) as engine:
        walk, _ = await Catalogue(engine).request(spec(), "somebody")
        async with engine.begin() as connection:
            await damage(connection, walk.id, spec={})
        yield walk.id


async def metric(client: httpx.AsyncClient) -> str:
    lines = (await client.get("/metrics")).text.splitlines()
    return next(line for line in lines if line.startswith("momalisa_walks_unreadable"))


async def test_a_deployment_works_beside_an_unreadable_walk(settings, fleet):
    """The reconciler, the gallery and the metrics; its own URLs say what to do, and a purge deletes it."""
    settings = settings.model_copy(update={"reconcile_s": 0.02})
    async with with_an_unreadable_walk(settings) as bad:
        with capture_logs() as log:
            async with running(settings, fleet) as client:
                request = {"start": "a giraffe", "end": "a star", "frames": 3, "spacing": "uniform"}
                walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
                await anyio.sleep(0.1)
                assert [found["id"] for found in (await client.get("/api/v1/walks")).json()["walks"]] == [walk["id"]]
                for path in ("", "/events", "/request", "/frames/0.png", "/walk.gif", "/frames.zip"):
                    answer = await client.get(f"/api/v1/walks/{bad}{path}")
                    assert (answer.status_code, answer.json()["type"]) == (410, "urn:momalisa:problem:gone")
                assert (await metric(client)).endswith(" 1.0")
                async with opened(settings.database_url) as engine, aclosing(open_bucket(settings)) as bucket:
                    await Erasures(engine, bucket).purge(bad)
                assert (await metric(client)).endswith(" 0.0")
    assert walk["state"] == "done"
    assert sum(line.get("walk") == bad and line["log_level"] == "error" for line in log) == 1
    assert not [line for line in log if line["event"] == "periodic task failed, it will be retried"]


async def test_warnings_that_cannot_be_read_do_not_fail_a_walk(settings, fleet):
    """They lie beside the frames in the bucket, for other walks that use these."""
    recipe = spec(("a giraffe", "a star")).recipes(0)[0]
    async with aclosing(FolderBucket(Path(settings.bucket))) as bucket:
        await bucket.put(recipe.truncated_key, b'{"an": "object"')
    async with running(settings, fleet) as client:
        request = {"start": "a giraffe", "end": "a star", "frames": 3, "spacing": "uniform"}
        walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
    assert (walk["state"], walk["warnings"]) == ("done", [])


async def test_a_purge_reads_only_walks_that_may_share_frames(engine, tmp_path):
    """A gallery has a hundred thousand walks; here, the others would be noticed because they cannot be read."""
    catalogue = Catalogue(engine)
    legs = {
        "the same": ("a giraffe", "a battleship"),
        "in the middle": ("a star", "a giraffe", "a battleship", "a wave"),
        "in other letters": ("A GIRAFFE", "a battleship"),
        "backwards": ("a battleship", "a giraffe"),
        "with a stop between": ("a giraffe", "a star", "a battleship"),
    }
    ids = {name: (await catalogue.request(spec(stops, 4, seed=7), "me"))[0].id for name, stops in legs.items()}
    purged, _ = await catalogue.request(spec(frames=3, seed=7), "me")
    async with engine.begin() as connection:
        for name in ("backwards", "with a stop between"):
            await damage(connection, ids[name], spec={})
    async with aclosing(FolderBucket(tmp_path)) as bucket:
        for frame in (*purged.frames, *(await catalogue.get(ids["the same"])).frames):
            await bucket.put(frame.key, b"")
        with capture_logs() as log:
            assert await Erasures(engine, bucket).purge(purged.id) == 1, "the frame at 0.5"
    assert log == []
    async with engine.connect() as connection:
        assert len((await connection.execute(select(walks.c.id))).all()) == 5
