"""Walks from the outside of the api: asked for, watched, fetched, withdrawn, over replicas that are made up."""

import io
import json
import sys
import zipfile

import anyio
import pytest
from PIL import Image
from sqlalchemy import Engine, event

from tests.support.factories import CARD, ended, painted, running, until_first_frame, until_stalled, write_card

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}
URL = "/api/v1/walk?start=a+giraffe&end=a+battleship&frames=9&spacing=uniform"


async def test_a_get_gives_the_walk_on_its_way_and_later_the_gif(settings, fleet):
    """The whole of what a script needs: one url, asked until it is a picture."""
    fleet.add(frame_s=0.01)
    async with running(settings, fleet) as client:
        first = await client.get(URL)
        assert first.status_code == 202
        assert first.headers["cache-control"] == "no-store"
        assert first.headers["vary"].startswith("Accept, Prefer")
        assert int(first.headers["retry-after"]) > 0
        walk = await ended(client, (await client.get(first.headers["location"])).json())
        assert walk["state"] == "done"
        found = await client.get(URL)
    assert found.status_code == 200
    assert found.headers["content-type"] == "image/gif"
    with Image.open(io.BytesIO(found.content)) as gif:
        assert gif.n_frames == 16


async def test_a_caller_can_hold_the_line(settings, fleet):
    """One call is enough for a walk that is done within what load balancers allow."""
    async with running(settings, fleet) as client:
        by_header = await client.get(URL, headers={"Prefer": "respond-async, wait=20"})
        by_query = await client.get(f"{URL}&seed=1&wait=20")
    assert by_header.status_code == by_query.status_code == 200
    assert by_header.content != by_query.content


async def test_a_line_that_is_held_too_long_ends_as_on_its_way(settings, fleet):
    """Load balancers give up at 30 s; the caller is told before that, and asks again."""
    fleet.add(frame_s=3600)
    async with running(settings, fleet) as client:
        answer = await client.get(f"{URL}&wait=0.1")
    assert answer.status_code == 202


async def test_many_who_want_the_zip_at_once_all_get_it(settings, fleet):
    """It is packed once, and packing must not use up the threads that it waits for."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        sizes: list[int] = []

        async def take() -> None:
            sizes.append(len((await client.get(walk["url"] + "/frames.zip")).content))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(80):
                    tasks.start_soon(take)
    assert len(sizes) == 80
    assert len(set(sizes)) == 1


async def test_head_tells_what_get_would(settings, fleet):
    """Players and caches ask before they fetch."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for path in (walk["url"], walk["url"] + "/walk.gif", walk["url"] + "/events", URL):
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == got.headers["content-type"]


