"""The fleet by itself: which replica renders a shard when others are busy, slow, dead, or have another model."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.replica import MAX_CHECK_BYTES, Replica, ReplicaLost
from momalisa_api.fleet.wire import RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Unavailable, WalkFailed
from momalisa_api.walks.kinds import EARLY_BLEND
from momalisa_api.walks.spec import Frame, Shard, plan_shards
from tests.support.factories import CARD, KEY, FakeFleet, MemoryModels, frames_of, painted, spec
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
WALK = spec(frames=24)
SHARDS = plan_shards(WALK.id, frames_of(WALK), 4)
HEAD = b'{"model": "m", "revision": "r", "fingerprint": "0000000000000000"}\n'
OUT_OF_MEMORY = {"content": HEAD + b'{"problem": {"status": 507, "detail": "too little"}}'}


@asynccontextmanager
async def dispatching(fleet: FakeFleet, addresses: str | None = None, **options: Any) -> AsyncIterator[Fleet]:
    settings: dict[str, Any] = {"refresh_s": 0.05, "shard_tries": 3, "backups": False, **options}
    async with fleet.client() as client, anyio.create_task_group() as tasks:
        replicas = Fleet(addresses or fleet.addresses, client, MemoryModels(), Metrics(), **settings)
        tasks.start_soon(replicas.run)
        yield replicas
        tasks.cancel_scope.cancel()


async def awake(replicas: Fleet, count: int) -> None:
    """Wait until this many replicas can take work."""
    with anyio.fail_after(10):
        while replicas.awake < count:
            await anyio.sleep(0.01)


async def collect(replicas: Fleet, shard: Shard) -> list[float]:
    """The fractions that arrive for a shard."""
    with anyio.fail_after(10):
        return [event.fraction async for event in replicas.render(shard) if isinstance(event, RenderedFrame)]


async def collect_all(replicas: Fleet, shards: list[Shard] = SHARDS) -> list[float]:
    came: list[float] = []

    async def one(shard: Shard) -> None:
        came.extend(await collect(replicas, shard))

    async with anyio.create_task_group() as tasks:
        for shard in shards:
            tasks.start_soon(one, shard)
    return sorted(came)


ALL = sorted(frame.fraction for frame in frames_of(WALK))


async def test_idle_replicas_share_the_shards(fleet):
    """Rendering in parallel is the purpose of the system."""
    first, second = fleet.add(frame_s=0.01), fleet.add(frame_s=0.01)
    async with dispatching(fleet) as replicas:
        await awake(replicas, 2)
        assert await collect_all(replicas) == ALL
    assert len(first.render_calls) == len(second.render_calls) == 3


async def test_a_mark_arrives_with_its_frame(fleet):
    """From any of several replicas; the other frames of the shard have no mark."""
    disliked = frozenset({SHARDS[0].fractions[0], SHARDS[0].fractions[-1]})
    fleet.add(dies_after=2, flags=disliked)
    fleet.add(flags=disliked)
    async with dispatching(fleet) as replicas:
        events = [event async for event in replicas.render(SHARDS[0]) if isinstance(event, RenderedFrame)]
    assert {event.fraction: event.marked for event in events} == {at: at in disliked for at in SHARDS[0].fractions}


async def test_a_slow_replica_gets_less(fleet):
    """An idle replica takes the next shard; shards are not divided equally beforehand."""
    slow, fast = fleet.add(frame_s=0.08), fleet.add(frame_s=0.005)
    async with dispatching(fleet) as replicas:
        await awake(replicas, 2)
        assert await collect_all(replicas) == ALL
    assert len(slow.render_calls) < len(fast.render_calls)


async def test_a_busy_replica_is_called_again(fleet):
    """A 503 is a pause, not a failure: GPU pools come up from zero."""
    fleet.add(busy_answers=7)
    async with dispatching(fleet, shard_tries=1) as replicas:
        assert await collect_all(replicas) == ALL


async def test_only_the_frames_that_a_dead_replica_did_not_send_are_requested_again(fleet):
    """The frames that it sent before are stored."""
    dying = fleet.add(dies_after=2)
    async with dispatching(fleet, fleet.addresses + " http://replica-2") as replicas:
        fleet.add(reachable=False)
        while not replicas.awake:
            await anyio.sleep(0.01)
        fleet.replicas["replica-2"].reachable = True
        shard = SHARDS[0]
        assert sorted(await collect(replicas, shard)) == sorted(shard.fractions)
    assert dying.sent == 2
    assert len(fleet.replicas["replica-2"].render_calls[0][1]) == len(shard.fractions) - 2


async def test_a_replica_with_another_card_gets_no_work(fleet):
    """Its frames would be those of another model, and would stay in the bucket for ever."""
    other = fleet.add(card={**CARD, "revision": "2"})
    fleet.add()
    async with dispatching(fleet) as replicas:
        assert await collect_all(replicas) == ALL
        assert replicas.awake == 1
    assert other.render_calls == []


async def test_a_recipe_with_the_early_blend_goes_only_to_replicas_that_offer_it(fleet):
    """An older one would refuse it, as an idle replica, for a late shard, and as the only one that is awake."""
    old, new = fleet.add(), fleet.add(features=(EARLY_BLEND,), frame_s=0.02)
    shards = plan_shards(WALK.id, [Frame(WALK.recipes(0, "early")[0], fraction) for fraction in ALL], 4)
    async with dispatching(fleet, backups=True, first_guess_s=0.01) as replicas:
        await awake(replicas, 2)
        assert replicas.holders(KEY).features == frozenset()
        assert await collect_all(replicas, shards) == ALL
        old.reachable = False
        await until(lambda: replicas.awake == 1)
        assert replicas.holders(KEY).features == {EARLY_BLEND}
    assert not old.render_calls
    assert len(new.render_calls) == len(shards)


async def test_cards_that_differ_only_in_their_texts_agree(fleet):
    """An edited example must not stop a fleet during a roll-out."""
    fleet.add(card={**CARD, "about": {"title": "Renamed"}, "something_new": 1})
    async with dispatching(fleet) as replicas:
        assert await collect_all(replicas) == ALL


async def test_no_replica_awake_is_waiting_not_failing(fleet):
    """Scaled to zero is a normal state."""
    replica = fleet.add(ready=False)
    async with dispatching(fleet) as replicas, anyio.create_task_group() as tasks:
        came: list[float] = []

        async def render() -> None:
            came.extend(await collect(replicas, SHARDS[0]))

        tasks.start_soon(render)
        while replica.readiness_checks < 3:
            await anyio.sleep(0.01)
        assert came == []
        replica.ready = True
    assert sorted(came) == sorted(SHARDS[0].fractions)


async def test_a_request_that_every_replica_would_refuse_fails_at_once(fleet):
    """A 422 is the same on every replica, so no other replica is called."""
    fleet.add(refusal=(422, "steps must be 1 to 3"))
    fleet.add(refusal=(422, "steps must be 1 to 3"))
    async with dispatching(fleet) as replicas:
        with pytest.raises(WalkFailed, match="steps must be 1 to 3"):
            await collect(replicas, SHARDS[0])


async def test_a_refusal_after_the_first_line_fails_at_once_too(fleet):
    """Pictures with invalid numbers are the same on every replica."""
    fleet.add(garbage={"content": HEAD + b'{"problem": {"status": 422, "detail": "the pictures are no numbers"}}'})
    async with dispatching(fleet, shard_tries=5) as replicas:
        with pytest.raises(WalkFailed, match="the pictures are no numbers"):
            await collect(replicas, SHARDS[0])
    assert len(fleet.replicas["replica-1"].render_calls) == 1


async def test_a_shard_that_kills_every_replica_fails_after_its_tries(fleet):
    """A shard that crashes replicas must not take down the whole fleet."""
    fleet.add(refusal=(500, "an illegal memory access"))
    async with dispatching(fleet, shard_tries=3) as replicas:
        with pytest.raises(WalkFailed, match=r"3 tries at these frames failed, .* an illegal memory access"):
            await collect(replicas, SHARDS[0])


async def test_a_shard_of_a_model_that_is_not_served_goes_to_no_replica_and_holds_up_no_other(fleet):
    """A replica would refuse it, and would be idle meanwhile."""
    replica = fleet.add()
    other = spec(frames=4, model="another model")
    async with dispatching(fleet) as replicas:
        await awake(replicas, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect_all, replicas)
            with pytest.raises(Unavailable, match="no replica has the model another model"):
                await collect(replicas, plan_shards(other.id, frames_of(other), 4)[0])
    assert replica.refusals == 0


@pytest.mark.parametrize("status", [401, 404, 405, 409])
async def test_a_refusal_by_one_replica_does_not_fail_the_shard_on_others(fleet, status):
    """What is at that address is not what the check has found, for example since it was just restarted."""
    fleet.add(refusal=(status, "not here"))
    fleet.add(frame_s=0.01)
    async with dispatching(fleet) as replicas:
        await awake(replicas, 2)
        assert await collect_all(replicas) == ALL


@pytest.mark.parametrize("answer", [{"refusal": (507, "too little")}, {"garbage": OUT_OF_MEMORY}])
async def test_a_shard_that_needs_too_much_memory_is_tried_on_two_replicas(fleet, answer):
    """Replicas are alike: the third would only disturb others. The visitor reads what to change."""
    for _ in range(4):
        fleet.add(**answer)
    async with dispatching(fleet, shard_tries=5) as replicas:
        await awake(replicas, 4)
        with pytest.raises(WalkFailed, match=r"too little memory for frames of 32 x 32 pixels\. Request smaller"):
            await collect(replicas, SHARDS[0])
    calls = [replica.refusals + len(replica.render_calls) for replica in fleet.replicas.values()]
    assert sorted(calls) == [0, 0, 1, 1]


async def test_a_replica_with_less_memory_than_others_stays_in_the_fleet(fleet):
    """It renders smaller walks."""
    fleet.add(refusal=(507, "too little"))
    fleet.add()
    async with dispatching(fleet) as replicas:
        await awake(replicas, 2)
        assert await collect_all(replicas) == ALL
        assert replicas.awake == 2


async def test_a_replica_that_loses_what_others_render_is_left_out_for_a_while(fleet):
    """A CUDA error can stay until the process ends, and the replica is ready all the time."""
    broken = fleet.add(refusal=(500, "an illegal memory access"))
    fleet.add(frame_s=0.01)
    async with dispatching(fleet, first_left_out_s=3600) as replicas:
        await awake(replicas, 2)
        assert await collect_all(replicas, SHARDS * 2) == sorted(ALL * 2)
        assert replicas.awake == 1
        before = broken.refusals
        broken.refusal = None
        assert await collect_all(replicas) == ALL
    assert before <= 3
    assert not broken.render_calls


async def test_a_replica_that_was_left_out_is_tried_again(fleet):
    """It may have been restarted at the same address."""
    broken = fleet.add(refusal=(500, "an illegal memory access"))
    fleet.add(frame_s=0.01)
    async with dispatching(fleet, first_left_out_s=0.01) as replicas:
        await awake(replicas, 2)
        await collect_all(replicas)
        broken.refusal = None
        with anyio.fail_after(10):
            while not broken.render_calls:
                assert await collect_all(replicas) == ALL
        await awake(replicas, 2)


async def test_a_replica_that_is_left_out_stays_so_while_its_checks_find_it_ready(fleet):
    """Otherwise shards that the other replicas have lost would wait for it, for minutes."""
    broken = fleet.add(refusal=(500, "an illegal memory access"))
    fleet.add(frame_s=0.01)
    async with dispatching(fleet, first_left_out_s=3600) as replicas:
        await awake(replicas, 2)
        await collect_all(replicas, SHARDS * 2)
        checks = broken.readiness_checks
        await until(lambda: broken.readiness_checks > checks + 2)
        assert replicas.awake == 1


async def test_a_walk_that_no_replica_can_render_leaves_none_out(fleet):
    """Not the replicas are broken: they render all other walks meanwhile."""
    for _ in range(2):
        fleet.add(frame_s=0.001, breaks_on="a poison")
    poison = spec(("a poison", "a battleship"), frames=12)
    failed = 0

    async def collect_poison(shard: Shard) -> None:
        nonlocal failed
        with pytest.raises(WalkFailed, match="an illegal memory access"):
            await collect(replicas, shard)
        failed += 1

    async with dispatching(fleet, shard_tries=2, first_left_out_s=3600) as replicas:
        await awake(replicas, 2)
        async with anyio.create_task_group() as tasks:
            for shard in plan_shards(poison.id, frames_of(poison), 4):
                tasks.start_soon(collect_poison, shard)
            tasks.start_soon(collect_all, replicas)
        assert replicas.awake == 2
    assert failed == 3


async def test_a_replica_that_stops_in_good_order_uses_up_no_try(fleet):
    """Its last line says 503: spot machines come and go."""
    stopping = b'{"problem": {"status": 503, "detail": "This replica is shutting down."}}'
    fleet.add(garbage={"content": HEAD + stopping})
    fleet.add()
    async with dispatching(fleet, shard_tries=1) as replicas:
        await awake(replicas, 2)
        assert await collect_all(replicas) == ALL


async def test_frames_are_read_in_threads(fleet):
    """Decoding megabytes on the event loop would hold up every other request."""
    fleet.add()
    readers = anyio.CapacityLimiter(1)
    came: list[object] = []
    async with fleet.client() as client:
        replica = Replica("http://replica-1", client, readers)

        async def render() -> None:
            came.extend([line async for line in replica.render(SHARDS[0].recipe, SHARDS[0].fractions)])

        async with anyio.create_task_group() as tasks, readers:
            tasks.start_soon(render)
            await anyio.wait_all_tasks_blocked()
            assert readers.statistics().tasks_waiting == 1
    assert len(came) == 1 + len(SHARDS[0].fractions)


@pytest.mark.parametrize(
    "answer",
    [
        {"content": b"not json at all"},
        {"content": b"[1]"},
        {"content": b'{"model": "m"}\n'},
        {"content": HEAD},
        {"content": HEAD + b'{"fraction": 0.0, "png": "!", "seconds": 1}'},
        {"content": HEAD + b'{"problem": {"detail": "the card caught fire"}}'},
        {"content": b"never zipped", "headers": {"Content-Encoding": "gzip"}},
    ],
)
async def test_an_answer_that_breaks_the_contract_is_a_loss(fleet, answer):
    """A broken replica loses its shard, and nothing else fails."""
    fleet.add(garbage=answer)
    async with dispatching(fleet, shard_tries=2) as replicas:
        with pytest.raises(WalkFailed, match="2 tries at these frames failed"):
            await collect(replicas, SHARDS[0])
        fleet.replicas["replica-1"].garbage = None
        assert sorted(await collect(replicas, SHARDS[0])) == sorted(SHARDS[0].fractions)


async def test_cancelling_a_shard_closes_its_connection(fleet):
    """A closed connection tells a replica to stop rendering."""
    replica = fleet.add(frame_s=5)
    async with dispatching(fleet) as replicas:
        with anyio.move_on_after(0.2) as waited:
            await collect(replicas, SHARDS[0])
        assert waited.cancelled_caught
        with anyio.fail_after(5):
            while not replica.closed:
                await anyio.sleep(0.01)
    assert replica.sent == 0


@pytest.mark.parametrize("warm", [True, False])
async def test_an_idle_replica_renders_the_shard_of_a_hanging_one(fleet, warm):
    """A replica that hangs, perhaps on its first shard, would block the walk without a second try."""
    hanging = fleet.add(frame_s=0.01)
    fleet.add(frame_s=0.01)
    async with dispatching(fleet, backups=True, first_guess_s=0.1) as replicas:
        await awake(replicas, 2)
        if warm:
            await collect_all(replicas)
        hanging.frame_s = 3600
        assert await collect_all(replicas) == ALL
        assert hanging.render_calls
    assert hanging.closed == len(hanging.render_calls)


@pytest.mark.parametrize("trouble", [{"refusal": (500, "broken")}, {"refusal": (507, "out of memory")}])
async def test_one_replica_that_fails_fast_does_not_fail_a_walk(fleet, trouble):
    """It is idle again at once, and would take the same shard again and again while the others work."""
    fleet.add(**trouble)
    fleet.add(frame_s=0.02)
    fleet.add(frame_s=0.02)
    async with dispatching(fleet, shard_tries=2) as replicas:
        await awake(replicas, 3)
        assert await collect_all(replicas) == ALL


async def test_a_frame_that_is_not_a_picture_or_has_another_size_is_a_loss(fleet):
    """A broken frame would stay in the bucket and break every walk that uses it."""
    for png in (b"no picture", painted({"width": 16, "height": 32, "seed": 0}, 0.5)):
        line = json.dumps({"fraction": SHARDS[0].fractions[0], "png": base64.b64encode(png).decode(), "seconds": 1})
        fleet.add(garbage={"content": HEAD + line.encode()})
        async with dispatching(fleet, shard_tries=2) as replicas:
            with pytest.raises(WalkFailed, match="a frame is"):
                await collect(replicas, SHARDS[0])


async def test_an_answer_that_overflows_the_parser_leaves_the_replica_unfit(fleet):
    """A hundred thousand brackets overflow a JSON parser: the check fails, the fleet continues."""
    fleet.add(ready=False, reason="[" * 100_000)
    fleet.add()
    async with dispatching(fleet) as replicas:
        assert await collect_all(replicas) == ALL
        assert replicas.awake == 1


@pytest.mark.parametrize(
    "cards",
    [
        [{**CARD, "model": "other", "size_multiple": 0}],
        [{**CARD, "model": ""}],
        [{**CARD, "model": "*"}],
        [{**CARD, "model": "other", "scheduler": "Other"}],
        [{**CARD, "model": "other", "max_size": 9000}],
        [{**CARD, "model": "other", "negative_prompt": "no \0"}],
        [CARD, {**CARD, "revision": "2"}],
        [{**CARD, "model": str(number)} for number in range(101)],
        [{**CARD, "model": "other", "about": {"summary": "much " * 1_000_000}}],
    ],
    ids=["multiple", "name", "any", "scheduler", "size", "NUL", "twice", "many", "long"],
)
async def test_cards_that_break_the_contract_are_not_registered(fleet, cards):
    """Each would fail every request for its model, or fill the catalogue and the memory of all workers."""
    first, *others = cards
    fleet.add(card=first, others=tuple(others))
    fleet.add()
    async with dispatching(fleet) as replicas:
        assert await collect_all(replicas) == ALL
        assert not fleet.replicas["replica-1"].render_calls
        assert replicas.awake == 1


async def test_a_name_is_resolved_to_its_replicas_again_and_again(fleet, monkeypatch):
    """On a cluster one name has as many addresses as there are replicas at present."""

    async def lookup(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert (host, port) == ("model", 8100)
        return [(None, None, None, "", (address, port)) for address in addresses]

    monkeypatch.setattr(anyio, "getaddrinfo", lookup)
    addresses = ["10.0.0.1"]
    fleet.replicas["10.0.0.1"] = fleet.add()
    async with dispatching(fleet, "dns+http://model:8100") as replicas:
        assert await collect(replicas, SHARDS[0])
        fleet.replicas["10.0.0.2"] = fleet.add()
        addresses.append("10.0.0.2")
        with anyio.fail_after(5):
            while replicas.awake < 2:
                await anyio.sleep(0.01)
        addresses.remove("10.0.0.1")
        with anyio.fail_after(5):
            while replicas.awake > 1:
                await anyio.sleep(0.01)
        assert await collect_all(replicas) == ALL


async def test_a_refusal_without_an_end_is_not_read_to_its_end():
    """It would fill the worker's memory. A part of it is enough for the log."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10 * MAX_CHECK_BYTES:
            sent += 2**16
            yield b"x" * 2**16

    answer = httpx.MockTransport(lambda request: httpx.Response(500, content=endless()))
    async with httpx.AsyncClient(transport=answer) as client:
        with pytest.raises(ReplicaLost, match=r"^500: x{200}$"):
            async for _ in Replica("http://replica-1", client).render(spec().recipes(7)[0], (0.0,)):
                pass
    assert sent <= MAX_CHECK_BYTES + 2**16
