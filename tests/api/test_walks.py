"""Walks through the public API with fake replicas: requested, followed, downloaded and withdrawn."""

import io
import json
import sys
import zipfile

import anyio
import anyio.to_thread
import pytest
from PIL import Image
from sqlalchemy import Engine, event

from momalisa_api.store.folder import FolderBucket
from momalisa_api.walks.spec import read_forward
from tests.support.factories import CARD, ended, painted, running, until_first_frame, until_stalled, write_card

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}
URL = "/api/v1/walk?start=a+giraffe&end=a+battleship&frames=9&spacing=uniform"


async def test_a_get_of_json_returns_202_and_later_the_gif(settings, fleet):
    """A script needs only one URL, and repeats the request until it gets a picture."""
    fleet.add(frame_s=0.01)
    async with running(settings, fleet) as client:
        first = await client.get(URL, headers={"Accept": "application/json"})
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


async def test_a_long_poll_returns_the_finished_walk(settings, fleet):
    """One request is enough if the walk is done within the time limit of load balancers."""
    async with running(settings, fleet) as client:
        by_header = await client.get(URL, headers={"Prefer": "respond-async, wait=20"})
        by_query = await client.get(f"{URL}&seed=1&wait=20")
    assert by_header.status_code == by_query.status_code == 200
    assert by_header.content != by_query.content


@pytest.mark.parametrize(("accept", "status"), [("application/json", 202), ("*/*", 503), ("video/mp4", 503)])
async def test_a_long_poll_ends_with_202_or_for_a_film_with_503(settings, fleet, accept, status):
    """Load balancers time out at 30 s; the client gets a response before that, and retries.

    A client that requested a film would save whatever comes with a 2xx status.
    """
    fleet.add(frame_s=3600)
    async with running(settings, fleet) as client:
        answer = await client.get(f"{URL}&wait=0.1", headers={"Accept": accept})
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["cache-control"] == "no-store"
    if status == 503:
        assert answer.json()["type"] == "urn:momalisa:problem:walk-unfinished"
        assert "0 of 9 frames are ready" in answer.json()["detail"]


async def test_many_concurrent_requests_for_the_zip_all_succeed(settings, fleet):
    """It is packed once, and waiting requests must not occupy the threads that packing needs."""
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


async def test_head_has_the_status_and_type_of_get(settings, fleet):
    """Players and caches send HEAD before GET."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for path in (walk["url"], walk["url"] + "/walk.gif", walk["url"] + "/events", URL):
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == got.headers["content-type"]


async def test_head_starts_nothing_and_waits_for_nothing(settings, fleet):
    """Link checkers send HEAD to every URL that they find: it must cost no rendering."""
    replica = fleet.add(frame_s=3600)
    async with running(settings, fleet) as client:
        with anyio.fail_after(10):
            unknown = await client.head(f"{URL}&wait=25")
            assert (unknown.status_code, unknown.content) == (404, b"")
            assert (await client.get("/api/v1/walks")).json()["walks"] == []
            assert (await client.head(f"{URL}&width=33")).status_code == 422
            walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
            assert (await client.head(f"{URL}&wait=25")).status_code == 503
            # A client that has seen everything would wait for the next event.
            events = await client.head(walk["url"] + "/events", headers={"Last-Event-ID": "999"})
            assert events.status_code == 200
    assert replica.sent == 0


async def test_head_reads_no_file_and_ignores_a_range(settings, fleet, tmp_path, monkeypatch):
    """Players and link checkers send many; ranges are for GET (RFC 9110, section 14.2)."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        paths = [f"{walk['url']}/{name}" for name in ("walk.gif", "frames/0.png", "frames.zip")]
        got = {path: await client.get(path) for path in (*paths, URL)}
        monkeypatch.setattr(FolderBucket, "stream", lambda *_: pytest.fail("a HEAD reads a file"))
        for path, whole in got.items():
            head = await client.head(path, headers={"Range": "bytes=1-2", "If-Range": '"x"'})
            assert (head.status_code, head.content) == (200, b"")
            assert "content-range" not in head.headers
            assert head.headers["content-length"] == str(len(whole.content))
            assert head.headers["etag"] == whole.headers["etag"]


