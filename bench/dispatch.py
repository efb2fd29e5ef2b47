"""How fast walks fan out over replicas that sleep instead of rendering, so that only our own part is measured.

`python bench/dispatch.py` prints two tables; `--all` adds all numbers of frames and replicas, and PostgreSQL, to the
second, and `--walks` prints only that.

1. Makespan of shards that the fleet dispatches, relative to the optimum: replicas alike, one slow, one dying; and round
   robin. Optimum: ceil(shards / replicas) x the time of a shard.
2. Whole walks with the default spacing, made by a whole API process with its queue and catalogue: seconds from the
   request until a picture is at every frame's place, until the last frame, and until the films; rendered slots (shards
   x micro-batch) per frame; busy replicas; and calls to the bucket, each of which can take as long as with an object
   store.
"""

import asyncio
import logging
import math
import statistics
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.served import database
from rig.sleepers import Shard as Rendered
from rig.sleepers import Sleeper, Sleepers, process_of, start
from rig.slow_bucket import SlowBucket

from momalisa_api import app as assembler
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.metrics import Metrics
from momalisa_api.settings import Settings
from momalisa_api.walks.spec import Shard, plan_shards
from tests.support.factories import CARD, MemoryModels, frames_of, spec, write_card

REPLICAS, SHARDS, SHARD_S, ROUNDS = 8, 48, 0.4, 3
WALK = spec(frames=SHARDS * 4)

MICRO_BATCH = 8
WATCH_S = 0.1
LIMIT_S = 600


@dataclass(frozen=True)
class Case:
    """Walks that are requested at once, each with a seed of its own. call_s: what each call to the bucket takes."""

    frames: int
    replicas: int
    shard_s: float = 1.0
    call_s: float = 0.0
    kind: str = "SQLite"
    walks: int = 1


FEW = [
    Case(4, 16),
    Case(61, 16),
    Case(241, 16),
    Case(61, 64),
    Case(61, 16, 0.5, 0.05),
    Case(61, 64, 1.0, 0.05, "PostgreSQL", walks=16),
]
ALL = [
    *(Case(frames, replicas) for replicas in (1, 2, 4, 16, 64) for frames in (4, 25, 61, 241)),
    *(Case(frames, 16, 0.5, 0.05, kind) for kind in ("SQLite", "PostgreSQL") for frames in (4, 25, 61, 241)),
    *(Case(frames, 16, 1.0, 0.0, "PostgreSQL") for frames in (4, 61, 241)),
    *(Case(61, replicas, 1.0, 0.05, "PostgreSQL", walks=16) for replicas in (8, 16, 32, 64)),
]


