"""Fan-out makespan relative to the optimum, with sleeping replicas: uniform, one slow, one dying; and round robin.

`python bench/dispatch.py`. Replicas implement the contract over real HTTP and sleep instead of rendering, so that only
the dispatch is measured. Optimum: ceil(shards / replicas) x the time of a shard.
"""

import asyncio
import base64
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parents[1]))

from momalisa_api.fleet.fleet import Fleet
from momalisa_api.metrics import Metrics
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import Shard, plan_shards
from tests.support.factories import CARD, frames_of, painted, spec

REPLICAS, SHARDS, SHARD_S, ROUNDS = 8, 48, 0.4, 3
WALK = spec(frames=SHARDS * 4)
PNG = base64.b64encode(painted({"width": 32, "height": 32, "seed": 0}, 0.0)).decode()


@dataclass
class Sleeper:
    """A replica that sleeps for a shard, then sends all its frames; or disconnects during its second shard."""

    shard_s: float = SHARD_S
    dies: bool = False
    shards: int = 0
    url: str = ""
    server: uvicorn.Server | None = None
    device: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ready(self, _: Request) -> Response:
        return Response("ready")

    async def model(self, _: Request) -> Response:
        return JSONResponse({"card": CARD, "fingerprint": "0" * 16, "made_of": {}})

    async def render(self, request: Request) -> Response:
        body = await request.json()
        return StreamingResponse(self._lines(body["fractions"]), media_type="application/jsonl")

    async def _lines(self, fractions: list[float]) -> AsyncIterator[bytes]:
        async with self.device:
            self.shards += 1
            if self.dies and self.shards == 2:
                await asyncio.sleep(self.shard_s / 2)
                assert self.server
                self.server.should_exit = self.server.force_exit = True
                raise ConnectionResetError("this replica dies on purpose")
            await asyncio.sleep(self.shard_s)
        yield json.dumps({"model": "m", "revision": "r", "fingerprint": "f"}).encode() + b"\n"
        for fraction in fractions:
            yield json.dumps({"fraction": fraction, "png": PNG, "seconds": 0}).encode() + b"\n"


def start(sleepers: list[Sleeper]) -> None:
    """Serve each sleeper at its own port, in threads of this process."""
    for sleeper in sleepers:
        app = Starlette(
            routes=[
                Route("/readyz", sleeper.ready),
                Route("/v1/model", sleeper.model),
                Route("/v1/render", sleeper.render, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, port=0, log_level="critical", loop="asyncio", lifespan="off")
        sleeper.server = uvicorn.Server(config)
        threading.Thread(target=sleeper.server.run, daemon=True).start()
        while not sleeper.server.started:
            time.sleep(0.01)
        sleeper.url = f"http://127.0.0.1:{sleeper.server.servers[0].sockets[0].getsockname()[1]}"


async def api_fleet(sleepers: list[Sleeper], shards: list[Shard]) -> float:
    """Seconds until the last frame of all shards, dispatched by the API's fleet, which knows its replicas already."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client, anyio.create_task_group() as run:
        fleet = Fleet(
            " ".join(sleeper.url for sleeper in sleepers),
            client,
            ModelCard.model_validate(CARD),
            Metrics(),
            refresh_s=1,
            shard_tries=5,
            backups=True,
        )
        run.start_soon(fleet.run)
        while fleet.awake < len(sleepers):
            await anyio.sleep(0.01)
        began = time.perf_counter()

        async def one(shard: Shard) -> None:
            async for _ in fleet.render(shard):
                pass

        async with anyio.create_task_group() as tasks:
            for shard in shards:
                tasks.start_soon(one, shard)
        took_s = time.perf_counter() - began
        run.cancel_scope.cancel()
    return took_s


async def round_robin(sleepers: list[Sleeper], shards: list[Shard]) -> float:
    """The same shards assigned in turn beforehand; the shards of a dead replica go to the next one."""
    began = time.perf_counter()
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as client:

        async def one(turn: int, shard: Shard) -> None:
            while True:
                body = {"recipe": shard.recipe.model_dump(), "fractions": list(shard.fractions)}
                try:
                    await client.post(sleepers[turn % len(sleepers)].url + "/v1/render", json=body)
                    return
                except httpx.TransportError:
                    turn += 1

        async with anyio.create_task_group() as tasks:
            for turn, shard in enumerate(shards):
                tasks.start_soon(one, turn, shard)
    return time.perf_counter() - began


def fleet_of(kind: str, replicas: int = REPLICAS) -> list[Sleeper]:
    sleepers = [Sleeper() for _ in range(replicas)]
    if kind == "one three times slower":
        sleepers[0].shard_s *= 3
    if kind == "one dying":
        sleepers[0].dies = True
    start(sleepers)
    return sleepers


def main() -> None:
    shards = plan_shards(WALK.id, frames_of(WALK), 4)
    best_s = math.ceil(len(shards) / REPLICAS) * SHARD_S
    print(f"{len(shards)} shards of {SHARD_S} s over {REPLICAS} replicas; optimum {best_s:.1f} s; {ROUNDS} rounds")
    print(f"{'':24}{'api / optimum':>14}{'round robin / optimum':>22}")
    for kind, target in (("uniform", 1.10), ("one three times slower", 1.25), ("one dying", 1.25)):
        api, other = [], []
        for _ in range(ROUNDS):
            api.append(asyncio.run(api_fleet(fleet_of(kind), shards)) / best_s)
            other.append(asyncio.run(round_robin(fleet_of(kind), shards)) / best_s)
        print(f"{kind:24}{statistics.median(api):14.2f}{statistics.median(other):22.2f}   (target {target:.2f})")
    longer = [
        asyncio.run(api_fleet(fleet_of("uniform", 16), shards_of(61)))
        / asyncio.run(api_fleet(fleet_of("uniform", 16), shards_of(4)))
        for _ in range(ROUNDS)
    ]
    print(f"61 frames over 16 replicas take {statistics.median(longer):.2f} times as long as 4 frames")


def shards_of(count: int) -> list[Shard]:
    """The shards of a walk with this many frames."""
    walk = spec(frames=count)
    return plan_shards(walk.id, frames_of(walk), 4)


if __name__ == "__main__":
    main()