async def test_a_get_can_keep_the_walk_out_of_the_gallery(settings, fleet):
    """Without it, every script would publish its prompts. One anonymous caller cannot unlist the walk of another."""
    async with running(settings, fleet) as client:

        async def shown(query: str) -> list[int]:
            await client.get(f"/api/v1/walk?start=a&end=b&frames=2&{query}")
            return [walk["spec"]["seed"] for walk in (await client.get("/api/v1/walks")).json()["walks"]]

        assert await shown("seed=1&listed=false") == []
        assert await shown("seed=1") == []
        assert await shown("seed=2") == [2]
        assert await shown("seed=2&listed=false") == [2]
        client.cookies = (await client.post("/api/v1/walks", json={**REQUEST, "seed": 3})).cookies
        assert await shown("seed=4") == [4, 3, 2]
        # For a known caller, unlisted is private: it is another walk.
        assert await shown("seed=4&listed=false") == [4, 3, 2]
        assert await shown("seed=5&listed=false") == [4, 3, 2]
        assert await shown("seed=5&listed=true") == [5, 4, 3, 2]


async def test_a_get_can_name_more_than_two_stops(settings, fleet):
    """The same walk as by POST."""
    async with running(settings, fleet) as client:
        json_only = {"Accept": "application/json"}
        got = await client.get("/api/v1/walk?stop=a&stop=b&stop=c&frames=5", headers=json_only)
        posted = await client.post("/api/v1/walks", json={"stops": ["a", "b", "c"], "frames": 5})
        assert got.status_code == 202
        assert got.json()["spec"]["stops"] == ["a", "b", "c"]
        assert posted.json()["id"] == got.json()["id"]
        for query, message in (
            ("stop=a&start=a&end=b", "use either stop, or start and end"),
            ("stop=a", "stops must be 2 to 8 prompts"),
            ("start=a", "start and end are both required, or stop"),
            ("stop=a&stop=", "stops.1 must have 1 to 1000 characters"),
        ):
            refused = await client.get(f"/api/v1/walk?{query}")
            assert refused.status_code == 422
            assert message in refused.json()["detail"]


