"""CPU time of the API for a picture of a walk, relative to the shortest answer that it has (`/healthz`).

    python bench/serving.py

CLIENTS connections request the FRAMES frames of a finished walk again and again, from one web process on PostgreSQL and
a folder. CPU time and not speed, and rounds of both in turn, so that other load on the machine changes little.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.connection import connected
from rig.served import Api, database, served

from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.schema import opened
from tests.support.factories import frames_of, spec
from tests.support.finished_walks import add_finished_walk, noise_frames

CLIENTS, FRAMES, ROUNDS, ROUND_S = 8, 25, 5, 2.0


async def store(url: str, folder: Path) -> list[str]:
    """Store a finished walk. Returns the paths of its frames."""
    walk, bucket = spec(frames=FRAMES), FolderBucket(folder / "bucket")
    for frame, png in zip(frames_of(walk), noise_frames(FRAMES, seed=1), strict=True):
        await bucket.put(frame.key, png)
    async with opened(url) as engine:
        await add_finished_walk(engine, walk)
    return [f"/api/v1/walks/{walk.id}/frames/{number}.png" for number in range(FRAMES)]


async def cost_ms(api: Api, paths: list[str]) -> float:
    """CPU milliseconds of the API per request for these paths in turn."""
    ends_at, count, before_s = time.perf_counter() + ROUND_S, 0, api.cpu_s()

    async def visit(first: int) -> None:
        nonlocal count
        async with connected(api.port) as connection:
            number = first
            while time.perf_counter() < ends_at:
                await connection.send("GET", paths[number % len(paths)])
                number, count = number + 1, count + 1

    async with asyncio.TaskGroup() as tasks:
        for client in range(CLIENTS):
            tasks.create_task(visit(client))
    return (api.cpu_s() - before_s) * 1000 / count


async def main() -> None:
    with tempfile.TemporaryDirectory() as place, database("PostgreSQL", Path(place)) as url:
        paths = await store(url, Path(place))
        with served(Path(place), url, MOMALISA_ROLE="web") as api:
            costs = [(await cost_ms(api, paths), await cost_ms(api, ["/healthz"])) for _ in range(ROUNDS)]
    frame, shortest = map(statistics.median, zip(*costs, strict=True))
    print(f"frame {frame:.2f} ms, /healthz {shortest:.2f} ms: {frame / shortest:.1f} times")


asyncio.run(main())
