"""Private walks: for everybody but their owners and the holders of links, they do not exist."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import delete, update

from momalisa_api.problems import LinkExpired
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import walks
from momalisa_api.web.links import Links
from momalisa_api.web.live import LiveUpdates
from tests.support.factories import ended, running
from tests.support.gallery import Head, make_gallery

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 3, "spacing": "uniform"}
UNKNOWN = "0" * 32
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
# What routes need beside the walk's id. A new route with another parameter or body belongs in here.
PARAMETERS = {"index": "0", "seed": "0", "leg": "0", "fraction": "0.0", "name": "walk.gif", "webhook_id": UNKNOWN}
BODIES = {
    "PUT /request": {"listed": True},
    "POST /links": {"hours": 1},
    "POST /webhooks": {"url": "https://example.com/done"},
}


@dataclass
class Visitors:
    """An owner of a private walk, and others: each has a cookie jar."""

    owner: httpx.AsyncClient
    other: httpx.AsyncClient
    nobody: httpx.AsyncClient
    walk: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.walk["url"])

    async def token(self, hours: float = 1) -> str:
        made = await self.owner.post(f"{self.url}/links", json={"hours": hours})
        assert made.status_code == 201, made.text
        return str(made.json()["url"]).rpartition("?link=")[2]


@asynccontextmanager
async def visitors(settings: Any, fleet: Any) -> AsyncIterator[Visitors]:
    """The owner's walk is finished. The others have a walk of their own with the same prompts, and no walk."""
    async with running(settings, fleet) as nobody:
        options: dict[str, Any] = {"transport": nobody._transport, "base_url": "http://api"}
        async with httpx.AsyncClient(**options) as owner, httpx.AsyncClient(**options) as other:
            walk = await private_walk(owner)
            await private_walk(other)
            yield Visitors(owner, other, nobody, walk)


