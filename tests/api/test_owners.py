"""Ownership of walks: signed cookies, API keys, and their permissions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from momalisa_api.settings import Settings
from momalisa_api.store.owners import Owners, add_key, read_secret, remove_key
from momalisa_api.store.schema import opened
from tests.support.factories import FakeFleet, running

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9}


@asynccontextmanager
async def visitors(client: httpx.AsyncClient, count: int):
    """Other clients of the same API, each with its own cookie jar."""
    others = [httpx.AsyncClient(transport=client._transport, base_url="http://api") for _ in range(count)]
    yield others
    for other in others:
        await other.aclose()


async def test_a_walk_continues_while_any_owner_requests_it(settings, fleet):
    """A withdrawal cancels only the owner's own request."""
    replica = fleet.add(frame_s=3600)
    async with running(settings, fleet) as client, visitors(client, 2) as (first, second):
        walk = (await first.post("/api/v1/walks", json=REQUEST)).json()
        assert (await second.post("/api/v1/walks", json=REQUEST)).status_code == 200
        with anyio.fail_after(5):
            while not replica.render_calls:
                await anyio.sleep(0.01)
        assert (await first.delete(walk["url"])).json()["state"] != "cancelled"
        assert (await first.delete(walk["url"])).json()["state"] != "cancelled"
        stranger = await client.delete(walk["url"])
        assert (stranger.status_code, stranger.json()["type"]) == (403, "urn:momalisa:problem:not-owner")
        assert (await second.delete(walk["url"])).json()["state"] == "cancelled"


async def test_an_unlisted_walk_is_its_owners_alone(settings, fleet):
    """Its owner finds it; the gallery does not show it until its request lists it."""
    async with running(settings, fleet) as client, visitors(client, 2) as (owner, other):
        walk = (await owner.post("/api/v1/walks", json={**REQUEST, "listed": False})).json()
        assert (await other.get("/api/v1/walks")).json()["walks"] == []
        assert (await other.get("/api/v1/walks?owner=me")).json()["walks"] == []
        assert (await other.get(walk["url"])).status_code == 404
        mine = (await owner.get("/api/v1/walks?owner=me")).json()["walks"]
        assert [found["id"] for found in mine] == [walk["id"]]
        await owner.put(f"{walk['url']}/request", json={"listed": True})
        assert (await other.get(walk["url"])).status_code == 200
        assert len((await other.get("/api/v1/walks")).json()["walks"]) == 1


async def test_only_its_owner_sees_and_changes_a_request(settings, fleet):
    """The owners who requested a walk decide about its listing, each for their own request."""
    async with running(settings, fleet) as client, visitors(client, 3) as (owner, other, stranger):
        walk = (await owner.post("/api/v1/walks", json=REQUEST)).json()
        await other.post("/api/v1/walks", json=REQUEST)
        await other.put(f"{walk['url']}/request", json={"listed": False})
        # A client with a cookie that requested another walk, and a client without a cookie.
        await stranger.post("/api/v1/walks", json={**REQUEST, "seed": 5, "listed": False})
        url = walk["url"] + "/request"
        answers = [(await visitor.get(url)).json() for visitor in (owner, other, stranger, client)]
        mine, unlisted, nothing = ({"mine": mine, "listed": listed} for mine, listed in ((1, 1), (1, 0), (0, 0)))
        assert answers == [mine, unlisted, nothing, nothing]
        for visitor in (stranger, client):
            refused = await visitor.put(url, json={"listed": False})
            assert (refused.status_code, refused.json()["type"]) == (403, "urn:momalisa:problem:not-owner")
        assert (await owner.put(url, json={"listed": False})).json() == unlisted
        assert (await client.get("/api/v1/walks")).json()["walks"] == []
        assert (await other.put(url, json={"listed": True})).json() == mine
        assert len((await client.get("/api/v1/walks")).json()["walks"]) == 1
        assert (await owner.get(url)).json() == unlisted


