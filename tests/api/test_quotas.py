"""Limits that bind: those of a network and of the whole deployment, and what counts against them."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import httpx
import pytest
from sqlalchemy import func, select, update

from momalisa_api.problems import QuotaExceeded
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.owners import ANONYMOUS, add_key
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import charges
from momalisa_api.walks.walk import State
from momalisa_api.web.quotas import Quotas
from tests.support.factories import client_at, running, spec

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}
HONEST, FLOOD = "198.51.100.9", "203.0.113.7"


async def post(client: httpx.AsyncClient, seed: int, *, fresh: bool = True, **headers: str) -> httpx.Response:
    """POST a walk. fresh: as a new owner."""
    if fresh:
        client.cookies.clear()
    return await client.post("/api/v1/walks", json={**REQUEST, "seed": seed}, headers=headers)


@pytest.mark.parametrize("addresses", [[FLOOD], [f"2001:db8:1:2::{number:x}" for number in range(12)]])
async def test_a_thousand_cookies_are_one_network(settings, fleet, addresses):
    """Cookies cost nothing, and one customer has a whole /64. Neighbours with an API key are not affected."""
    fleet.add(ready=False)
    strict = settings.model_copy(update={"max_walks_per_owner": 2, "owners_per_network": 3})
    async with running(strict, fleet) as client, opened(settings.database_url) as engine:
        flood = []
        for seed in range(12):
            async with client_at(client, addresses[seed % len(addresses)]) as visitor:
                flood.append(await post(visitor, seed))
        assert [answer.status_code for answer in flood] == [201] * 6 + [429] * 6
        assert "Callers at your network address have 6 unfinished walks" in flood[-1].json()["detail"]
        assert flood[-1].headers["retry-after"] == "10"
        key = await add_key(engine, "neighbour")
        async with client_at(client, addresses[0]) as neighbour, client_at(client, HONEST) as honest:
            assert (await post(neighbour, 100, Authorization=f"Bearer {key}")).status_code == 201
            assert (await post(honest, 101)).status_code == 201


async def test_one_network_gets_half_of_the_queue(settings, fleet):
    """Whatever the other limits allow, and with or without a cookie."""
    fleet.add(ready=False)
    async with (
        running(settings.model_copy(update={"max_queued_walks": 8}), fleet) as client,
        client_at(client, HONEST) as honest,
    ):
        assert [(await post(client, seed)).status_code for seed in range(6)] == [201] * 4 + [429] * 2
        assert [(await post(honest, 10 + seed)).status_code for seed in range(5)] == [201] * 4 + [503]


async def test_anonymous_callers_share_limits_with_their_network_alone(settings, fleet):
    """They are one owner, so that a script anywhere would otherwise use up what all others may request."""
    fleet.add(ready=False)
    strict = settings.model_copy(update={"max_walks_per_owner": 2, "open_get": "on"})
    async with running(strict, fleet) as client, client_at(client, HONEST) as honest:
        url = "/api/v1/walk?start=a&end=b&frames=2&seed="
        assert [(await client.get(f"{url}{seed}")).status_code for seed in range(3)] == [503, 503, 429]
        assert (await honest.get(f"{url}9")).json()["type"] == "urn:momalisa:problem:walk-unfinished"


async def test_deletion_gives_no_frames_back(settings, fleet):
    """They may have been rendered, and a script could request and delete walks all day."""
    fleet.add(ready=False)
    async with running(settings.model_copy(update={"frames_per_owner_per_day": 20}), fleet) as client:
        for seed in range(2):
            walk = (await post(client, seed, fresh=False)).json()
            await client.delete(walk["url"])
            async with opened(settings.database_url) as engine:
                await Catalogue(engine).remove(walk["id"])
        refused = await post(client, 2, fresh=False)
        assert refused.status_code == 429
        assert "Daily limit of 20 frames reached: your walks render up to 18" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 80_000


async def test_the_frames_of_a_day_have_a_limit_for_the_whole_deployment(settings, fleet):
    """One owner gets a quarter of it, and one network half, so that one caller cannot use it up."""
    fleet.add(ready=False)
    capped = settings.model_copy(update={"frames_per_day": 72})
    async with (
        running(capped, fleet) as client,
        client_at(client, HONEST) as honest,
        client_at(client, "2001:db8::1") as other,
    ):
        assert [(await post(client, seed, fresh=False)).status_code for seed in range(3)] == [201, 201, 429]
        network = [await post(client, 10 + seed) for seed in range(3)]
        assert [answer.status_code for answer in network] == [201, 201, 429]
        assert "Daily limit of 36 frames reached: their walks render up to 36" in network[-1].json()["detail"]
        assert [(await post(honest, 20 + seed)).status_code for seed in range(4)] == [201] * 4
        full = await post(other, 30)
        assert (full.status_code, full.json()["type"]) == (503, "urn:momalisa:problem:day-full")
        assert int(full.headers["retry-after"]) > 80_000
        assert (await post(other, 20)).status_code == 200, "a walk that exists costs nothing"


async def test_a_walk_that_starts_again_is_charged_for_what_it_lacks(url, tmp_path):
    """To its new requester: the first one has it no more among the unfinished walks."""
    network = f"network of {tmp_path.name}"
    async with opened(url) as engine:
        catalogue = Catalogue(engine)
        walk, _ = await catalogue.request(spec(stops=(tmp_path.name, "x")), f"first {network}", network=network)
        await catalogue.withdraw(walk.id, f"first {network}")
        assert await catalogue.restart(await catalogue.get(walk.id), f"second {network}", 7, network=network)
        query = select(charges.c.owner, charges.c.frames, charges.c.walk_id).where(charges.c.network == network)
        async with engine.begin() as connection:
            found = (await connection.execute(query.order_by(charges.c.number))).all()
    assert [tuple(row) for row in found] == [(f"first {network}", 25, None), (f"second {network}", 7, walk.id)]


async def test_limits_of_a_network_hold_for_concurrent_requests(url, tmp_path, settings):
    """Each of thirty owners at one address must count the others, over several connections."""
    network = f"network of {tmp_path.name}"
    quotas = Quotas(settings.model_copy(update={"max_walks_per_owner": 2, "owners_per_network": 3}))
    async with opened(url) as engine:
        started: list[str] = []

        async def request(number: int) -> None:
            owner = f"cookie:{number}"
            admission = partial(quotas.check, owner=owner, network=network, frames=9)
            with suppress(QuotaExceeded):
                walk, _ = await Catalogue(engine).request(
                    spec((tmp_path.name, "x"), 9, seed=number), owner, network=network, admission=admission
                )
                started.append(walk.id)

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(request, number)
    assert len(started) == 6


async def test_old_charges_are_deleted_unless_their_walk_is_unfinished(url, tmp_path):
    """Networks are told for a day and no longer, but a walk that waits for two days is still unfinished."""
    network = f"network of {tmp_path.name}"
    old = datetime.now(UTC) - timedelta(days=1, minutes=1)
    async with opened(url) as engine:
        catalogue = Catalogue(engine)
        for number in range(2):
            walk, _ = await catalogue.request(spec((tmp_path.name, "x"), seed=number), ANONYMOUS, network=network)
        await catalogue.withdraw(walk.id, ANONYMOUS)
        assert (await catalogue.get(walk.id)).state is State.CANCELLED
        theirs = charges.c.network == network
        async with engine.begin() as connection:
            await connection.execute(update(charges).where(theirs).values(charged_at=old))
        await catalogue.delete_old_charges()
        async with engine.begin() as connection:
            left = (await connection.scalars(select(charges.c.walk_id).where(theirs))).all()
            assert await connection.scalar(select(func.count()).where(theirs, charges.c.owner == f"network:{network}"))
    assert len(left) == 1
    assert left[0] != walk.id


async def test_a_network_has_the_turns_of_a_few_owners(settings):
    """A flood of new cookies must not come before an honest caller's walk, nor a greedy colleague before the others."""
    async with opened(settings.database_url) as engine:
        catalogue = Catalogue(engine)

        async def tag_of(owner: str, network: str, seed: int) -> int:
            walk, _ = await catalogue.request(spec(frames=9, seed=seed), owner, network=network)
            return walk.tag

        flood = [await tag_of(f"cookie:{seed}", "flood", seed) for seed in range(8)]
        assert flood == [0, 3, 5, 7, 9, 12, 14, 16]
        assert await tag_of("cookie:honest", "home", 20) == 0
        greedy = [await tag_of("cookie:greedy", "office", 30 + seed) for seed in range(5)]
        assert greedy == [0, 9, 18, 27, 36]
        assert await tag_of("cookie:colleague", "office", 40) == 3
