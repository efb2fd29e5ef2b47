"""Pictures of walks: few queries however many pictures a page has, and the walk as it is now."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from sqlalchemy import Engine, event

from momalisa_api.problems import CatalogueUnavailable, WalkNotFound
from momalisa_api.settings import Settings
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine
from momalisa_api.store.schema import opened
from momalisa_api.web.recent_walks import WALKS_PER_QUERY, RecentWalks
from momalisa_api.web.routes.media import FOR_EVER
from tests.support.factories import FakeFleet, ended, running, spec
from tests.support.processes import free_port

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 25, "spacing": "uniform"}
MOST_QUERIES = 30


@contextmanager
def counted() -> Iterator[list[str]]:
    """All statements that the databases of this process get meanwhile."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def fetched(clients: list[httpx.AsyncClient], urls: list[str]) -> list[httpx.Response]:
    """The answers to requests sent at once, by several processes in turn."""
    answers: dict[int, httpx.Response] = {}

    async def fetch(number: int, url: str) -> None:
        answers[number] = await clients[number % len(clients)].get(url)

    async with anyio.create_task_group() as tasks:
        for number, url in enumerate(urls):
            tasks.start_soon(fetch, number, url)
    return [answers[number] for number in range(len(urls))]


@asynccontextmanager
async def web_processes(settings: Settings, fleet: FakeFleet, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of new processes that only serve."""
    async with AsyncExitStack() as stack:
        web = settings.model_copy(update={"role": "web"})
        yield [await stack.enter_async_context(running(web, fleet)) for _ in range(count)]


async def test_a_page_of_25_frames_costs_few_queries(settings, fleet, emptied):
    """A walk in the news is watched by thousands, and the catalogue must still have time for the walks."""
    settings = settings.model_copy(update={"database_url": emptied})
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    frames = [f"{walk['url']}/frames/{number}.png" for number in range(25)]
    for processes in (1, 2):
        async with web_processes(settings, fleet, processes) as clients:
            with counted() as statements:
                answers = await fetched(clients, [walk["url"], f"{walk['url']}/request", *frames])
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers[2:]}) == 25
        assert {answer.headers["cache-control"] for answer in answers[2:]} == {FOR_EVER}
        assert len(statements) <= MOST_QUERIES / 2, statements


async def test_a_page_of_the_gallery_costs_few_queries(settings, fleet, emptied):
    """Its pictures are of 24 walks, and each visitor of the gallery fetches them."""
    settings = settings.model_copy(update={"database_url": emptied})
    async with running(settings, fleet) as client:
        for seed in range(24):
            await client.post("/api/v1/walks", json={**REQUEST, "frames": 2, "seed": seed})
        for walk in (await client.get("/api/v1/walks")).json()["walks"]:
            await ended(client, walk)
    for processes in (1, 2):
        async with web_processes(settings, fleet, processes) as clients:
            with counted() as statements:
                [page] = await fetched(clients, ["/api/v1/walks"])
                films = [walk["films"] for walk in page.json()["walks"]]
                posters = await fetched(clients, [film["poster.webp"] for film in films])
                previews = await fetched(clients, [film["preview.mp4"] for film in films])
        assert [answer.status_code for answer in (*posters, *previews)] == [200] * 48
        assert len(statements) <= MOST_QUERIES / 2, statements


async def test_a_picture_that_appears_is_served_at_once(settings, fleet):
    """Events announce it to everyone who watches, so that all of them request it in the same moment."""
    replica = fleet.add(frame_s=0.01)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json={**REQUEST, "spacing": "even"})).json()
        seen = set()
        while walk["state"] != "done":
            urls = [f"{walk['url']}/frames/{number}.png" for number in walk["frames_ready"]]
            urls += [probe["url"] for probe in walk["probes"]] + list(walk["films"].values())
            answers = await fetched([client], sorted(set(urls) - seen))
            assert {answer.status_code for answer in answers} <= {200}
            seen |= set(urls)
            await anyio.sleep(0.01)
            walk = (await client.get(walk["url"])).json()
        films = await fetched([client], list(walk["films"].values()))
    assert {answer.status_code for answer in films} == {200}
    assert replica.sent >= 25


@pytest.fixture
async def catalogue(settings) -> AsyncIterator[Catalogue]:
    async with opened(settings.database_url) as engine:
        yield Catalogue(engine)


async def test_a_deleted_walk_is_served_no_longer_than_it_is_kept(catalogue):
    """An operator deletes what must not be seen."""
    await catalogue.request(spec(), "somebody")
    for_long, not_at_all = RecentWalks(catalogue, kept_s=3600), RecentWalks(catalogue, kept_s=0)
    for recent in (for_long, not_at_all):
        assert (await recent.get(spec().id)).walk.id == spec().id
    await catalogue.remove(spec().id)
    assert (await for_long.get(spec().id)).walk.id == spec().id
    for read in (for_long.newest, not_at_all.get):
        with pytest.raises(WalkNotFound):
            await read(spec().id)


async def test_walks_that_are_requested_at_once_are_read_together(catalogue):
    """Also in the company of requests that end early, and of walks that do not exist."""
    specs = [spec(seed=seed) for seed in range(WALKS_PER_QUERY + 5)]
    for one in specs:
        await catalogue.request(one, "somebody")
    recent, found, missing = RecentWalks(catalogue), set[str](), list[str]()
    leaving = anyio.CancelScope()

    async def leave_early() -> None:
        with leaving:
            await recent.get(specs[0].id)

    async def get(walk_id: str) -> None:
        try:
            found.add((await recent.get(walk_id)).walk.id)
        except WalkNotFound:
            missing.append(walk_id)

    with counted() as statements:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave_early)
            for walk_id in ("0" * 32, *(one.id for one in specs)):
                tasks.start_soon(get, walk_id)
            await anyio.lowlevel.checkpoint()
            leaving.cancel()
    assert found == {one.id for one in specs}
    assert missing == ["0" * 32]
    # Two for each batch, as the walks are unfinished, and two that look for the missing one.
    assert len(statements) <= 2 * 3 + 2, statements


async def test_an_outage_ends_all_requests_that_wait_for_one_query():
    """One after another, each would wait for a database that does not answer."""
    recent = RecentWalks(Catalogue(open_engine(f"postgresql://nobody@127.0.0.1:{free_port()}/none")))
    failures: list[CatalogueUnavailable] = []

    async def fail() -> None:
        with pytest.raises(CatalogueUnavailable) as caught:
            await recent.get(spec().id)
        failures.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(fail)
    assert len(failures) == 10
    # The first one may read alone, and the second one for the nine that arrived meanwhile.
    assert len(set(map(id, failures))) <= 2