async def test_films_that_were_lost_are_made_anew_when_posted(settings, fleet, tmp_path):
    """A bucket that was tidied up by hand: the caller hears 410, and a POST mends it without rendering."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        (tmp_path / "bucket" / "walks" / walk["id"] / "walk.gif").unlink()
        lost = await client.get(walk["url"] + "/walk.gif")
        assert (lost.status_code, lost.json()["type"]) == (410, "urn:momalisa:problem:gone")
        again = await client.post("/api/v1/walks", json=REQUEST)
        assert again.status_code == 201
        assert (await ended(client, again.json()))["state"] == "done"
        assert (await client.get(walk["url"] + "/walk.gif")).status_code == 200
    assert fleet.frames_rendered == 9


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("video/mp4", "video/mp4"),
        ("application/json", "application/json"),
        ("image/avif,image/webp,*/*;q=0.8", "image/gif"),
        ("image/gif;q=0.1, video/*;q=0.9", "video/mp4"),
    ],
)
async def test_accept_picks_what_comes(settings, fleet, accept, media_type):
    """The same url is a GIF in a page, a film in a player, JSON in a script."""
    async with running(settings, fleet) as client:
        answer = await client.get(f"{URL}&wait=20", headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type


async def test_a_format_that_is_not_made_is_refused_before_anything_is_rendered(settings, fleet, monkeypatch):
    """A caller who wants MP4 from an installation without PyAV hears why, and costs no GPU."""
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "momalisa_api.films.mp4", raising=False)
    monkeypatch.delattr("momalisa_api.films.mp4", raising=False)
    async with running(settings, fleet) as client:
        refused = await client.get(URL, headers={"Accept": "video/mp4"})
        unknown = await client.get(URL, headers={"Accept": "text/html"})
        assert (refused.status_code, unknown.status_code) == (406, 406)
        assert "momalisa-api[video]" in refused.json()["detail"]
        assert fleet.frames_rendered == 0
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert set(walk["films"]) == {"walk.gif", "poster.webp", "poster.jpg"}
        assert (await client.get(walk["url"] + "/walk.mp4")).status_code == 406


async def test_the_same_wish_is_rendered_once_however_many_ask(settings, fleet):
    """A hundred visitors of one walk cost as much as one."""
    fleet.add(frame_s=0.005)
    async with running(settings, fleet) as client:
        answers = []

        async def ask() -> None:
            answers.append(await client.post("/api/v1/walks", json=REQUEST))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(ask)
        assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        await ended(client, answers[0].json())
    assert fleet.frames_rendered == 9


async def test_a_longer_walk_renders_only_the_frames_between(settings, fleet):
    """49 frames after 25 are 24 new ones; the others lie in the bucket."""
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frames": 25})).json())
        assert fleet.frames_rendered == 25
        await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frames": 49})).json())
    assert fleet.frames_rendered == 25 + 24


async def test_frames_can_be_fetched_while_the_walk_grows(settings, fleet):
    """The gallery shows each frame as it lands, whatever their order."""
    replica = fleet.add(frame_s=0.01)
    async with running(settings, fleet) as client:
        walk = await until_first_frame(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        walk = await until_stalled(client, walk, replica)
        index = walk["frames_ready"][0]
        here = await client.get(f"{walk['url']}/frames/{index}.png")
        missing = next(index for index in range(9) if index not in walk["frames_ready"])
        there = await client.get(f"{walk['url']}/frames/{missing}.png")
        film = await client.get(walk["url"] + "/walk.gif")
    recipe = {"width": 32, "height": 32, "seed": 0}
    assert here.content == painted(recipe, index / 8)
    assert here.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert there.status_code == film.status_code == 404
    assert there.json()["type"] == "urn:momalisa:problem:not-ready-yet"
    assert "9 frames are ready" in film.json()["detail"]


async def test_a_finished_walk_can_be_taken_home_in_pieces(settings, fleet):
    """Players ask for ranges, browsers for what has changed, people for a ZIP."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        archive = await client.get(walk["url"] + "/frames.zip")
        with zipfile.ZipFile(io.BytesIO(archive.content)) as frames:
            assert frames.namelist() == [f"{index:03}.png" for index in range(9)]
        whole = await client.get(walk["url"] + "/walk.mp4")
        part = await client.get(walk["url"] + "/walk.mp4", headers={"Range": "bytes=10-19"})
        tail = await client.get(walk["url"] + "/walk.mp4", headers={"Range": "bytes=-5"})
        beyond = await client.get(walk["url"] + "/walk.mp4", headers={"Range": "bytes=99999999-"})
        again = await client.get(walk["url"] + "/walk.mp4", headers={"If-None-Match": whole.headers["etag"]})
    assert part.status_code == tail.status_code == 206
    assert part.content == whole.content[10:20]
    assert tail.content == whole.content[-5:]
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    assert (again.status_code, again.content) == (304, b"")
    assert 'filename="momalisa_a-giraffe-to-a-battleship_0_9f.mp4"' in whole.headers["content-disposition"]


