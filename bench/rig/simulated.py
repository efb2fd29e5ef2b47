"""Replicas, pictures and a job queue without processes, for bench/simulation.py. What decides is the product's own."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, Final

import anyio

from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.wire import Head, ModelAnswer, RenderedFrame
from momalisa_api.metrics import Metrics
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.rounds import Point
from tests.support.factories import CARD, MemoryModels

REFRESH_S: Final = 2.0
STEEP_PLACES: Final = 3
MAX_PLANS_IN_FLIGHT: Final = 4


@dataclass(eq=False)
class SimulatedReplica:
    """A device that renders one micro-batch after another. spread: the share by which its times vary, at random."""

    url: str
    shard_s: float
    spread: float
    fingerprint: str = "a"
    features: tuple[str, ...] = ()
    device: anyio.Lock = field(default_factory=anyio.Lock)
    busy_s: float = 0.0

    async def models(self) -> tuple[ModelAnswer, ...]:
        return (ModelAnswer(card=ModelCard.model_validate(CARD), fingerprint=self.fingerprint, features=self.features),)

    async def render(
        self, recipe: Recipe, fractions: tuple[float, ...], pictures: Mapping[str, bytes] = MappingProxyType({})
    ) -> AsyncGenerator[Head | RenderedFrame]:
        async with self.device:
            seconds = self.shard_s * random.uniform(1 - self.spread, 1 + self.spread)
            await anyio.sleep(seconds)
            self.busy_s += seconds
        yield Head(model=recipe.model, revision=recipe.revision, fingerprint=self.fingerprint)
        for fraction in fractions:
            yield RenderedFrame.model_construct(fraction=fraction, png=b"", seconds=0.0, marked=False)


class SimulatedFleet(Fleet):
    """The product's fleet over simulated replicas. Each worker has one, over the same replicas."""

    def __init__(self, replicas: list[SimulatedReplica], *, backups: bool = True) -> None:
        self._replicas = {replica.url: replica for replica in replicas}
        nothing: Any = None
        addresses, models = " ".join(self._replicas), MemoryModels()
        options: dict[str, Any] = {"refresh_s": REFRESH_S, "shard_tries": 5, "backups": backups}
        super().__init__(addresses, nothing, models, Metrics(), **options)

    def _replica_at(self, url: str) -> Any:
        return self._replicas[url]


@dataclass(frozen=True)
class Place:
    """What the planner sees of a picture: a position on a curve whose length is the change to the eye."""

    at: float
    edge: float

    def distance(self, other: "Place") -> float:
        return abs(self.at - other.at)


def place(walk_id: str, point: Point) -> Place:
    """The place of a point: its leg changes steadily, and much faster at a few places."""
    dice = random.Random(f"{walk_id} {point.seed} {point.leg}")
    at = point.fraction
    for _ in range(STEEP_PLACES):
        centre, width, height = dice.uniform(0.1, 0.9), dice.uniform(0.01, 0.08), dice.uniform(0.2, 1.0)
        at += height * (math.tanh((point.fraction - centre) / width) + math.tanh(centre / width)) / 2
    return Place(at / 10, 1 + dice.random())


Act = Callable[[Fleet], Awaitable[None]]


class Jobs:
    """The job queue of a deployment: the lowest tag first, equal tags in their order. `work` is one worker.

    Plans do not wait behind shards that wait for a replica, as in work/worker.py.
    """

    def __init__(self) -> None:
        self._plans: asyncio.PriorityQueue[tuple[int, int, Act]] = asyncio.PriorityQueue()
        self._shards: asyncio.PriorityQueue[tuple[int, int, Act]] = asyncio.PriorityQueue()
        self._numbers = count()

    def put_plan(self, tag: int, do: Act) -> None:
        self._plans.put_nowait((tag, next(self._numbers), do))

    def put_shard(self, tag: int, do: Act) -> None:
        self._shards.put_nowait((tag, next(self._numbers), do))

    async def work(self, fleet: Fleet, in_flight: int) -> None:
        """Do jobs until cancelled, at most `in_flight` shards at a time."""

        async def one_after_another(queue: asyncio.PriorityQueue[tuple[int, int, Act]]) -> None:
            while True:
                _, _, do = await queue.get()
                await do(fleet)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet.run)
            for _ in range(MAX_PLANS_IN_FLIGHT):
                tasks.start_soon(one_after_another, self._plans)
            for _ in range(in_flight):
                tasks.start_soon(one_after_another, self._shards)