async def test_lost_films_are_made_again_after_a_post(settings, fleet, tmp_path):
    """An operator may have deleted files: a GET returns 410, and a POST makes the films without rendering."""
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
async def test_accept_selects_the_media_type(settings, fleet, accept, media_type):
    """The same URL is a GIF in a page, a film in a player, and JSON in a script."""
    async with running(settings, fleet) as client:
        answer = await client.get(f"{URL}&wait=20", headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type


async def test_an_unavailable_format_is_refused_before_rendering(settings, fleet, monkeypatch):
    """A request for MP4 without PyAV gets an error with the reason, and uses no GPU."""
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


async def test_equal_concurrent_requests_are_rendered_once(settings, fleet):
    """A hundred requests for one walk cost as much as one."""
    fleet.add(frame_s=0.005)
    async with running(settings, fleet) as client:
        answers = []

        async def request() -> None:
            answers.append(await client.post("/api/v1/walks", json=REQUEST))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(request)
        assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        await ended(client, answers[0].json())
    assert fleet.frames_rendered == 9


async def test_a_longer_walk_renders_only_the_frames_between(settings, fleet):
    """49 frames after 25 need 24 new ones; the others are in the bucket."""
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frames": 25})).json())
        assert fleet.frames_rendered == 25
        await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frames": 49})).json())
    assert fleet.frames_rendered == 25 + 24


async def test_frames_can_be_downloaded_during_rendering(settings, fleet):
    """The gallery shows each frame as soon as it is stored, in any order."""
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
    with (
        Image.open(io.BytesIO(here.content)) as found,
        Image.open(io.BytesIO(painted(recipe, index / 8))) as rendered,
    ):
        assert found.tobytes() == rendered.tobytes()
    assert here.headers["cache-control"] == "public, max-age=60", "started again, it may have another frame here"
    assert there.status_code == film.status_code == 404
    assert there.json()["type"] == "urn:momalisa:problem:not-ready-yet"
    assert "9 frames are ready" in film.json()["detail"]


async def test_a_finished_walk_can_be_downloaded_as_zip_in_ranges_and_conditionally(settings, fleet):
    """Users download a ZIP, players request ranges, and browsers validate their caches."""
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


async def test_the_effort_is_the_requests_or_the_deployments(settings, fleet):
    """It makes another walk of an even one only: others have no rounds."""
    even = {"start": "a giraffe", "end": "a battleship", "frames": 4, "spacing": "even"}
    async with running(settings.model_copy(update={"effort": "best"}), fleet) as client:

        async def requested(**changes):
            return (await client.post("/api/v1/walks", json={**even, **changes})).json()

        best, fast, named = await requested(), await requested(effort="fast"), await requested(effort="best")
        uniform, ease = await requested(spacing="uniform", effort="fast"), await requested(spacing="uniform")
        await ended(client, fast)
        by_get = await client.get("/api/v1/walk?start=a+giraffe&end=a+battleship&frames=4&effort=fast")
        wrong = await client.post("/api/v1/walks", json={**even, "effort": "most"})
    assert [walk["spec"]["effort"] for walk in (best, fast, uniform)] == ["best", "fast", "balanced"]
    assert named["id"] == best["id"] != fast["id"]
    assert uniform["id"] == ease["id"]
    assert fast["id"] in by_get.headers["content-location"]
    assert wrong.status_code == 422


async def test_every_film_contains_its_spec(settings, fleet):
    """A film found years later can be rendered again."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        gif = await client.get(walk["url"] + "/walk.gif")
    with Image.open(io.BytesIO(gif.content)) as picture:
        spec = json.loads(picture.info["comment"])
    assert spec.pop("smoothness") == walk["smoothness"]
    assert spec.pop("fractions") == [number / 8 for number in range(9)]
    assert spec.pop("early_legs") == []
    assert spec.pop("fingerprints") == ["0" * 16]
    # The oldest version that means the same.
    assert spec.pop("version") == 2
    # The scope of a private walk is a secret, and that of others is null.
    assert read_forward(spec, 2) == walk["spec"] | {"scope": None}


async def test_a_failed_walk_has_a_reason_and_restarts_only_after_a_post(settings, fleet):
    """A page with a GET that is reloaded must not restart a failing walk for ever."""
    replica = fleet.add(refusal=(422, "steps must be 1 to 3"))
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["state"] == "failed"
        assert "steps must be 1 to 3" in walk["error"]
        answer = await client.get(URL)
        assert answer.status_code == 409, "curl repeats a request after a 5xx, and the walk would fail for ever"
        assert answer.headers["content-type"] == "application/problem+json"
        assert "steps must be 1 to 3" in answer.json()["detail"]
        replica.refusal = None
        assert (await client.get(URL)).status_code == 409
        again = await client.post("/api/v1/walks", json=REQUEST)
        assert again.status_code == 201
        assert (await ended(client, again.json()))["state"] == "done"


async def test_a_withdrawn_walk_stops_its_replicas(settings, fleet):
    """It costs nothing more; after a new request it continues from its stored frames."""
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
    """Repeated legs are rendered once, since their recipe is the same."""
    async with running(settings, fleet) as client:
        request = {"stops": ["a", "b", "a", "b"], "frames": 13, "spacing": "uniform"}
        walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
        assert walk["state"] == "done", walk
        assert walk["frames_ready"] == list(range(13))
    assert fleet.frames_rendered == 4 + 4 + 1


async def test_a_walk_outlives_the_process_that_rendered_it(settings, fleet):
    """Frames and films are in the bucket: a restart renders nothing twice."""
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["state"] == "done"
    assert fleet.frames_rendered == 9


async def test_truncated_words_are_in_the_warnings(settings, fleet):
    """A prompt beyond the encoder's limit must not be truncated silently."""
    fleet.add(warnings=[{"prompt": "start", "truncated": "with a hat", "detail": "Ignored: 'with a hat'."}])
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        slower = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "frame_ms": 200})).json())
    assert walk["warnings"] == ["Ignored: 'with a hat'."]
    assert slower["warnings"] == walk["warnings"], "the warning also applies to frames from the bucket"


