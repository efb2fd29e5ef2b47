"""Files that a walk has beside its frames: from the replica into the bucket, to those who may read the walk."""

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from PIL import Image
from sqlalchemy import select

from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.expiry import Expiry, Kept
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import walks
from tests.support import exiftool
from tests.support.factories import CARD, FakeReplica, ended, running
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.anyio
DEPTH = {**CARD, "model": "depth", "engine": "parallax", "size_multiple": 2, "width": 64, "height": 64}
MASKS = json.dumps({"width": 64, "height": 48, "instances": []}).encode()


def png(mode: str) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (64, 48)).save(out, "PNG")
    return out.getvalue()


EXTRAS = {"depth.png": png("I;16"), "cutout.png": png("RGBA"), "masks.json": MASKS}


@pytest.fixture
def replica(fleet) -> FakeReplica:
    return fleet.add(card=DEPTH, features=("into",), extras=EXTRAS)


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"model_card": None})


async def walked(client: httpx.AsyncClient, frames: int = 9, **changes: Any) -> dict[str, Any]:
    return await ended(client, await requested(client, frames, **changes))


async def requested(client: httpx.AsyncClient, frames: int = 9, **changes: Any) -> dict[str, Any]:
    picture = (await client.post("/api/v1/pictures", content=encoded(scene(), "PNG"))).json()["id"]
    body = {"kind": "into", "picture": {"picture": picture}, "size": 64, "frames": frames, **changes}
    # Once a replica has told what it can do.
    with anyio.fail_after(10):
        while (answer := await client.post("/api/v1/walks", json=body)).status_code == 503:
            await anyio.sleep(0.01)
    assert answer.status_code in (200, 201), answer.text
    walk: dict[str, Any] = answer.json()
    return walk


async def test_extras_are_listed_and_served_to_those_who_may_read_the_walk(settings, fleet, replica, tmp_path):
    """With links, in the ZIP of frames and in the owner's archive. Pictures say that they are synthetic."""
    async with running(settings, fleet) as client:
        walk = await walked(client)
        assert walk["state"] == "done", walk["error"]
        urls = {extra["name"]: extra["url"] for extra in walk["extras"]}
        assert urls == {name: f"{walk['url']}/extras/{name}" for name in EXTRAS}
        files = {name: await client.get(url) for name, url in urls.items()}
        assert {name: file.headers["content-type"] for name, file in files.items()} == {
            extra["name"]: extra["media_type"] for extra in walk["extras"]
        }
        assert files["masks.json"].content == MASKS
        assert files["depth.png"].headers["cache-control"].startswith("private")
        with zipfile.ZipFile(io.BytesIO((await client.get(f"{walk['url']}/frames.zip")).content)) as archive:
            assert sorted(archive.namelist()) == sorted([*(f"{number:03}.png" for number in range(9)), *EXTRAS])
        with zipfile.ZipFile(io.BytesIO((await client.get("/api/v1/me/archive.zip")).content)) as archive:
            assert {f"walks/{walk['id']}/{name}" for name in EXTRAS} <= set(archive.namelist())
        link = (await client.post(f"{walk['url']}/links", json={})).json()["url"].partition("link=")[2]
        missing = await client.get(f"{walk['url']}/extras/other.png")
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:momalisa:problem:walk-not-found")
        client.cookies.clear()
        assert (await client.get(urls["depth.png"])).status_code == 404
        [shown, *_] = (await client.get(walk["url"], params={"link": link})).json()["extras"]
        assert (await client.get(shown["url"])).status_code == 200
    (tmp_path / "depth.png").write_bytes(files["depth.png"].content)
    [tags] = exiftool.read([tmp_path / "depth.png"], "XMP:all")
    assert tags["XMP-iptcExt:DigitalSourceType"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert Image.open(io.BytesIO(files["depth.png"].content)).mode == "I;16"


async def test_extras_come_once_before_the_first_frame_and_serve_other_walks_of_the_recipe(settings, fleet, replica):
    """They cost megabytes. A walk with other frames, or one whose frames exist, has them all the same."""
    async with running(settings, fleet) as client:
        await walked(client, frames=9)
        assert replica.extras_sent == len(EXTRAS)
        more = await walked(client, frames=17)
        fewer = await walked(client, frames=5)
    assert replica.extras_sent == len(EXTRAS)
    assert [len(walk["extras"]) for walk in (more, fewer)] == [3, 3]


async def test_a_walk_whose_first_frames_come_from_another_walk_has_extras(settings, fleet, replica):
    """Both are planned before anything is stored, and the shards of the second find all their frames stored."""
    # The second walk must see what the first has stored: a listing counts for half a second.
    replica.busy_answers, replica.frame_s = 10**9, 0.2
    async with running(settings.model_copy(update={"max_shards_in_flight": 1}), fleet) as client:
        first = await requested(client)
        second = await requested(client, frame_ms=50)
        with anyio.fail_after(10):
            while (await client.get(second["url"])).json()["round"] is None:
                await anyio.sleep(0.01)
        replica.busy_answers = 0
        walks = [await ended(client, walk) for walk in (first, second)]
    assert [(walk["state"], len(walk["extras"])) for walk in walks] == [("done", 3), ("done", 3)]


async def test_a_replica_that_dies_with_its_extras_is_replaced_by_another(settings, fleet, replica):
    """No frame is stored before the extras are complete, and those of two replicas are not mixed."""
    replica.dies_after, replica.extras = 0, {**EXTRAS, "other.png": EXTRAS["cutout.png"]}
    another = fleet.add(card=DEPTH, features=("into",), extras=EXTRAS, ready=False)
    async with running(settings, fleet) as client:
        walk = await requested(client)
        with anyio.fail_after(10):
            while replica.reachable:
                await anyio.sleep(0.01)
        another.ready = True
        walk = await ended(client, walk)
    assert (walk["state"], len(walk["extras"])) == ("done", 3), walk["error"]


async def test_extras_go_with_the_last_walk_that_has_their_recipe(settings, fleet, replica):
    """Neither a deletion nor the time for frames takes them from another walk."""
    async with running(settings, fleet) as client:
        first, second = await walked(client, frames=9), await walked(client, frames=17)
    bucket = FolderBucket(Path(settings.bucket))
    async with opened(settings.database_url) as engine:
        recipe = (await Catalogue(engine).get(first["id"])).recipes[0]

        async def left() -> int:
            return sum("extra" in key for key in await bucket.present(recipe.folder))

        erasures = Erasures(engine, bucket)
        await erasures.purge(first["id"])
        assert await left() == len(EXTRAS) + 1
        await Expiry(engine, bucket, erasures, Kept(frames=timedelta(0))).remove_due()
        assert await left() == 0
        assert (await Catalogue(engine).get(second["id"])).extras_ready == ()
        async with engine.connect() as connection:
            assert await connection.scalar(select(walks.c.frames_removed))
