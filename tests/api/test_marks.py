"""What a model's safety checker objects to: the walk is kept and its url works, but no wall shows it."""

from pathlib import Path

import anyio
import pytest

from tests.support.factories import ended, running, until_first_frame

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 5, "spacing": "uniform"}


async def wall(client, query: str = "") -> list[str]:
    return [walk["id"] for walk in (await client.get(f"/api/v1/walks{query}")).json()["walks"]]


def written(settings, name: str) -> list[int]:
    """When objects of the frames' folder were written, in nanoseconds."""
    return sorted(path.stat().st_mtime_ns for path in Path(settings.bucket).glob(f"frames/*/{name}"))


async def test_a_marked_walk_is_unlisted_and_says_why(settings, fleet):
    """Its owner finds it with the reason, asking for it listed changes nothing, and the pictures are all there."""
    fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        again = await client.post("/api/v1/walks", json={**REQUEST, "listed": True})
        assert (walk["state"], again.json()["warnings"]) == ("done", walk["warnings"])
        assert [warning for warning in walk["warnings"] if "safety checker" in warning] == walk["warnings"] != []
        assert await wall(client) == await wall(client, "?q=giraffe") == []
        assert await wall(client, "?owner=me") == [walk["id"]]
        for name in ("walk.gif", "frames/1.png", "poster.webp"):
            assert (await client.get(f"{walk['url']}/{name}")).status_code == 200


async def test_a_walk_of_unmarked_frames_stays_on_the_wall(settings, fleet):
    """Also where the model has a checker, and where another seed of the same prompts was marked."""
    replica = fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        replica.flags = frozenset({-1.0})
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "seed": 1})).json())
        assert walk["warnings"] == []
        assert await wall(client) == [walk["id"]]


async def test_whoever_finds_a_marked_frame_finds_the_mark(settings, fleet):
    """Nothing is rendered, so that no checker speaks; nor does the catalogue have to be the same."""
    replica = fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        slower = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frame_ms": 200})).json())
        assert await wall(client) == []
    database = f"sqlite:///{Path(settings.bucket).parent}/another.sqlite"
    async with running(settings.model_copy(update={"database_url": database}), fleet) as client:
        elsewhere = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert await wall(client) == []
    assert replica.sent == 5
    assert elsewhere["warnings"] == slower["warnings"] != []


async def test_the_wall_never_shows_a_marked_frame_not_even_while_it_is_made(settings, fleet):
    """The walk is taken off before the frame lands, and the bucket holds the mark before it holds the frame."""
    fleet.add(flags=frozenset({0.0, 0.25, 0.5, 0.75, 1.0}), frame_s=0.02)
    async with running(settings, fleet) as client:
        walk = await until_first_frame(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["warnings"] != []
        assert await wall(client) == []
    assert written(settings, "marked.json")[-1] < written(settings, "*.png")[0]


async def test_who_brings_no_name_finds_no_marked_walk(settings, fleet):
    """All of them are one owner together: their list would be a wall of its own."""
    fleet.add(flags=frozenset({0.25}))
    async with running(settings, fleet) as client:
        url = "/api/v1/walk?start=a+giraffe&end=a+battleship&frames=5&spacing=uniform"
        with anyio.fail_after(20):
            while (await client.get(url)).status_code == 202:
                await anyio.sleep(0.01)
        assert (await client.get(url)).headers["content-type"] == "image/gif"
        assert await wall(client, "?owner=me") == await wall(client) == []
