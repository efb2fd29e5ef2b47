"""Many requests at once: a few are worked on at a time, and no one is left without an answer."""

import anyio
import pytest

from momalisa_api.problems import Busy
from momalisa_api.web.turns import BUSY_RETRY_S, TURNS, Turns
from tests.support.factories import running

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a", "end": "b", "frames": 2}


async def test_requests_get_their_turns_in_the_order_in_which_they_came():
    """And no more than some at a time, or each would wait for all others."""
    turns, began = Turns(at_once=2, wait_s=60), list[int]()
    first, second = anyio.Event(), anyio.Event()

    async def request(number: int, over: anyio.Event) -> None:
        async with turns.take():
            began.append(number)
            await over.wait()

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(request, number, first if number == 1 else second)
            await anyio.wait_all_tasks_blocked()
        assert began == [0, 1]
        first.set()
        await anyio.wait_all_tasks_blocked()
        assert began == [0, 1, 2]
        second.set()
    assert began == [0, 1, 2, 3]


async def test_a_request_that_would_wait_for_long_is_told_when_to_come_back():
    """Its client must not time out."""
    turns = Turns(at_once=1, wait_s=0.02)
    async with turns.take() as turn:
        with pytest.raises(Busy) as refused:
            await _wait(turns)
        assert int(refused.value.headers["Retry-After"]) in BUSY_RETRY_S
        turn.end()
        async with turns.take():
            turn.end()
            with pytest.raises(Busy):
                await _wait(turns)
    await _wait(turns)


async def test_a_request_behind_too_many_others_is_refused_at_once():
    """Each that waits needs memory."""
    turns = Turns(at_once=0, wait_s=60, line=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_wait, turns)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(Busy):
            await _wait(turns)
        tasks.cancel_scope.cancel()


async def _wait(turns: Turns) -> None:
    async with turns.take():
        pass


async def test_requests_that_wait_for_a_walk_take_no_turns(settings, fleet):
    """A long poll, or an open stream of events, takes half a minute and no work."""
    replica = fleet.add(ready=False)
    async with running(settings, fleet) as client, anyio.create_task_group() as tasks:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        films = list[int]()

        async def wait() -> None:
            films.append((await client.get("/api/v1/walk", params={**REQUEST, "wait": 25})).status_code)

        for _ in range(TURNS):
            tasks.start_soon(wait)
            tasks.start_soon(client.get, f"{walk['url']}/events")
        await anyio.wait_all_tasks_blocked()
        assert (await client.get(walk["url"])).json()["state"] == "waiting"
        assert not films
        replica.ready = True
    assert films == [200] * TURNS
