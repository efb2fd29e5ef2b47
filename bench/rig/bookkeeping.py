"""What a shard costs beside its rendering: the product's own studio and queue on PostgreSQL, in real time.

Replicas answer at once, without HTTP, and the bucket is a dictionary: what is left is the catalogue, the queue and the
dispatch. Films are not made.
"""

import base64
import io
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import anyio
import httpx
import psutil
from PIL import Image

from momalisa_api.fleet.replica import Replica, read_frame
from momalisa_api.metrics import Metrics
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.notifications import Listener, WalkChanges
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Job, Kind, open_queue
from momalisa_api.store.schema import opened
from momalisa_api.store.workers import WorkerRegistry
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.work.studio import Studio
from momalisa_api.work.worker import Worker
from rig.simulated import SimulatedFleet, SimulatedReplica
from tests.support.factories import CARD, spec
from tests.support.postgres import migrated

WALKS: Final = 40
FRAMES: Final = 61
MICRO_BATCH: Final = 8
REPLICAS: Final = 16
IN_FLIGHT: Final = 32
SIDE_PX: Final = 512
CHECKS: Final = 100


class _Dictionary:
    """A bucket in memory. Only what rendering needs."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, content: bytes) -> bool:
        return self._objects.setdefault(key, content) is content

    async def get(self, key: str) -> bytes:
        return self._objects[key]

    async def present(self, prefix: str) -> frozenset[str]:
        return frozenset(key for key in self._objects if key.startswith(prefix))


def measured() -> str:
    """A line about the bookkeeping of a shard, in CPU time, which other load on the machine changes little."""
    with migrated() as url:
        return anyio.run(_measure, url)


async def _measure(url: str) -> str:
    card = ModelCard.model_validate({**CARD, "micro_batch": MICRO_BATCH})
    async with opened(url) as engine, open_queue(engine, (listener := Listener(engine)), lease_s=30) as queue:
        catalogue, progress, bucket = Catalogue(engine), Progress(engine), _Dictionary()
        fleet = SimulatedFleet([SimulatedReplica(f"http://r{number}", 0, 0) for number in range(REPLICAS)])
        models = ModelRegistry(engine, fixed=card)
        studio = Studio(models, catalogue, progress, bucket, queue, fleet)  # type: ignore[arg-type]
        metrics, registry = Metrics(), WorkerRegistry(engine)
        options: dict[str, Any] = {"max_shards_in_flight": IN_FLIGHT, "reconcile_s": 3600, "poll_s": 1}
        worker = Worker(
            studio, catalogue, progress, registry, models, queue, fleet, metrics, WalkChanges(listener), **options
        )
        walks = [
            (await catalogue.request(spec((f"walk {n}", "an end"), FRAMES), f"owner {n}"))[0] for n in range(WALKS)
        ]
        done = anyio.Event()
        left = {walk.id for walk in walks}
        shards = 0

        async def render(job: Job) -> None:
            nonlocal shards
            await worker._do(job)
            shards += 1

        async def finished(job: Job) -> None:
            left.discard(job.walk_id)
            if not left:
                done.set()

        handlers: dict[Kind, Callable[[Job], Awaitable[None]]] = {Kind.PLAN: worker._do, Kind.FILM: finished}
        servers = _postgres_processes(url)
        used = time.process_time(), _cpu_s(servers)
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.run)
            tasks.start_soon(fleet.run)
            tasks.start_soon(queue.run, {Kind.RENDER: render}, IN_FLIGHT, card.model)
            tasks.start_soon(queue.run, handlers, 4)
            for walk in walks:
                await queue.put([Job(Kind.PLAN, walk.id, walk.plans)], walk.tag)
            await done.wait()
            took_s = time.perf_counter() - began
            own_s, postgres_s = time.process_time() - used[0], _cpu_s(_postgres_processes(url)) - used[1]
            queue.end()
            tasks.cancel_scope.cancel()
    own_ms, postgres_ms = 1000 * own_s / shards, 1000 * postgres_s / shards
    return (
        f"bookkeeping of {shards} shards of {MICRO_BATCH} on PostgreSQL: {shards / took_s:.0f} shards/s\n"
        f"of a core: a shard costs the worker {own_ms:.1f} ms and PostgreSQL {postgres_ms:.1f} ms; reading a frame of "
        f"{SIDE_PX} pixels {_reading_ms():.1f} ms; a check of an idle replica {await _check_ms():.1f} ms"
    )


def _postgres_processes(url: str) -> list[psutil.Process]:
    """All processes of the server behind a URL."""
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "postgres" and str(port) in (process.info["cmdline"] or []):
            return [process, *process.children(recursive=True)]
    raise SystemExit(f"no PostgreSQL listens on port {port}")


def _cpu_s(processes: list[psutil.Process]) -> float:
    """CPU time of processes, and of their children that have ended."""
    times = [process.cpu_times() for process in processes]
    return sum(spent.user + spent.system for spent in times) + times[0].children_user + times[0].children_system


def _reading_ms() -> float:
    """CPU time of parsing and validating a line of an answer with a frame of noise, in milliseconds."""
    out = io.BytesIO()
    Image.frombytes("RGB", (SIDE_PX, SIDE_PX), random.Random(0).randbytes(3 * SIDE_PX * SIDE_PX)).save(out, "PNG")
    line = json.dumps({"fraction": 0.5, "png": base64.b64encode(out.getvalue()).decode(), "seconds": 1}).encode()
    [recipe] = spec(width=SIDE_PX, height=SIDE_PX).recipes(0)
    began = time.process_time()
    for _ in range(10):
        read_frame(line, recipe)
    return 1000 * (time.process_time() - began) / 10


class _Answers(BaseHTTPRequestHandler):
    """A replica that is ready."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"models": [{"card": CARD, "fingerprint": "a"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


async def _check_ms() -> float:
    """CPU time of this thread for one check of a replica over HTTP, in milliseconds."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    async with httpx.AsyncClient(trust_env=False) as client:
        replica = Replica(f"http://127.0.0.1:{server.server_port}", client)
        await replica.models()
        began = time.thread_time()
        for _ in range(CHECKS):
            await replica.models()
        took_s = time.thread_time() - began
    server.shutdown()
    return 1000 * took_s / CHECKS
