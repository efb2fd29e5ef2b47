"""The page metadata for crawlers, which run no scripts: public walks have it, others do not."""

import io

import httpx
import pytest
from PIL import Image

from momalisa_api.store.gallery import Gallery
from momalisa_api.store.schema import opened
from tests.support.factories import ended, running
from tests.support.gallery import Head

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 4, "spacing": "uniform", "width": 40, "height": 48}
HOSTILE = [
    '"><script>alert(1)</script>',
    '--></title><!--#include virtual="/metrics" -->',
    "it's\r\n\t<b> & &amp; &#34; \u2028 ‮ 🦒",
    "${PATH} $document_uri {{x}} %(y)s \\",
]


async def head(client: httpx.AsyncClient, path: str, **headers: str) -> Head:
    answer = await client.get("/api/v1/head", params={"path": path}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    return Head(answer.text)


async def test_the_metadata_describe_a_walk_in_the_gallery(settings, fleet):
    """A link in a chat shows the picture, the film, and both prompts; URLs are absolute."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        found = await head(client, f"/walks/{walk['id']}", Host="moma.example:8443")
        base = "http://moma.example:8443"
        assert found.title == "a giraffe → a battleship · MoMALisa"
        assert found.canonical == found.meta["og:url"] == f"{base}/walks/{walk['id']}"
        assert found.meta["og:title"] == found.meta["twitter:title"] == "a giraffe → a battleship"
        assert found.meta["og:image"] == found.meta["twitter:image"] == f"{base}{walk['films']['poster.jpg']}"
        assert found.meta["og:video"] == f"{base}{walk['films']['walk.mp4']}"
        assert found.meta["og:video:type"] == "video/mp4"
        assert found.meta["twitter:card"] == "summary_large_image"
        assert "robots" not in found.meta
        poster = await client.get(found.meta["og:image"].removeprefix(base))
        assert poster.headers["content-type"] == found.meta["og:image:type"] == "image/jpeg"
        with Image.open(io.BytesIO(poster.content)) as picture:
            assert list(map(str, picture.size)) == [found.meta[f"og:image:{side}"] for side in ("width", "height")]


@pytest.mark.parametrize("prompt", HOSTILE)
async def test_prompts_are_escaped(settings, fleet, prompt):
    """Otherwise every visitor of a shared link would run the scripts in one visitor's prompt."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "start": prompt})).json())
        answer = await client.get("/api/v1/head", params={"path": f"/walks/{walk['id']}"})
        found = Head(answer.text)
    assert set(found.tags) == {"title", "meta", "link"}
    assert found.tags.count("title") == 1
    assert found.title == f"{' '.join(prompt.split())} → a battleship · MoMALisa"
    assert found.meta["og:title"] == f"{' '.join(prompt.split())} → a battleship"
    assert "<!--" not in answer.text
    assert "-->" not in answer.text


async def test_a_long_prompt_is_cut(settings, fleet):
    """A title of a thousand characters is useless."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "end": "ab " * 300})).json())
        found = await head(client, f"/walks/{walk['id']}")
    assert found.meta["og:title"].endswith("ab…")
    assert len(found.meta["og:title"]) < 120


async def test_walks_outside_the_gallery_have_no_metadata(settings, fleet):
    """Only visitors with the URL may see a walk that is unlisted, hidden or unfinished."""
    replica = fleet.add()
    async with running(settings, fleet) as client:
        walks = [
            await ended(
                client, (await client.post("/api/v1/walks", json={**REQUEST, "seed": seed, "listed": listed})).json()
            )
            for seed, listed in ((1, False), (2, True))
        ]
        assert (await head(client, f"/walks/{walks[1]['id']}")).meta["og:url"]
        async with opened(settings.database_url) as engine:
            await Gallery(engine).hide(walks[1]["id"])
        replica.stalled = True
        unfinished = (await client.post("/api/v1/walks", json={**REQUEST, "seed": 3})).json()
        paths = [f"/walks/{walk['id']}" for walk in (*walks, unfinished)]
        paths += [f"/walks/{'0' * 32}", "/walks/x", "/elsewhere", "<script>", "/walks/" + "0" * 32 + "\n"]
        for path in paths:
            found = await head(client, path)
            assert (found.title, found.canonical) == ("MoMALisa", None)
            assert set(found.meta) == {"description", "robots"}
        replica.stalled = False


@pytest.mark.parametrize(
    ("path", "title"), [("/", "MoMALisa"), ("/gallery", "Gallery · MoMALisa"), ("/about", "About · MoMALisa")]
)
async def test_other_pages_have_their_own_titles(settings, fleet, path, title):
    """Users cannot distinguish tabs with equal titles."""
    async with running(settings, fleet) as client:
        found = await head(client, path)
    assert (found.title, found.canonical) == (title, f"http://api{path}")
    assert found.meta["description"]