async def private_walk(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    created = await client.post("/api/v1/walks", json={**REQUEST, "listed": False, **changes})
    assert created.status_code == 201, created.text
    return await ended(client, created.json())


def routes_of_walks(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Every method and path of the API that names a walk."""
    document = client._transport.app.openapi()["paths"]
    hidden = {route.path: route.methods for route in client._transport.app.routes if isinstance(route, APIRoute)}
    found = {path: {method.upper() for method in methods} for path, methods in document.items()}
    found |= {path: set(methods) for path, methods in hidden.items() if path not in found}
    return [(method, path) for path, methods in found.items() if "{walk_id}" in path for method in sorted(methods)]


def as_seen(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


async def test_no_route_tells_a_stranger_that_a_private_walk_exists(settings, fleet):
    """Byte for byte the answers about an unknown id, on all routes that there are, and with links that do not fit."""
    async with visitors(settings, fleet) as all_of_them:
        foreign = await all_of_them.token()
        mine = await private_walk(all_of_them.owner, seed=9)
        routes = routes_of_walks(all_of_them.nobody)
        assert len(routes) > 8
        for method, path in routes:
            rest = path.partition("{walk_id}")[2]
            tail = rest.format(**PARAMETERS)
            body = BODIES.get(f"{method} {rest}")
            for visitor in (all_of_them.other, all_of_them.nobody):
                for link in ({}, {"link": foreign}, {"link": "ffffffff." + "a" * 43}, {"link": "x"}):
                    for verb in {method, "HEAD" if method == "GET" else method}:
                        private, unknown = [
                            as_seen(await visitor.request(verb, f"/api/v1/walks/{of}{tail}", json=body, params=link))
                            for of in (mine["id"], UNKNOWN)
                        ]
                        assert private == unknown, (verb, path, link)
                        assert private[0] == 404, (verb, path, "does it need a body?")
        assert (await all_of_them.owner.get(mine["url"])).status_code == 200


async def test_an_owner_reads_everything_and_no_shared_cache_keeps_it(settings, fleet):
    """The same resource as before for its owner; proxies must not give it to others."""
    async with visitors(settings, fleet) as all_of_them:
        owner, walk = all_of_them.owner, all_of_them.walk
        assert "scope" not in json.dumps(walk)
        for tail in (
            "",
            "/request",
            "/frames/0.png",
            "/frames.zip",
            "/walk.gif",
            "/walk.mp4",
            "/frames/9.png",
            "/events",
        ):
            answer = await owner.get(walk["url"] + tail)
            assert answer.status_code == (404 if "9" in tail else 200), tail
            assert answer.headers["cache-control"].startswith("private"), tail
            assert {"Cookie", "Authorization"} <= {name.strip() for name in answer.headers["vary"].split(",")}
        film = await owner.get(walk["films"]["walk.mp4"])
        same = await owner.get(walk["films"]["walk.mp4"], headers={"If-None-Match": film.headers["etag"]})
        piece = await owner.get(walk["films"]["walk.mp4"], headers={"Range": "bytes=0-9"})
        assert (same.status_code, piece.status_code, len(piece.content)) == (304, 206, 10)
        assert same.headers["cache-control"].startswith("private")
        public = await ended(owner, (await owner.post("/api/v1/walks", json=REQUEST)).json())
        shared = await all_of_them.nobody.get(public["films"]["walk.gif"])
        assert shared.headers["cache-control"].startswith("public")
        assert "Cookie" not in shared.headers.get("vary", "")


async def test_equal_private_walks_of_two_owners_share_nothing(settings, fleet):
    """Otherwise a time or a count would tell one owner what another one has made."""
    async with visitors(settings, fleet) as all_of_them:
        before = fleet.frames_rendered
        assert before == 6
        [theirs] = (await all_of_them.other.get("/api/v1/walks?owner=me")).json()["walks"]
        assert theirs["id"] != all_of_them.walk["id"]
        public = await ended(all_of_them.nobody, (await all_of_them.nobody.post("/api/v1/walks", json=REQUEST)).json())
        assert fleet.frames_rendered == 9
        assert (public["private"], theirs["private"]) == (False, True)
        again = await all_of_them.owner.post("/api/v1/walks", json={**REQUEST, "listed": False})
        assert (again.status_code, again.json()["id"]) == (200, all_of_them.walk["id"])


async def test_a_get_of_a_named_caller_is_private_and_of_an_anonymous_one_unlisted(settings, fleet):
    """Anonymous callers share one owner: what is theirs is everybody's who has the URL."""
    async with visitors(settings, fleet) as all_of_them:
        query = "/api/v1/walk?start=a&end=b&frames=2&wait=20&listed=false"
        mine, public = [await one.get(query) for one in (all_of_them.owner, all_of_them.nobody)]
        assert (mine.status_code, public.status_code) == (200, 200)
        assert mine.headers["content-location"] != public.headers["content-location"]
        assert mine.headers["cache-control"].startswith("private")
        assert "Cookie" in mine.headers["vary"]
        statuses = [
            (await one.get(answer.headers["content-location"])).status_code
            for one in (all_of_them.owner, all_of_them.other)
            for answer in (mine, public)
        ]
        assert statuses == [200, 200, 404, 200]


async def test_nobody_finds_the_unlisted_walks_of_anonymous_callers(settings, fleet):
    """They share one owner, so a list of that owner's walks would be a gallery of what was not to be in one."""
    async with visitors(settings, fleet) as all_of_them:
        nobody, query = all_of_them.nobody, "/api/v1/walk?start=hidden&end=b&frames=2&wait=20&listed=false"
        assert (await nobody.get(query)).status_code == 200
        for parameters in ("?owner=me", "?owner=me&q=hidden", "?q=hidden"):
            assert "hidden" not in str((await nobody.get(f"/api/v1/walks{parameters}")).json()["walks"])
        mine = await all_of_them.owner.get("/api/v1/walks?owner=me")
        assert len(mine.json()["walks"]) == 1
        assert mine.headers["cache-control"] == "private, no-store"


async def test_a_listed_private_walk_is_for_all_until_it_is_unlisted(settings, fleet):
    """Also if it was read a moment ago; an operator who hides it from the gallery closes it, too."""
    async with visitors(settings, fleet) as all_of_them:
        owner, nobody, url = all_of_them.owner, all_of_them.nobody, all_of_them.url
        for listed, status in ((True, 200), (False, 404), (True, 200)):
            await owner.put(f"{url}/request", json={"listed": listed})
            assert [(await nobody.get(url + tail)).status_code for tail in ("", "/walk.gif")] == [status, status]
            shown = [walk["id"] for walk in (await nobody.get("/api/v1/walks")).json()["walks"]]
            assert (all_of_them.walk["id"] in shown) is listed
        async with opened(settings.database_url) as engine, engine.begin() as connection:
            await connection.execute(update(walks).values(hidden=True))
        assert ((await nobody.get(url)).status_code, (await owner.get(url)).status_code) == (404, 200)


async def test_a_link_opens_one_walk_and_its_urls_carry_it(settings, fleet):
    """Who has the link follows the URLs of the resource, as everybody does."""
    async with visitors(settings, fleet) as all_of_them:
        nobody, link = all_of_them.nobody, {"link": await all_of_them.token()}
        walk = (await nobody.get(all_of_them.url, params=link)).json()
        urls = [walk["url"], *walk["films"].values()]
        assert all(url.endswith(f"?link={link['link']}") for url in urls)
        assert {(await nobody.get(url)).status_code for url in urls} == {200}
        events = (await nobody.get(f"{all_of_them.url}/events", params=link)).text
        assert f"walk.gif?link={link['link']}" in events
        assert "link=" not in (await all_of_them.owner.get(f"{all_of_them.url}/events")).text
        for method, tail, body in (("PUT", "/request", {"listed": True}), ("POST", "/links", {}), ("DELETE", "", None)):
            refused = await all_of_them.other.request(method, all_of_them.url + tail, params=link, json=body)
            assert refused.status_code in (403, 200)
            assert method == "DELETE" or refused.json()["type"] == "urn:momalisa:problem:not-owner"
        assert (await all_of_them.owner.get(f"{all_of_them.url}/request")).json() == {"mine": True, "listed": False}


async def test_an_expired_link_says_so(settings, fleet):
    """Only to those who had it: the signature still has to fit."""
    async with visitors(settings, fleet) as all_of_them:
        token = await all_of_them.token(hours=1e-9)
        expired = await all_of_them.nobody.get(all_of_them.url, params={"link": token})
        assert (expired.status_code, expired.json()["type"]) == (410, "urn:momalisa:problem:link-expired")
        longer = f"{int(token.partition('.')[0], 16) + 3600:x}.{token.partition('.')[2]}"
        assert (await all_of_them.nobody.get(all_of_them.url, params={"link": longer})).status_code == 404
        assert (await all_of_them.owner.get(all_of_them.url, params={"link": token})).status_code == 200
        for hours in (0, -1, 1e9, "x"):
            assert (await all_of_them.owner.post(f"{all_of_them.url}/links", json={"hours": hours})).status_code == 422


async def test_a_link_dies_with_its_walk(settings, fleet):
    """The same owner can request the same walk again: it has the same id, and old links do not open it."""
    async with visitors(settings, fleet) as all_of_them:
        link = {"link": await all_of_them.token()}
        async with opened(settings.database_url) as engine, engine.begin() as connection:
            await connection.execute(delete(walks).where(walks.c.id == all_of_them.walk["id"]))
        assert (await private_walk(all_of_them.owner))["id"] == all_of_them.walk["id"]
        assert (await all_of_them.nobody.get(all_of_them.url, params=link)).status_code == 404
        assert (await all_of_them.owner.get(all_of_them.url)).status_code == 200


@pytest.mark.parametrize("token", ["", ".", "x.", ".x", "é.é", "zz.AAAA", "ffffffffffffffffff.AAAA", "0." + "A" * 500])
def test_a_token_that_was_not_made_here_opens_nothing(token):
    """It comes from addresses, which anybody can write."""
    links = Links("secret")
    assert not links.opens(token, "a" * 32, 1)
    made = Links("another secret").token("a" * 32, 1, datetime.now(UTC) + timedelta(hours=1))
    assert not links.opens(made, "a" * 32, 1)


def test_a_token_fits_one_walk():
    """Neither another id nor another number."""
    links, now = Links("secret"), datetime.now(UTC)
    made = links.token("a" * 32, 1, now + timedelta(hours=1))
    assert [links.opens(made, *walk) for walk in (("a" * 32, 1), ("b" * 32, 1), ("a" * 32, 2))] == [True, False, False]
    with pytest.raises(LinkExpired):
        links.opens(links.token("a" * 32, 1, now), "a" * 32, 1)


async def test_a_page_describes_a_private_walk_only_to_holders_of_a_link(settings, fleet, tmp_path):
    """Chats fetch the page that somebody pastes. Its pictures need the link, too, and no index may have the page."""
    settings = settings.model_copy(update={"gallery": make_gallery(tmp_path / "dist")})
    async with visitors(settings, fleet) as all_of_them:
        page, token = f"/walks/{all_of_them.walk['id']}", await all_of_them.token()
        stale = await all_of_them.token(hours=1e-9)
        told = await all_of_them.nobody.get(f"{page}?link={token}", headers=BROWSER)
        found = Head(told.text)
        assert found.meta["og:title"] == "a giraffe → a battleship"
        assert found.meta["robots"] == "noindex"
        assert (await all_of_them.nobody.get(found.meta["og:image"].removeprefix("http://api"))).status_code == 200
        assert told.headers["cache-control"].startswith("private")
        assert told.headers["referrer-policy"] == "strict-origin"
        inside = await all_of_them.nobody.get("/api/v1/head", params={"path": page, "link": token})
        assert Head(inside.text).meta == found.meta
        for query in ("", "?link=", "?link=x", f"?link={stale}", f"?link={'a' * 3000}"):
            for visitor in (all_of_them.nobody, all_of_them.owner):
                shown = Head((await visitor.get(page + query, headers=BROWSER)).text)
                assert (shown.title, set(shown.meta)) == ("MoMALisa", {"description", "robots"}), query


async def test_events_end_for_those_who_may_not_read_the_walk_any_more(settings, fleet, monkeypatch):
    """A watcher keeps its stream open for minutes: the walk can be unlisted meanwhile."""
    monkeypatch.setattr("momalisa_api.web.routes.events.RECHECK_S", 0.0)
    replica = fleet.add(ready=False)
    async with running(settings, fleet) as owner:
        walk = (await owner.post("/api/v1/walks", json={**REQUEST, "listed": False})).json()
        await owner.put(f"{walk['url']}/request", json={"listed": True})
        async with httpx.AsyncClient(transport=owner._transport, base_url="http://api") as nobody:
            streams: list[str] = []

            async def watch() -> None:
                streams.append((await nobody.get(f"{walk['url']}/events")).text)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                with anyio.fail_after(5):
                    while not owner._transport.app.state.parts[LiveUpdates]._waiting:
                        await anyio.sleep(0.01)
                await owner.put(f"{walk['url']}/request", json={"listed": False})
                replica.ready = True
                assert (await ended(owner, walk))["state"] == "done"
            assert '"state":"done"' not in streams[0]


async def test_events_end_with_the_link_that_opened_them(settings, fleet, monkeypatch):
    """Without an error on the server: the stream just ends, and its client learns why when it reconnects."""
    monkeypatch.setattr("momalisa_api.web.routes.events.RECHECK_S", 0.0)
    replica = fleet.add(ready=False)
    async with running(settings, fleet) as owner:
        walk = (await owner.post("/api/v1/walks", json={**REQUEST, "listed": False})).json()
        token = (await owner.post(f"{walk['url']}/links", json={"hours": 1})).json()["url"].rpartition("?link=")[2]
        async with httpx.AsyncClient(transport=owner._transport, base_url="http://api") as nobody:
            streams: list[str] = []

            async def watch() -> None:
                streams.append((await nobody.get(f"{walk['url']}/events", params={"link": token})).text)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                with anyio.fail_after(5):
                    while not owner._transport.app.state.parts[LiveUpdates]._waiting:
                        await anyio.sleep(0.01)
                monkeypatch.setattr("momalisa_api.web.links.datetime", _InTwoHours)
                replica.ready = True
                assert (await ended(owner, walk))["state"] == "done"
            assert '"state":"done"' not in streams[0]


class _InTwoHours(datetime):
    """A clock that is ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(hours=2)
