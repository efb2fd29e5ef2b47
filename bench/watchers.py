"""p99 of the walk resource on a process with 1,000 watchers, over the p99 on one that nobody watches.

    python bench/watchers.py

Two web processes on one PostgreSQL: one holds all event streams, the other none. WALKS walks land a frame
each every LAND_S seconds. Both processes are asked for a walk every PROBE_S at the same time, so that whatever else
the machine does hits both; a latency counts from when its request was due, so that a stall is felt by all who would
have come meanwhile. The streams are held by a process of its own that only counts events. "spread": as many watchers
on every walk; "all on one": what a link in the news does.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.connection import connected, percentile
from rig.served import Api, database, served

from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import opened
from momalisa_api.walks.walk import State, Walk
from tests.support.factories import spec

WATCHERS, WALKS, LAND_S = 1000, 10, 2.0
PROBE_S, PROBES, LIMIT_S, ROUNDS = 0.02, 500, 15.0, 3
# Where they are not all told by then, the process is overloaded, and there is no p99 to speak of.
OPEN_S = 40
# More than a bench can land: a walk that is whole would be filmed.
FRAMES = 240


class Stream(asyncio.Protocol):
    """One watcher: asks for a walk's events and counts what comes."""

    def __init__(self, walk_id: str) -> None:
        self._walk_id = walk_id
        self.heard = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"GET /api/v1/walks/{self._walk_id}/events HTTP/1.1\r\nHost: api\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.heard += data.count(b"event: walk")


async def watch(port: int, walk_ids: list[str]) -> None:
    """Hold WATCHERS streams, dealt over walks. Each line of standard input is answered with what all heard so far."""
    loop, streams = asyncio.get_running_loop(), []
    for number in range(WATCHERS):
        walk_id = walk_ids[number % len(walk_ids)]
        _, stream = await loop.create_connection(lambda walk_id=walk_id: Stream(walk_id), "127.0.0.1", port)
        streams.append(stream)
    began = time.perf_counter()
    while not all(stream.heard for stream in streams):
        await asyncio.sleep(0.1)
        if time.perf_counter() - began > OPEN_S:
            told = sum(stream.heard > 0 for stream in streams)
            sys.exit(f"only {told} of {WATCHERS} watchers were told anything in {OPEN_S} s")
    while await asyncio.to_thread(sys.stdin.readline):
        print(sum(stream.heard for stream in streams), flush=True)


class Watchers:
    """The process that holds the streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def heard(self) -> int:
        """Events that have come so far, one each at least."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        line = await self._process.stdout.readline()
        return int(line) if line else sys.exit("without watchers there is nothing to measure")


@asynccontextmanager
async def watching(api: Api, walk_ids: list[str]) -> AsyncIterator[Watchers]:
    """A thousand watchers, all of whom have been told once."""
    command = [sys.executable, __file__, "--watch", str(api.port), *walk_ids]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    watchers = Watchers(process)
    try:
        await watchers.heard()
        yield watchers
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Walks:
    """Walks that go on for ever, a frame at a time, as replicas land them."""

    def __init__(self, catalogue: Catalogue, progress: Progress) -> None:
        self._catalogue = catalogue
        self._progress = progress
        self._landed = 0
        self._walks: list[Walk] = []

    @property
    def ids(self) -> list[str]:
        return [walk.id for walk in self._walks]

    async def begin(self) -> None:
        """Ask for all of them, and say that they are rendered."""
        for seed in range(WALKS):
            walk, _ = await self._catalogue.request(spec(frames=FRAMES, seed=seed), "somebody")
            await self._progress.move(walk.id, State.WAITING, State.RENDERING)
            self._walks.append(walk)

    async def land(self) -> None:
        """Land frames until cancelled."""
        while True:
            await asyncio.sleep(LAND_S / WALKS)
            frame, walk = divmod(self._landed, WALKS)
            await self._progress.note_stored(self._walks[walk], [frame])
            self._landed += 1


@dataclass
class Met:
    """What one visitor met at a process in seconds, and what that process used of a core meanwhile."""

    took_s: list[float]
    cpu_s: float

    def ms(self, percent: float) -> float:
        """A percentile of the latencies."""
        return 1000 * percentile(self.took_s, percent)


async def visit(api: Api, walk_id: str) -> Met:
    """Ask for a walk again and again, on schedule. Who has no answer in time counts until LIMIT_S."""
    took_s: list[float] = []
    used_s, began = api.cpu_s(), time.perf_counter()
    async with connected(api.port) as visitor:
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                for number in range(PROBES):
                    due = began + number * PROBE_S
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    await visitor.ask("GET", f"/api/v1/walks/{walk_id}")
                    took_s.append(time.perf_counter() - due)
    took_s += [LIMIT_S - number * PROBE_S for number in range(len(took_s), PROBES)]
    return Met(took_s, api.cpu_s() - used_s)


async def compare(watched: Api, unwatched: Api, walks: Walks, kind: str, walk_ids: list[str]) -> None:
    """Rounds at both processes at once; a line each, and the median of the ratios."""
    ratios = []
    async with watching(watched, walk_ids) as watchers:
        for _ in range(ROUNDS):
            heard, began = await watchers.heard(), time.perf_counter()
            among, alone = await asyncio.gather(visit(watched, walks.ids[0]), visit(unwatched, walks.ids[0]))
            events, seconds = await watchers.heard() - heard, time.perf_counter() - began
            ratios.append(among.ms(99) / alone.ms(99))
            print(
                f"{kind:10}  p50 {alone.ms(50):6.1f} -> {among.ms(50):6.1f} ms   p99 {alone.ms(99):6.1f} ->"
                f" {among.ms(99):6.1f} ms, {ratios[-1]:5.1f} x   {events / seconds:4.0f} events/s,"
                f" {1000 * (among.cpu_s - alone.cpu_s) / max(1, events):.2f} ms of a core each",
                flush=True,
            )
    print(f"{kind:10}  median {statistics.median(ratios):.1f} x (target: at most 3)", flush=True)


async def main(folder: Path) -> None:
    print(f"{WATCHERS} watchers; {WALKS} walks that change every {LAND_S:.0f} s; {PROBES} requests a round")
    with database("PostgreSQL", folder) as url, ExitStack() as stack:
        watched, unwatched = (stack.enter_context(served(folder, url, MOMALISA_ROLE="web")) for _ in range(2))
        async with opened(url) as engine:
            walks = Walks(Catalogue(engine), Progress(engine))
            await walks.begin()
            landing = asyncio.create_task(walks.land())
            await compare(watched, unwatched, walks, "spread", walks.ids)
            await compare(watched, unwatched, walks, "all on one", walks.ids[:1])
            landing.cancel()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        asyncio.run(watch(int(sys.argv[2]), sys.argv[3:]))
    else:
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(main(Path(name)))