async def test_an_anonymous_caller_owns_no_request(settings, fleet):
    """All anonymous callers share the walk of an anonymous GET: none of them may unlist it."""
    async with running(settings, fleet) as client:
        found = await client.get("/api/v1/walk?start=a&end=b&frames=2", headers={"Accept": "application/json"})
        url = f"/api/v1/walks/{found.json()['id']}/request"
        assert (await client.get(url)).json() == {"mine": False, "listed": False}
        assert (await client.put(url, json={"listed": False})).status_code == 403
        assert (await client.get("/api/v1/walks/" + "0" * 32 + "/request")).status_code == 404
        assert len((await client.get("/api/v1/walks")).json()["walks"]) == 1


async def test_the_cookie_cannot_be_forged(settings, fleet):
    """A visitor who writes another owner's name into it counts as anonymous."""
    async with running(settings, fleet) as client, visitors(client, 2) as (owner, thief):
        answer = await owner.post("/api/v1/walks", json={**REQUEST, "listed": False})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        name = owner.cookies["momalisa_owner"].split(".")[0]
        for forged in (name.encode(), name.encode() + b".", name.encode() + b".AAAA", b"", b"\xc3\xa9\xff"):
            thief.cookies.clear()
            found = await thief.get("/api/v1/walks?owner=me", headers={b"Cookie": b"momalisa_owner=" + forged})
            assert found.json()["walks"] == []


async def test_a_key_is_the_same_owner_for_every_client(settings, fleet):
    """Scripts have no cookie jar. Only the hash of a key is stored, and a removed key is refused."""
    async with running(settings, fleet) as client, opened(settings.database_url) as engine:
        key = await add_key(engine, "robot")
        with pytest.raises(ValueError, match="a key named 'robot' exists already"):
            await add_key(engine, "robot")
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.post("/api/v1/walks", json=REQUEST, headers=headers)
        assert "set-cookie" not in answer.headers
        client.cookies.clear()
        assert len((await client.get("/api/v1/walks?owner=me", headers=headers)).json()["walks"]) == 1
        folder = Path(settings.database_url.removeprefix("sqlite:///")).parent
        assert all(key.encode() not in file.read_bytes() for file in folder.glob("catalogue.sqlite*"))
        assert await remove_key(engine, "robot")
        refused = await client.get("/api/v1/walks?owner=me", headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "momalisa keys add" in refused.json()["detail"]


async def test_every_process_has_the_same_signature(settings):
    """A cookie from one process is valid in another one, and after a restart."""
    async with opened(settings.database_url) as engine:
        first = Owners(engine, await read_secret(engine))
        second = Owners(engine, await read_secret(engine))
    assert second.of_cookie(first.new_cookie())
    assert Owners(engine, "another secret").of_cookie(first.new_cookie()) is None


async def test_a_get_sets_no_cookie(settings, fleet):
    """Caches and other sites' pages send GETs, which must not create owners."""
    async with running(settings, fleet) as client:
        answer = await client.get("/api/v1/walk?start=a&end=b&frames=2&wait=5")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("limits", "count", "status", "message"),
    [
        ({"max_walks_per_owner": 2}, 3, 429, "2 unfinished walks"),
        ({"frames_per_owner_per_day": 40}, 3, 429, "Daily limit of 40 frames"),
        ({"max_queued_walks": 8}, 3, 429, "2 unfinished walks"),
    ],
)
async def test_a_request_over_a_limit_is_refused_before_it_is_accepted(settings, fleet, limits, count, status, message):
    """Accepted walks are never dropped, so the limits apply to new ones; requests for existing walks always pass."""
    fleet.add(ready=False)
    async with running(settings.model_copy(update=limits), fleet) as client:
        answers = [await client.post("/api/v1/walks", json={**REQUEST, "seed": seed}) for seed in range(count)]
        assert [answer.status_code for answer in answers] == [201] * (count - 1) + [status]
        assert message in answers[-1].json()["detail"]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await client.post("/api/v1/walks", json={**REQUEST, "seed": 0})).status_code == 200
        client.cookies.clear()
        assert (await client.post("/api/v1/walks", json={**REQUEST, "seed": 9})).status_code == 201


