"""A finished frame of a walk becomes a picture of whoever may read the walk."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops

from tests.support.factories import ended, running, until_stalled
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.anyio
PICTURES = "/api/v1/pictures"
ASKED = {"start": "a star", "end": "a wave", "frames": 5, "spacing": "uniform"}


async def walked(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    return await ended(client, (await client.post("/api/v1/walks", json={**ASKED, **changes})).json())


async def taken(client: httpx.AsyncClient, walk: str, frame: Any, link: str | None = None) -> httpx.Response:
    body = {"walk": walk, "frame": frame}
    return await client.post(PICTURES, json=body, params={"link": link} if link else {})


async def test_a_frame_of_anybodys_listed_walk_becomes_a_picture_of_the_caller(settings, fleet):
    """So that a walk can begin where another one was: as a stop, or to step into it. Its pixels stay."""
    fleet.add()
    async with running(settings, fleet) as client:
        walk = await walked(client)
        client.cookies.clear()
        answer = await taken(client, walk["id"], 3)
        assert answer.status_code == 201, answer.text
        picture = answer.json()
        assert answer.headers["Location"] == f"{PICTURES}/{picture['id']}"
        frame = Image.open(io.BytesIO((await client.get(f"{walk['url']}/frames/3.png")).content))
        copy = Image.open(io.BytesIO((await client.get(picture["url"])).content))
        assert ImageChops.difference(frame.convert("RGB"), copy).getbbox() is None
        assert not copy.info, "what it was made of is not told"
        assert (await taken(client, walk["id"], 3)).json()["id"] == picture["id"]


async def test_a_frame_counts_as_an_upload(settings, fleet):
    """Otherwise anybody could fill the bucket with copies."""
    fleet.add()
    async with running(settings.model_copy(update={"uploads_per_owner_per_day": 1}), fleet) as client:
        walk = await walked(client)
        assert [(await taken(client, walk["id"], frame)).status_code for frame in (0, 1)] == [201, 429]


async def test_frames_of_a_private_walk_are_for_those_who_may_read_it(settings, fleet):
    """For all others the walk does not exist; a link opens it here as it does everywhere."""
    fleet.add(features=("pictures",))
    async with running(settings, fleet) as client:
        picture = (await client.post(PICTURES, content=encoded(scene(), "PNG"))).json()["id"]
        walk = await walked(client, start={"picture": picture})
        assert walk["private"]
        link = (await client.post(f"{walk['url']}/links", json={})).json()["url"].partition("link=")[2]
        assert (await taken(client, walk["id"], 0)).status_code == 201
        client.cookies.clear()
        answer = await taken(client, walk["id"], 0)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:momalisa:problem:walk-not-found")
        assert (await taken(client, walk["id"], 0, link)).status_code == 201


async def test_a_frame_that_is_not_there_is_a_problem_that_says_why(settings, fleet):
    """And one that cannot be meant names what can."""
    replica = fleet.add()
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json={**ASKED, "frames": 9})).json()
        walk = await until_stalled(client, walk, replica)
        missing = next(number for number in range(9) if number not in walk["frames_ready"])
        found = [
            (await taken(client, *address)).json()["type"].rpartition(":")[2]
            for address in ((walk["id"], missing), (walk["id"], 9), ("0" * 32, 0), (walk["id"], -1), (walk["id"], "1"))
        ]
        assert found == ["not-ready-yet", "walk-not-found", "walk-not-found", "invalid-request", "invalid-request"]
        assert '"frame": 12' in (await taken(client, walk["id"], True)).json()["detail"]
