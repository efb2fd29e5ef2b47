"""Which replica renders which model when some hold several: order, wakes, losses, and what is not served any more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from momalisa_api.fleet.admission import Admission
from momalisa_api.fleet.dispatch import ReplicaSlot, ShardQueue, ShardTask
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.replica import Replica
from momalisa_api.fleet.wire import ModelAnswer, RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.problems import Unavailable
from momalisa_api.walks.model_card import ModelCard, ModelKey
from momalisa_api.walks.spec import Shard, plan_shards
from tests.support.factories import CARD, KEY, FakeFleet, MemoryModels, frames_of, spec

pytestmark = pytest.mark.anyio
LARGE: dict[str, Any] = {**CARD, "model": "large"}
LARGE_KEY = ModelKey("large", "1")


def slot_of(*cards: dict[str, Any]) -> ReplicaSlot:
    """A fit slot that holds these models."""
    nobody: Any = None
    slot = ReplicaSlot(Replica("http://replica", nobody), fit=True)
    answers = [ModelAnswer(card=ModelCard.model_validate(card), fingerprint="a") for card in cards]
    slot.hold({answer.card.key: answer for answer in answers})
    return slot


def queue_of(*slots: ReplicaSlot) -> ShardQueue:
    return ShardQueue(lambda: slots, Metrics(), backups=False, first_guess_s=1, first_left_out_s=3600)


def task_of(model: str, tag: int) -> ShardTask:
    nobody: Any = None
    return ShardTask(spec(model=model).recipes(0)[0], {0.0}, nobody, tag)


async def test_a_replica_with_two_models_takes_the_lowest_tag_of_both():
    """Neither model waits for the whole backlog of the other one."""
    both, small = slot_of(CARD, LARGE), slot_of(CARD)
    queue = queue_of(both, small)
    tasks = [task_of(model, tag) for model, tag in (("large", 50), (KEY.model, 10), ("large", 5), (KEY.model, 70))]
    for task in tasks:
        queue.add(task)
    assert await queue.next_for(small, 0.01) is tasks[1]
    assert [await queue.next_for(both, 0.01) for _ in range(3)] == [tasks[2], tasks[0], tasks[3]]
    assert await queue.next_for(both, 0.01) is None


async def test_a_task_wakes_a_replica_of_its_own_model():
    """Many idle replicas of another model come first in the list, and must not be woken in its place."""
    others, own = [slot_of(CARD) for _ in range(3)], slot_of(LARGE)
    queue = queue_of(*others, own)
    taken: dict[ReplicaSlot, ShardTask | None] = {}

    async def idle(slot: ReplicaSlot) -> None:
        taken[slot] = await queue.next_for(slot, 3600)

    async with anyio.create_task_group() as tasks:
        for slot in (*others, own):
            tasks.start_soon(idle, slot)
        await anyio.wait_all_tasks_blocked()
        small, large = task_of(KEY.model, 1), task_of("large", 2)
        queue.add(small)
        queue.add(large)
        await anyio.wait_all_tasks_blocked()
        assert taken == {others[0]: small, own: large}
        tasks.cancel_scope.cancel()


async def test_a_new_card_waits_until_all_replicas_have_told_theirs_and_the_former_one_is_gone():
    """A worker that starts sees one replica first, and one that restarts is away for some seconds."""
    models = MemoryModels(CARD)
    former, newer = slot_of(CARD), slot_of()
    former.fit = False
    admission = Admission(models, lambda: (former, newer), hold_s=3600)
    answer = ModelAnswer(card=ModelCard.model_validate({**CARD, "revision": "2"}), fingerprint="a")

    async def admitted() -> bool:
        return bool((await admission.admit(newer, [answer]))[0])

    assert not await admitted()
    former.told, former.fit_at = True, anyio.current_time()
    assert not await admitted()
    former.fit_at -= 7200
    assert await admitted()
    assert models.known.choose().card.revision == "2"


@asynccontextmanager
async def dispatching(fleet: FakeFleet, models: MemoryModels, **options: Any) -> AsyncIterator[Fleet]:
    settings: dict[str, Any] = {"refresh_s": 0.05, "shard_tries": 3, "backups": False, **options}
    async with fleet.client() as client, anyio.create_task_group() as tasks:
        replicas = Fleet(fleet.addresses, client, models, Metrics(), **settings)
        tasks.start_soon(replicas.run)
        with anyio.fail_after(10):
            while replicas.awake < len(fleet.replicas):
                await anyio.sleep(0.01)
            yield replicas
        tasks.cancel_scope.cancel()


async def render(replicas: Fleet, shards: list[Shard]) -> int:
    """Render shards at the same time. Returns how many frames arrived."""
    came: list[float] = []

    async def one(shard: Shard) -> None:
        came.extend([event.fraction async for event in replicas.render(shard) if isinstance(event, RenderedFrame)])

    async with anyio.create_task_group() as tasks:
        for shard in shards:
            tasks.start_soon(one, shard)
    return len(came)


def shards_of(model: str, start: str = "a giraffe") -> list[Shard]:
    walk = spec((start, "a battleship"), frames=24, model=model)
    return plan_shards(walk.id, frames_of(walk), 4)


async def test_a_replica_that_loses_every_shard_of_one_model_renders_the_other(fleet):
    """Its device is not broken: only this model is, for example because its weights are damaged."""
    broken = fleet.add(others=(LARGE,), breaks_on="a poison")
    fleet.add(others=(LARGE,), frame_s=0.01)
    async with dispatching(fleet, MemoryModels(CARD, LARGE), first_left_out_s=3600) as replicas:
        assert await render(replicas, shards_of(KEY.model, "a poison") * 2) == 48
        lost = broken.refusals
        assert (replicas.holders(KEY).awake, replicas.holders(LARGE_KEY).awake, replicas.awake) == (1, 2, 2)
        before = len(broken.render_calls)
        await render(replicas, shards_of(KEY.model, "a poison"))
        assert (broken.refusals, len(broken.render_calls)) == (lost, before)
        assert await render(replicas, shards_of("large")) == 24
    assert {recipe["model"] for recipe, _ in broken.render_calls[before:]} == {"large"}


async def test_speeds_sizes_and_fingerprints_are_those_of_one_model(fleet):
    """Estimates and the width of rounds would be wrong for both."""
    fleet.add(frame_s=0.001)
    fleet.add(others=(LARGE,), fingerprint="b" * 16)
    async with dispatching(fleet, MemoryModels(CARD, LARGE)) as replicas:
        await render(replicas, shards_of(KEY.model))
        small, large = replicas.holders(KEY), replicas.holders(LARGE_KEY)
        assert (small.size, small.awake, large.size, large.awake) == (2, 2, 1, 1)
        assert small.shard_s is not None
        assert large.shard_s is None
        assert large.fingerprints == {"b" * 16} < small.fingerprints
        assert large.fingerprint_for(25, {"b" * 16: 10**6}) == "b" * 16
        assert {name: holders.awake for name, holders in replicas.by_name().items()} == {KEY.model: 2, "large": 1}


async def test_shards_that_wait_are_given_back_when_their_model_is_not_served_any_more(fleet):
    """They would wait for ever, and other workers or a sentence for the visitor are better."""
    replica, models = fleet.add(ready=True), MemoryModels(CARD)
    async with dispatching(fleet, models) as replicas:
        replica.ready = False
        with anyio.fail_after(10):
            while replicas.awake:
                await anyio.sleep(0.01)
        errors: list[Exception] = []

        async def wait() -> None:
            try:
                await render(replicas, shards_of(KEY.model)[:1])
            except ExceptionGroup as group:
                errors.extend(group.exceptions)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await models.register(ModelCard.model_validate({**CARD, "revision": "2"}), models.known.choose().card)
        [error] = errors
        assert isinstance(error, Unavailable)
        with pytest.raises(Unavailable, match="no replica has the model test-model"):
            await replicas.wait_awake(KEY)
