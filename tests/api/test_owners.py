"""Whose walk it is: cookies that we have signed, API keys, and what each may do."""

from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from momalisa_api.store.owners import Owners, add_key, read_secret, remove_key
from momalisa_api.store.schema import opened
from tests.support.factories import running

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9}


@asynccontextmanager
async def visitors(client: httpx.AsyncClient, count: int):
    """Other clients of the same api, each with a cookie jar of its own."""
    others = [httpx.AsyncClient(transport=client._transport, base_url="http://api") for _ in range(count)]
    yield others
    for other in others:
        await other.aclose()


async def test_a_walk_goes_on_while_anybody_asks_for_it(settings, fleet):
    """Who withdraws takes back an ask, not another's walk."""
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


async def test_an_unlisted_walk_is_reached_by_its_url_alone(settings, fleet):
    """Its owner finds it; the wall does not show it, until somebody asks for it listed."""
    async with running(settings, fleet) as client, visitors(client, 2) as (owner, other):
        walk = (await owner.post("/api/v1/walks", json={**REQUEST, "listed": False})).json()
        assert (await other.get("/api/v1/walks")).json()["walks"] == []
        assert (await other.get("/api/v1/walks?owner=me")).json()["walks"] == []
        assert (await other.get(walk["url"])).status_code == 200
        mine = (await owner.get("/api/v1/walks?owner=me")).json()["walks"]
        assert [found["id"] for found in mine] == [walk["id"]]
        await owner.post("/api/v1/walks", json={**REQUEST, "listed": True})
        assert len((await other.get("/api/v1/walks")).json()["walks"]) == 1


async def test_an_ask_is_seen_and_changed_by_its_owner_alone(settings, fleet):
    """Whether a walk hangs on the wall is for those to say who asked for it, and each speaks for itself."""
    async with running(settings, fleet) as client, visitors(client, 3) as (owner, other, stranger):
        walk = (await owner.post("/api/v1/walks", json=REQUEST)).json()
        await other.post("/api/v1/walks", json={**REQUEST, "listed": False})
        # A client with a cookie that asked for something else, and one with none at all.
        await stranger.post("/api/v1/walks", json={**REQUEST, "seed": 5, "listed": False})
        ask = walk["url"] + "/request"
        said = [(await who.get(ask)).json() for who in (owner, other, stranger, client)]
        mine, unlisted, nothing = ({"mine": mine, "listed": listed} for mine, listed in ((1, 1), (1, 0), (0, 0)))
        assert said == [mine, unlisted, nothing, nothing]
        for who in (stranger, client):
            refused = await who.put(ask, json={"listed": False})
            assert (refused.status_code, refused.json()["type"]) == (403, "urn:momalisa:problem:not-owner")
        assert (await owner.put(ask, json={"listed": False})).json() == unlisted
        assert (await client.get("/api/v1/walks")).json()["walks"] == []
        assert (await other.put(ask, json={"listed": True})).json() == mine
        assert len((await client.get("/api/v1/walks")).json()["walks"]) == 1
        assert (await owner.get(ask)).json() == unlisted


async def test_no_name_asks_for_nothing(settings, fleet):
    """A GET without a name starts a walk for all who have none: none of them may take it off the wall."""
    async with running(settings, fleet) as client:
        found = await client.get("/api/v1/walk?start=a&end=b&frames=2", headers={"Accept": "application/json"})
        ask = f"/api/v1/walks/{found.json()['id']}/request"
        assert (await client.get(ask)).json() == {"mine": False, "listed": False}
        assert (await client.put(ask, json={"listed": False})).status_code == 403
        assert (await client.get("/api/v1/walks/" + "0" * 32 + "/request")).status_code == 404
        assert len((await client.get("/api/v1/walks")).json()["walks"]) == 1


async def test_the_cookie_cannot_be_made_up(settings, fleet):
    """A visitor who writes another's name into it is nobody."""
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


async def test_a_key_is_an_owner_wherever_it_is_used(settings, fleet):
    """Scripts have no cookie jar. Of a key only the hash is kept; a removed one opens nothing."""
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


async def test_every_process_signs_alike(settings):
    """A cookie of one process is known to the next, and to the same one after a restart."""
    async with opened(settings.database_url) as engine:
        first = Owners(engine, await read_secret(engine))
        second = Owners(engine, await read_secret(engine))
    assert second.of_cookie(first.new_cookie())
    assert Owners(engine, "another secret").of_cookie(first.new_cookie()) is None


async def test_a_get_sets_no_cookie(settings, fleet):
    """What caches and strangers' pages fetch must not make anybody somebody."""
    async with running(settings, fleet) as client:
        answer = await client.get("/api/v1/walk?start=a&end=b&frames=2&wait=5")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("limits", "requests", "status", "said"),
    [
        ({"max_walks_per_owner": 2}, 3, 429, "2 unfinished walks"),
        ({"frames_per_owner_per_day": 20}, 3, 429, "Daily limit of 20 frames"),
        ({"max_queued_walks": 2}, 3, 503, "2 walks are queued"),
    ],
)
async def test_what_is_too_much_is_refused_before_it_is_taken_in(settings, fleet, limits, requests, status, said):
    """Nothing accepted is ever dropped, so the limit stands at the door; known walks pass it always."""
    fleet.add(ready=False)
    async with running(settings.model_copy(update=limits), fleet) as client:
        answers = [await client.post("/api/v1/walks", json={**REQUEST, "seed": seed}) for seed in range(requests)]
        assert [answer.status_code for answer in answers] == [201] * (requests - 1) + [status]
        assert said in answers[-1].json()["detail"]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await client.post("/api/v1/walks", json={**REQUEST, "seed": 0})).status_code == 200
        if status == 429:
            client.cookies.clear()
            assert (await client.post("/api/v1/walks", json={**REQUEST, "seed": 9})).status_code == 201


async def test_budgets_hold_for_those_who_ask_for_many_at_once(settings, fleet):
    """Forty requests in flight are forty walks, not forty times the first."""
    fleet.add(ready=False)
    strict = settings.model_copy(update={"max_walks_per_owner": 5})
    async with running(strict, fleet) as client, visitors(client, 1) as [visitor]:
        await visitor.post("/api/v1/walks", json=REQUEST)
        statuses: list[int] = []

        async def ask(seed: int) -> None:
            statuses.append((await visitor.post("/api/v1/walks", json={**REQUEST, "seed": seed})).status_code)

        async with anyio.create_task_group() as tasks:
            for seed in range(1, 40):
                tasks.start_soon(ask, seed)
    assert sorted(statuses) == [201] * 4 + [429] * 35


async def test_starting_old_walks_again_is_counted_too(settings, fleet):
    """Or a script could put any number of cancelled walks in line."""
    fleet.add(ready=False)
    strict = settings.model_copy(update={"max_walks_per_owner": 2})
    async with running(strict, fleet) as client, visitors(client, 1) as [visitor]:
        for seed in range(4):
            walk = (await visitor.post("/api/v1/walks", json={**REQUEST, "seed": seed})).json()
            await visitor.delete(walk["url"])
        again = [(await visitor.post("/api/v1/walks", json={**REQUEST, "seed": seed})).status_code for seed in range(4)]
    assert again == [201, 201, 429, 429]