async def test_an_unfinished_walk_continues_after_a_restart(settings, fleet):
    """Without another request; stored frames are not rendered again."""
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
    ("start", "warnings"),
    [
        ("A red STAR", []),
        ("a giraffe", ["Test model does not know: giraffe. Its pictures may not show what these words mean."]),
        ("a red 3 star, 😀", []),
        ("ünïcödé ﷽ a", ["Test model does not know: ünïcödé. Its pictures may not show what these words mean."]),
    ],
)
async def test_unknown_words_are_in_the_warnings(settings, fleet, start, warnings):
    """A visitor who requests a giraffe from the small embedded model should know why the walk shows none."""
    about = {**CARD["about"], "words": ["a", "red", "star", "blue", "wave"]}
    write_card(settings.model_card.parent, {**CARD, "about": about})
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json={"start": start, "end": "a blue wave", "frames": 2})).json()
    assert walk["warnings"] == warnings


async def test_without_an_awake_replica_a_walk_waits(settings, fleet):
    """Scaled to zero, the API still accepts walks."""
    replica = fleet.add(ready=False)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        assert (walk["state"], walk["replicas_awake"], walk["queue_position"]) == ("waiting", 0, 1)
        replica.ready = True
        assert (await ended(client, walk))["state"] == "done"


async def test_the_gallery_lists_walks_newest_first_in_pages(settings, fleet):
    """Cursors stay valid while new walks arrive."""
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


async def test_the_gallery_shows_no_walk_that_failed_or_was_cancelled(settings, fleet):
    """Visitors would see empty cards. Its owner still finds it."""
    replica = fleet.add(refusal=(422, "steps must be 1 to 3"))
    async with running(settings, fleet) as client:
        failed = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        replica.refusal, replica.frame_s = None, 3600
        cancelled = (await client.post("/api/v1/walks", json={**REQUEST, "seed": 1})).json()
        started = (await client.post("/api/v1/walks", json={**REQUEST, "seed": 2})).json()
        listed = (await client.get("/api/v1/walks")).json()["walks"]
        assert [walk["id"] for walk in listed] == [started["id"], cancelled["id"]]
        cancelled = (await client.delete(cancelled["url"])).json()
        assert (await client.get(f"{URL}&seed=1")).status_code == 409, "requests it again, but does not restart it"
        listed = (await client.get("/api/v1/walks")).json()["walks"]
        mine = (await client.get("/api/v1/walks?owner=me")).json()["walks"]
    assert (failed["state"], cancelled["state"]) == ("failed", "cancelled")
    assert [walk["id"] for walk in listed] == [started["id"]]
    assert [walk["id"] for walk in mine] == [started["id"], cancelled["id"], failed["id"]]


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("star red", True),
        ("RED  star", True),
        ("wave star", True),
        ("cafe\u0301", True),
        ("star submarine", False),
        ("100%", True),
        ("1%0", False),
    ],
)
async def test_the_search_finds_all_words_in_any_order(settings, fleet, q, found):
    """Also across stops, and as Unicode that is composed differently."""
    async with running(settings, fleet) as client:
        request = {"start": "a red star 100%", "end": "a wave at the CAF\u00c9", "frames": 2}
        await client.post("/api/v1/walks", json=request)
        walks = (await client.get("/api/v1/walks", params={"q": q})).json()["walks"]
    assert bool(walks) == found


