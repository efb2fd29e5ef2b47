"""p99 latency of the walk resource on a process with 1,000 watchers relative to one without watchers.

    python bench/watchers.py

Two web processes on one PostgreSQL: one serves all event streams, the other none. Each of WALKS walks gets a frame
every FRAME_S seconds. Both processes get a request for a walk every PROBE_S at the same time, so that other load on
the machine affects both. Latency counts from the time at which a request is due, so that a stall counts for all
requests that are due meanwhile. A separate process reads the streams and only counts events. "spread": the same number
of watchers on every walk; "all on one": the effect of a link in the news.
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

WATCHERS, WALKS, FRAME_S = 1000, 10, 2.0
PROBE_S, PROBES, LIMIT_S, ROUNDS = 0.02, 500, 15.0, 3
# If not all watchers have an event by then, the process is overloaded, and a p99 has no meaning.
OPEN_S = 40
# More than the bench can store: a complete walk would be filmed.
FRAMES = 240


class Stream(asyncio.Protocol):
    """One watcher: requests a walk's events and counts them."""

    def __init__(self, walk_id: str) -> None:
        self._walk_id = walk_id
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"GET /api/v1/walks/{self._walk_id}/events HTTP/1.1\r\nHost: api\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"event: walk")


async def watch(port: int, walk_ids: list[str]) -> None:
    """Open WATCHERS streams, spread over walks. Answers each line of standard input with the events so far."""
    loop, streams = asyncio.get_running_loop(), []
    for number in range(WATCHERS):
        walk_id = walk_ids[number % len(walk_ids)]
        _, stream = await loop.create_connection(lambda walk_id=walk_id: Stream(walk_id), "127.0.0.1", port)
        streams.append(stream)
    began = time.perf_counter()
    while not all(stream.events for stream in streams):
        await asyncio.sleep(0.1)
        if time.perf_counter() - began > OPEN_S:
            reached = sum(stream.events > 0 for stream in streams)
            sys.exit(f"only {reached} of {WATCHERS} watchers received an event within {OPEN_S} s")
    while await asyncio.to_thread(sys.stdin.readline):
        print(sum(stream.events for stream in streams), flush=True)


class Watchers:
    """The process that reads the streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def events(self) -> int:
        """The number of events so far, at least one for each watcher."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        line = await self._process.stdout.readline()
        return int(line) if line else sys.exit("the process with the watchers has ended")


@asynccontextmanager
async def watching(api: Api, walk_ids: list[str]) -> AsyncIterator[Watchers]:
    """A thousand watchers, each of which has received an event."""
    command = [sys.executable, __file__, "--watch", str(api.port), *walk_ids]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    watchers = Watchers(process)
    try:
        await watchers.events()
        yield watchers
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


class Walks:
    """Walks that continue for ever, frame by frame, as if replicas rendered them."""

    def __init__(self, catalogue: Catalogue, progress: Progress) -> None:
        self._catalogue = catalogue
        self._progress = progress
        self._stored = 0
        self._walks: list[Walk] = []

    @property
    def ids(self) -> list[str]:
        return [walk.id for walk in self._walks]

    async def begin(self) -> None:
        """Request all walks, and move them to the state of rendering."""
        for seed in range(WALKS):
            walk, _ = await self._catalogue.request(spec(frames=FRAMES, seed=seed), "somebody")
            await self._progress.move(walk.id, State.WAITING, State.RENDERING)
            self._walks.append(walk)

    async def store_frames(self) -> None:
        """Record frames until cancelled."""
        while True:
            await asyncio.sleep(FRAME_S / WALKS)
            frame, walk = divmod(self._stored, WALKS)
            await self._progress.note_stored(self._walks[walk], [frame])
            self._stored += 1


@dataclass
class Latencies:
    """The latencies of one visitor at a process in seconds, and the CPU time of that process meanwhile."""

    took_s: list[float]
    cpu_s: float

    def ms(self, percent: float) -> float:
        """A percentile of the latencies."""
        return 1000 * percentile(self.took_s, percent)


async def visit(api: Api, walk_id: str) -> Latencies:
    """Request a walk repeatedly, on schedule. A request without a response in time counts as LIMIT_S."""
    took_s: list[float] = []
    used_s, began = api.cpu_s(), time.perf_counter()
    async with connected(api.port) as visitor:
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                for number in range(PROBES):
                    due = began + number * PROBE_S
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    await visitor.send("GET", f"/api/v1/walks/{walk_id}")
                    took_s.append(time.perf_counter() - due)
    took_s += [LIMIT_S - number * PROBE_S for number in range(len(took_s), PROBES)]
    return Latencies(took_s, api.cpu_s() - used_s)


async def compare(watched: Api, unwatched: Api, walks: Walks, kind: str, walk_ids: list[str]) -> None:
    """Measure both processes at once. Prints a line for each round, and the median of the ratios."""
    ratios = []
    async with watching(watched, walk_ids) as watchers:
        for _ in range(ROUNDS):
            events, began = await watchers.events(), time.perf_counter()
            among, alone = await asyncio.gather(visit(watched, walks.ids[0]), visit(unwatched, walks.ids[0]))
            events, seconds = await watchers.events() - events, time.perf_counter() - began
            ratios.append(among.ms(99) / alone.ms(99))
            print(
                f"{kind:10}  p50 {alone.ms(50):6.1f} -> {among.ms(50):6.1f} ms   p99 {alone.ms(99):6.1f} ->"
                f" {among.ms(99):6.1f} ms, {ratios[-1]:5.1f} x   {events / seconds:4.0f} events/s,"
                f" {1000 * (among.cpu_s - alone.cpu_s) / max(1, events):.2f} ms of a core each",
                flush=True,
            )
    print(f"{kind:10}  median {statistics.median(ratios):.1f} x (target: at most 3)", flush=True)


async def main(folder: Path) -> None:
    print(f"{WATCHERS} watchers; {WALKS} walks that change every {FRAME_S:.0f} s; {PROBES} requests a round")
    with database("PostgreSQL", folder) as url, ExitStack() as stack:
        watched, unwatched = (stack.enter_context(served(folder, url, MOMALISA_ROLE="web")) for _ in range(2))
        async with opened(url) as engine:
            walks = Walks(Catalogue(engine), Progress(engine))
            await walks.begin()
            rendering = asyncio.create_task(walks.store_frames())
            await compare(watched, unwatched, walks, "spread", walks.ids)
            await compare(watched, unwatched, walks, "all on one", walks.ids[:1])
            rendering.cancel()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        asyncio.run(watch(int(sys.argv[2]), sys.argv[3:]))
    else:
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(main(Path(name)))