async def api_fleet(sleepers: list[Sleeper], shards: list[Shard]) -> float:
    """Seconds until the last frame of all shards, dispatched by the API's fleet, which knows its replicas already."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client, anyio.create_task_group() as run:
        fleet = Fleet(
            " ".join(sleeper.url for sleeper in sleepers),
            client,
            MemoryModels(),
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
    sleepers = [Sleeper(SHARD_S) for _ in range(replicas)]
    if kind == "one three times slower":
        sleepers[0].shard_s *= 3
    if kind == "one dying":
        sleepers[0].dies = True
    start(sleepers)
    return sleepers


def shards_of(count: int) -> list[Shard]:
    """The shards of a uniform walk with this many frames."""
    walk = spec(frames=count)
    return plan_shards(walk.id, frames_of(walk), 4)


def print_makespans() -> None:
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
    print(f"61 uniform frames over 16 replicas take {statistics.median(longer):.2f} times as long as 4 frames")


@dataclass(frozen=True)
class Times:
    """Seconds from the request of a walk. asked_at: time.monotonic() of the request."""

    asked_at: float
    whole_s: float
    last_frame_s: float
    film_s: float


async def watch(client: httpx.AsyncClient, body: dict[str, Any], every_s: float = WATCH_S) -> Times:
    """Request a walk, and look at it again and again until it is done."""
    asked_at = time.monotonic()
    walk = (await client.post("/api/v1/walks", json=body)).raise_for_status().json()
    times: dict[str, float] = {}
    while walk["state"] != "done":
        if walk["state"] in ("failed", "cancelled") or time.monotonic() - asked_at > LIMIT_S:
            raise SystemExit(f"the walk did not end: {walk}")
        await anyio.sleep(every_s)
        walk = (await client.get(walk["url"])).json()
        now_s = time.monotonic() - asked_at
        if max(len(walk["frames_ready"]), len(walk["probes"])) == body["frames"]:
            times.setdefault("whole", now_s)
        if walk["state"] in ("filming", "done"):
            times.setdefault("last", now_s)
    return Times(asked_at, times.get("whole", times["last"]), times["last"], now_s)


async def watch_all(client: httpx.AsyncClient, case: Case) -> Times:
    """Seconds until the last of all walks of a case is so far."""
    found: list[Times] = []

    async def one(seed: int) -> None:
        body = {"start": "a giraffe", "end": "a battleship", "frames": case.frames, "seed": seed}
        # Together no more requests than for one walk: this is not a bench of the API's reads.
        found.append(await watch(client, body, WATCH_S * case.walks))

    async with anyio.create_task_group() as tasks:
        for seed in range(case.walks):
            tasks.start_soon(one, seed)
    return Times(*(max(values) for values in zip(*map(astuple, found), strict=True)))


async def awake(client: httpx.AsyncClient, count: int) -> None:
    while (
        f'momalisa_replicas_awake{{model="{CARD["model"]}"}} {float(count)}' not in (await client.get("/metrics")).text
    ):
        await anyio.sleep(0.05)


async def measure(case: Case, sleepers: Sleepers, settings: Settings, bucket: SlowBucket) -> str:
    """One row of the table."""
    assembler.open_bucket = lambda _: bucket  # type: ignore[assignment]
    app = assembler.create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            await awake(client, case.replicas)
            # The first walk of a process also loads libraries.
            await watch(client, {"start": "a warm", "end": "a start", "frames": 2})
            bucket.calls.clear()
            before_s = time.process_time()
            times = await watch_all(client, case)
            cpu_s = time.process_time() - before_s
    rendered = [shard for shard in await sleepers.rendered() if shard.began > times.asked_at]
    most, mean = busy(rendered, times)
    slots = len(rendered) * MICRO_BATCH / case.frames / case.walks
    return (
        f"{case.kind:12}{case.walks:6}{case.frames:8}{case.replicas:9}{case.shard_s:8.1f}{case.call_s * 1000:8.0f}"
        f"{times.whole_s:8.2f}{times.last_frame_s:8.2f}{times.film_s:8.2f}{slots:8.2f}{most:6}{mean:7.1f}"
        f"{bucket.calls['get']:6}{bucket.calls['put']:6}{bucket.calls['list']:6}{cpu_s:7.2f}"
    )


def busy(rendered: list[Rendered], times: Times) -> tuple[int, float]:
    """How many replicas were busy at a time until the last frame: at most, and on average."""
    changes = sorted([(shard.began, 1) for shard in rendered] + [(shard.ended, -1) for shard in rendered])
    now, most = 0, 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most, sum(shard.ended - shard.began for shard in rendered) / times.last_frame_s


def print_walks(cases: list[Case]) -> None:
    print(f"\nWalks with the default spacing, micro-batch {MICRO_BATCH}; seconds, but calls in milliseconds")
    print(
        f"{'catalogue':12}{'walks':>6}{'frames':>8}{'replicas':>9}{'shard':>8}{'call':>8}{'whole':>8}{'last':>8}{'films':>8}"
        f"{'slots':>8}{'busy':>6}{'mean':>7}{'GET':>6}{'PUT':>6}{'LIST':>6}{'CPU':>7}"
    )
    card = {**CARD, "micro_batch": MICRO_BATCH}
    for case in cases:
        with (
            tempfile.TemporaryDirectory() as place,
            process_of(case.replicas, case.shard_s, card) as sleepers,
            database(case.kind, Path(place)) as url,
        ):
            folder = Path(place)
            settings = Settings(
                model_card=write_card(folder, card),
                bucket=str(folder / "bucket"),
                database_url=url,
                replicas=sleepers.addresses,
                log_level="warning",
            )
            row = asyncio.run(measure(case, sleepers, settings, SlowBucket(folder / "bucket", case.call_s)))
            print(row, flush=True)


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if "--walks" not in sys.argv:
        print_makespans()
    print_walks(ALL if "--all" in sys.argv else FEW)


if __name__ == "__main__":
    main()
