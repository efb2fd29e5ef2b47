"""Walks from the outside of the api: asked for, watched, fetched, over replicas that are made up."""

import pytest

from tests.api.conftest import ended, running

pytestmark = pytest.mark.anyio


async def test_a_walk_ends_as_a_gif_of_there_and_back(settings, fleet):
    """The main job, through the one GET that a script makes."""
    async with running(settings, fleet) as client:
        asked = await client.post("/api/v1/walks", json={"start": "a giraffe", "end": "a battleship", "frames": 9})
        assert asked.status_code == 201
        walk = await ended(client, asked.json())
        assert walk["state"] == "done", walk
        found = await client.get("/api/v1/walk?start=a+giraffe&end=a+battleship&frames=9")
        assert found.headers["content-type"] == "image/gif"
        assert found.content[:6] == b"GIF89a"