async def test_every_film_says_how_it_was_made(settings, fleet):
    """A film found years later can be walked again."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        gif = await client.get(walk["url"] + "/walk.gif")
    with Image.open(io.BytesIO(gif.content)) as picture:
        spec = json.loads(picture.info["comment"])
    assert spec.pop("smoothness") == walk["smoothness"]
    assert spec.pop("fractions") == [number / 8 for number in range(9)]
    assert spec == walk["spec"]


async def test_a_failed_walk_says_why_and_starts_again_only_when_posted(settings, fleet):
    """A GET in a page that is reloaded must not set a broken machine going for ever."""
    replica = fleet.add(refusal=(422, "steps must be 1 to 3"))
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["state"] == "failed"
        assert "steps must be 1 to 3" in walk["error"]
        told = await client.get(URL)
        assert told.status_code == 502
        assert told.headers["content-type"] == "application/problem+json"
        assert "steps must be 1 to 3" in told.json()["detail"]
        replica.refusal = None
        assert (await client.get(URL)).status_code == 502
        again = await client.post("/api/v1/walks", json=REQUEST)
        assert again.status_code == 201
        assert (await ended(client, again.json()))["state"] == "done"


async def test_a_withdrawn_walk_stops_its_replicas(settings, fleet):
    """What nobody wants costs nothing more; asked for again, it goes on from the frames it has."""
    replica = fleet.add(frame_s=3600)
    async with running(settings, fleet) as client:
        replica.frame_s = 0.01
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        with anyio.fail_after(5):
            while not walk["frames_ready"]:
                walk = (await client.get(walk["url"])).json()
            replica.frame_s = 3600
            gone = (await client.delete(walk["url"])).json()
            while not replica.closed:
                await anyio.sleep(0.01)
        assert gone["state"] == "cancelled"
        assert (await client.get(URL)).status_code == 409
        replica.frame_s, before = 0, replica.sent
        again = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert again["state"] == "done"
        assert replica.sent - before <= 9 - len(gone["frames_ready"])
        kept = await client.delete(walk["url"])
    assert kept.json()["state"] == "done"


async def test_a_walk_of_many_legs_passes_all_its_stops(settings, fleet):
    """Stops that come twice are rendered once: the legs between them have the same recipe."""
    async with running(settings, fleet) as client:
        request = {"stops": ["a", "b", "a", "b"], "frames": 13, "spacing": "uniform"}
        walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
        assert walk["state"] == "done", walk
        assert walk["frames_ready"] == list(range(13))
    assert fleet.frames_rendered == 4 + 4 + 1


async def test_a_walk_outlives_the_process_that_began_it(settings, fleet):
    """Frames and films lie in the bucket: a restart renders nothing twice."""
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["state"] == "done"
    assert fleet.frames_rendered == 9


async def test_words_that_the_model_did_not_hear_are_told(settings, fleet):
    """A prompt beyond the encoder's limit is not cut in silence."""
    fleet.add(warnings=[{"prompt": "start", "truncated": "with a hat", "detail": "Ignored: 'with a hat'."}])
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        slower = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frame_ms": 200})).json())
    assert walk["warnings"] == ["Ignored: 'with a hat'."]
    assert slower["warnings"] == walk["warnings"], "frames that are there already were not heard either"


async def test_a_walk_that_was_open_when_the_process_ended_goes_on_by_itself(settings, fleet):
    """Nobody has to ask again; what had landed is not rendered again."""
    replica = fleet.add(frame_s=0.01)
    async with running(settings, fleet) as client:
        walk = await until_first_frame(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        walk = await until_stalled(client, walk, replica)
    replica.stalled, before = False, len(walk["frames_ready"])
    async with running(settings, fleet) as client:
        assert (await ended(client, walk))["state"] == "done"
    assert before >= 1
    assert len({fraction for _, fractions in replica.render_calls for fraction in fractions}) == 9


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("A red STAR", []),
        ("a giraffe", ["Made up does not know: giraffe. Its pictures may not show what these words mean."]),
        ("a red 3 star, 😀", []),
        ("ünïcödé ﷽ a", ["Made up does not know: ünïcödé. Its pictures may not show what these words mean."]),
    ],
)
async def test_words_that_the_model_never_met_are_told(settings, fleet, start, said):
    """A visitor who asks the small embedded model for a giraffe should know why none comes."""
    about = {**CARD["about"], "words": ["a", "red", "star", "blue", "wave"]}
    write_card(settings.model_card.parent, {**CARD, "about": about})
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json={"start": start, "end": "a blue wave", "frames": 2})).json()
    assert walk["warnings"] == said