async def test_a_page_of_many_walks_needs_as_many_queries_as_a_page_of_one(settings, fleet):
    """A hundred waiting walks must not cost a hundred times as much: every visitor opens the gallery."""
    fleet.add(ready=False)
    queries: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # The worker sends queries too, but not these.
        if "FROM workers" in statement or " AS stored" in statement or "walks.number DESC" in statement:
            queries.append(statement)

    async with running(settings, fleet) as client:
        for seed in range(5):
            await client.post("/api/v1/walks", json={**REQUEST, "seed": seed})
        event.listen(Engine, "before_cursor_execute", note)
        try:
            one = await client.get("/api/v1/walks?limit=1")
            for_one = len(queries)
            many = await client.get("/api/v1/walks?limit=5")
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    assert len(one.json()["walks"]) == 1
    assert [walk["queue_position"] for walk in many.json()["walks"]] == [5, 4, 3, 2, 1]
    assert for_one == 3
    assert len(queries) == 2 * for_one


async def test_requests_that_read_no_file_need_no_thread(settings, fleet):
    """A slow disk can occupy every thread. Meanwhile the catalogue, and the checks of load balancers, must answer."""
    async with running(settings, fleet) as client:
        threads = anyio.to_thread.current_default_thread_limiter()
        borrowers = [object() for _ in range(int(threads.total_tokens))]
        for borrower in borrowers:
            await threads.acquire_on_behalf_of(borrower)
        try:
            with anyio.fail_after(10):
                answers = [await client.get(url) for url in ("/readyz", "/metrics", "/api/v1/model", "/api/v1/walks")]
        finally:
            for borrower in borrowers:
                threads.release_on_behalf_of(borrower)
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_the_model_card_is_public(settings, fleet):
    """The gallery's "surprise me" and the defaults of scripts use it."""
    async with running(settings, fleet) as client:
        model = (await client.get("/api/v1/model")).json()
    assert model["card"]["revision"] == CARD["revision"]
    assert model["card"]["about"]["examples"] == [["a red star", "a blue wave"]]


async def test_pages_of_other_origins_may_send_the_public_gets(settings, fleet):
    """Other sites should be able to show walks."""
    async with running(settings, fleet) as client:
        answer = await client.get("/api/v1/model", headers={"Origin": "https://elsewhere.example"})
        headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
        preflight = await client.options(URL, headers={**headers, "Access-Control-Request-Headers": "prefer"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert preflight.status_code == 200


async def test_the_docs_page_loads_nothing_from_other_hosts(settings, fleet):
    """It must also work behind a firewall."""
    async with running(settings, fleet) as client:
        page = (await client.get("/", follow_redirects=True)).text
        assert "https://" not in page
        assert (await client.get("/api/docs-assets/swagger-ui-bundle.js")).status_code == 200


async def test_metrics_count_the_pending_frames(settings, fleet):
    """Autoscalers use this number. It comes from the catalogue, so that it is the same in every process."""
    replica = fleet.add(ready=False)

    async def value(client, name):
        lines = (await client.get("/metrics")).text.splitlines()
        [found] = [line for line in lines if line.startswith(name + " ")]
        return float(found.split()[-1])

    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        assert await value(client, 'momalisa_frames_pending{model="test-model"}') == 9
        assert await value(client, 'momalisa_walks{state="waiting"}') == 1
        assert await value(client, 'momalisa_replicas_awake{model="test-model"}') == 0
        replica.ready = True
        await ended(client, walk)
        assert await value(client, 'momalisa_frames_pending{model="test-model"}') == 0
        assert await value(client, 'momalisa_walks{state="done"}') == 1
        assert await value(client, "momalisa_shard_seconds_count") == 3