async def test_an_even_walk_counts_for_the_frames_that_it_may_render(settings, fleet):
    """Otherwise the quota would allow twice the work that the operator meant."""
    fleet.add(ready=False)
    even = {"start": "a giraffe", "end": "a battleship", "frames": 25, "effort": "fast"}
    async with running(settings.model_copy(update={"frames_per_owner_per_day": 38}), fleet) as client:
        balanced = await client.post("/api/v1/walks", json={**even, "effort": "balanced"})
        fast = await client.post("/api/v1/walks", json=even)
        # More than is left, also once it is known how many of the 38 will be rendered.
        second = await client.post("/api/v1/walks", json={**even, "frames": 24, "spacing": "uniform"})
    assert (balanced.status_code, fast.status_code, second.status_code) == (429, 201, 429)
    assert "your walks render up to 3" in second.json()["detail"]


@asynccontextmanager
async def narrow(
    settings: Settings, fleet: FakeFleet, walks: int
) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    """An API whose queue has places for this many walks, none of which is rendered; and API keys."""
    fleet.add(ready=False)
    async with (
        running(settings.model_copy(update={"max_queued_walks": walks}), fleet) as client,
        opened(settings.database_url) as engine,
    ):
        yield client, [await add_key(engine, f"robot {number}") for number in range(8)]


async def post(client: httpx.AsyncClient, seed: int, **headers: str) -> httpx.Response:
    """POST a long walk, without a cookie unless the headers have one."""
    client.cookies.clear()
    return await client.post("/api/v1/walks", json={**REQUEST, "frames": 241, "seed": seed}, headers=headers)


async def test_one_owner_cannot_fill_the_queue(settings, fleet):
    """Whatever the other limits allow: the queue is as long as the operator says."""
    async with narrow(settings, fleet, 25) as (client, [greedy, honest, *_]):
        flood = [await post(client, seed, Authorization=f"Bearer {greedy}") for seed in range(25)]
        assert [answer.status_code for answer in flood] == [201] * 7 + [429] * 18
        assert (await post(client, 30, Authorization=f"Bearer {honest}")).status_code == 201


async def test_a_full_queue_is_a_503(settings, fleet):
    """Accepted walks are never dropped."""
    async with narrow(settings, fleet, 8) as (client, keys):
        answers = [
            await post(client, 2 * number + again, Authorization=f"Bearer {key}")
            for number, key in enumerate(keys[:5])
            for again in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201] * 8 + [503] * 2
        assert "8 walks are queued" in answers[-1].json()["detail"]
        assert answers[-1].headers["retry-after"] == "60"
        assert (await post(client, 0, Authorization=f"Bearer {keys[5]}")).status_code == 200


async def test_quotas_hold_for_concurrent_requests(settings, fleet):
    """Each of forty concurrent requests must count the others."""
    fleet.add(ready=False)
    strict = settings.model_copy(update={"max_walks_per_owner": 5})
    async with running(strict, fleet) as client, visitors(client, 1) as [visitor]:
        await visitor.post("/api/v1/walks", json=REQUEST)
        statuses: list[int] = []

        async def request(seed: int) -> None:
            statuses.append((await visitor.post("/api/v1/walks", json={**REQUEST, "seed": seed})).status_code)

        async with anyio.create_task_group() as tasks:
            for seed in range(1, 40):
                tasks.start_soon(request, seed)
    assert sorted(statuses) == [201] * 4 + [429] * 35


async def test_restarted_walks_count_too(settings, fleet):
    """Otherwise a script could queue any number of cancelled walks."""
    fleet.add(ready=False)
    strict = settings.model_copy(update={"max_walks_per_owner": 2})
    async with running(strict, fleet) as client, visitors(client, 1) as [visitor]:
        for seed in range(4):
            walk = (await visitor.post("/api/v1/walks", json={**REQUEST, "seed": seed})).json()
            await visitor.delete(walk["url"])
        again = [(await visitor.post("/api/v1/walks", json={**REQUEST, "seed": seed})).status_code for seed in range(4)]
    assert again == [201, 201, 429, 429]