async def test_with_no_replica_awake_a_walk_waits_and_says_so(settings, fleet):
    """Scaled to zero, the api takes walks in all the same."""
    replica = fleet.add(ready=False)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        assert (walk["state"], walk["replicas_awake"], walk["queue_position"]) == ("waiting", 0, 1)
        replica.ready = True
        assert (await ended(client, walk))["state"] == "done"


async def test_the_gallery_lists_walks_newest_first_a_page_at_a_time(settings, fleet):
    """Cursors hold while new walks arrive."""
    async with running(settings, fleet) as client:
        for seed in range(5):
            await client.post("/api/v1/walks", json={**REQUEST, "frames": 2, "seed": seed})
        first = (await client.get("/api/v1/walks?limit=2")).json()
        await client.post("/api/v1/walks", json={**REQUEST, "frames": 2, "seed": 9})
        second = (await client.get(first["next"])).json()
        last = (await client.get(second["next"])).json()
        found = (await client.get("/api/v1/walks?q=GIRAFFE")).json()
        none = (await client.get("/api/v1/walks?q=submarine")).json()
    seeds = [walk["spec"]["seed"] for page in (first, second, last) for walk in page["walks"]]
    assert seeds == [4, 3, 2, 1, 0]
    assert last["next"] is None
    assert len(found["walks"]) == 6
    assert none["walks"] == []


async def test_a_page_of_many_walks_asks_the_catalogue_no_more_often_than_one_of_one(settings, fleet):
    """A hundred walks that wait must not be a hundred times the work of one: the gallery is what everybody opens."""
    fleet.add(ready=False)
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # The worker asks, too, but not for this.
        if "replicas_awake), " in statement or " OVER (" in statement or "walks.number DESC" in statement:
            asked.append(statement)

    async with running(settings, fleet) as client:
        for seed in range(5):
            await client.post("/api/v1/walks", json={**REQUEST, "seed": seed})
        event.listen(Engine, "before_cursor_execute", note)
        try:
            one = await client.get("/api/v1/walks?limit=1")
            for_one = len(asked)
            many = await client.get("/api/v1/walks?limit=5")
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    assert len(one.json()["walks"]) == 1
    assert [walk["queue_position"] for walk in many.json()["walks"]] == [5, 4, 3, 2, 1]
    assert for_one == 3
    assert len(asked) == 2 * for_one


async def test_the_model_card_is_told(settings, fleet):
    """The gallery's "surprise me" and a script's defaults come from here."""
    async with running(settings, fleet) as client:
        told = (await client.get("/api/v1/model")).json()
    assert told["card"]["revision"] == CARD["revision"]
    assert told["card"]["about"]["examples"] == [["a red star", "a blue wave"]]


async def test_any_page_may_read_the_public_gets(settings, fleet):
    """Walks are made to be shown elsewhere."""
    async with running(settings, fleet) as client:
        answer = await client.get("/api/v1/model", headers={"Origin": "https://elsewhere.example"})
        asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        preflight = await client.options(URL, headers={**asked, "Access-Control-Request-Headers": "prefer"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert preflight.status_code == 200


async def test_the_docs_page_loads_nothing_from_elsewhere(settings, fleet):
    """A museum behind a firewall has docs too."""
    async with running(settings, fleet) as client:
        page = (await client.get("/", follow_redirects=True)).text
        assert "https://" not in page
        assert (await client.get("/api/docs-assets/swagger-ui-bundle.js")).status_code == 200


async def test_metrics_say_how_much_waits(settings, fleet):
    """The number an autoscaler wakes replicas by, from the catalogue, so that every process says the same."""
    replica = fleet.add(ready=False)

    async def value(client, name):
        lines = (await client.get("/metrics")).text.splitlines()
        [found] = [line for line in lines if line.startswith(name + " ")]
        return float(found.split()[-1])

    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        assert await value(client, "momalisa_frames_pending") == 9
        assert await value(client, 'momalisa_walks{state="waiting"}') == 1
        assert await value(client, "momalisa_replicas_awake") == 0
        replica.ready = True
        await ended(client, walk)
        assert await value(client, "momalisa_frames_pending") == 0
        assert await value(client, 'momalisa_walks{state="done"}') == 1
        assert await value(client, "momalisa_shard_seconds_count") == 3
