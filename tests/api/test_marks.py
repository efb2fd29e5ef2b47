"""A walk with frames that a safety checker has marked: its URL works, but the gallery does not show it."""

from pathlib import Path

import anyio
import pytest

from tests.support.factories import ended, running, until_first_frame

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 5, "spacing": "uniform"}


async def gallery(client, query: str = "") -> list[str]:
    return [walk["id"] for walk in (await client.get(f"/api/v1/walks{query}")).json()["walks"]]


def written(settings, name: str) -> list[int]:
    """Modification times of objects in the frames' folders, in nanoseconds."""
    return sorted(path.stat().st_mtime_ns for path in Path(settings.bucket).glob(f"frames/*/{name}"))


async def test_a_marked_walk_is_unlisted_with_a_reason(settings, fleet):
    """Its owner sees the reason, a listed request changes nothing, and all pictures are available."""
    fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        again = await client.post("/api/v1/walks", json={**REQUEST, "listed": True})
        assert (walk["state"], again.json()["warnings"]) == ("done", walk["warnings"])
        assert [warning for warning in walk["warnings"] if "safety checker" in warning] == walk["warnings"] != []
        assert await gallery(client) == await gallery(client, "?q=giraffe") == []
        assert await gallery(client, "?owner=me") == [walk["id"]]
        for name in ("walk.gif", "frames/1.png", "poster.webp"):
            assert (await client.get(f"{walk['url']}/{name}")).status_code == 200


async def test_a_walk_of_unmarked_frames_stays_in_the_gallery(settings, fleet):
    """Also if the model has a safety checker, and if another seed of the same prompts was marked."""
    replica = fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        replica.flags = frozenset({-1.0})
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "seed": 1})).json())
        assert walk["warnings"] == []
        assert await gallery(client) == [walk["id"]]


async def test_the_mark_of_a_frame_is_found_with_the_frame(settings, fleet):
    """The second walk renders nothing, so no safety checker runs; its catalogue may be another one."""
    replica = fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        slower = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frame_ms": 200})).json())
        assert await gallery(client) == []
    database = f"sqlite:///{Path(settings.bucket).parent}/another.sqlite"
    async with running(settings.model_copy(update={"database_url": database}), fleet) as client:
        elsewhere = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert await gallery(client) == []
    assert replica.sent == 5
    assert elsewhere["warnings"] == slower["warnings"] != []


async def test_the_gallery_never_shows_a_marked_frame_not_even_during_rendering(settings, fleet):
    """The walk is hidden before the frame is stored, and the mark is in the bucket before the frame."""
    fleet.add(flags=frozenset({0.0, 0.25, 0.5, 0.75, 1.0}), frame_s=0.02)
    async with running(settings, fleet) as client:
        walk = await until_first_frame(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["warnings"] != []
        assert await gallery(client) == []
    assert written(settings, "marked.json")[-1] < written(settings, "*.png")[0]


async def test_anonymous_callers_find_no_marked_walk(settings, fleet):
    """All of them share one owner, so their list would be a second gallery."""
    fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        url = "/api/v1/walk?start=a+giraffe&end=a+battleship&frames=5&spacing=uniform"
        with anyio.fail_after(20):
            while (await client.get(url)).status_code == 503:
                await anyio.sleep(0.01)
        assert (await client.get(url)).headers["content-type"] == "image/gif"
        assert await gallery(client, "?owner=me") == await gallery(client) == []
