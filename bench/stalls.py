"""The longest stall of the API's event loop while it takes in frames of a megabyte.

    python bench/stalls.py

REPLICAS fake replicas, in a process of their own, send FRAMES noise pictures of SIDE pixels at FRAMES_PER_S together.
Noise cannot be compressed: a line of their answers has more than a megabyte. Meanwhile a task on the API's loop sleeps
for a millisecond again and again. Its longest delay is the stall, which other load on the machine makes longer; the
CPU time that the loop's thread used meanwhile does not depend on other load.
"""

import asyncio
import base64
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parents[1]))

from rig.connection import percentile

from momalisa_api.app import create_app
from momalisa_api.server import collect_garbage_rarely, configure_log
from momalisa_api.settings import Settings
from tests.support.deployment import free_port
from tests.support.factories import CARD

REPLICAS, FRAMES, SIDE, FRAMES_PER_S = 4, 241, 512, 50
PICTURES = 8
TARGET_MS = 50
PHASES = ("rendering", "filming")


def noise(seed: int) -> str:
    """A PNG of random pixels, in base64."""
    picture = Image.frombytes("RGB", (SIDE, SIDE), random.Random(seed).randbytes(SIDE * SIDE * 3))
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()


def serve_replicas(ports: list[int]) -> None:
    """Serve one fake replica at each port."""
    pictures = [noise(seed) for seed in range(PICTURES)]

    async def ready(_: Request) -> Response:
        return Response("ready")

    async def model(_: Request) -> Response:
        return JSONResponse({"card": CARD, "fingerprint": "0" * 16, "made_of": {}})

    async def lines(fractions: list[float]) -> AsyncIterator[bytes]:
        yield json.dumps({"model": CARD["model"], "revision": CARD["revision"], "fingerprint": "f"}).encode() + b"\n"
        for number, fraction in enumerate(fractions):
            await asyncio.sleep(REPLICAS / FRAMES_PER_S)
            line = {"fraction": fraction, "png": pictures[number % PICTURES], "seconds": 0.1}
            yield json.dumps(line).encode() + b"\n"

    async def render(request: Request) -> Response:
        return StreamingResponse(lines((await request.json())["fractions"]), media_type="application/jsonl")

    routes = [Route("/readyz", ready), Route("/v1/model", model), Route("/v1/render", render, methods=["POST"])]
    app = Starlette(routes=routes)

    async def serve() -> None:
        await asyncio.gather(
            *(uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical")).serve() for port in ports)
        )

    asyncio.run(serve())


class Heartbeat:
    """Measures the delays of the event loop, and the CPU time of its thread between two beats."""

    def __init__(self) -> None:
        self.phase = PHASES[0]
        self.stalls_ms: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self.cpu_ms: dict[str, list[float]] = {phase: [] for phase in PHASES}

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            began, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.stalls_ms[self.phase].append(1000 * (time.perf_counter() - began) - 1)
            self.cpu_ms[self.phase].append(1000 * (time.thread_time() - used))


async def make_walk(client: httpx.AsyncClient, heartbeat: Heartbeat) -> None:
    """Make a walk, and tell the heartbeat what the API does."""
    request = {"start": "a", "end": "b", "frames": FRAMES, "spacing": "uniform", "width": SIDE, "height": SIDE}
    walk = (await client.post("/api/v1/walks", json=request)).json()
    beating = asyncio.create_task(heartbeat.run())
    while walk["state"] not in ("done", "failed"):
        await asyncio.sleep(0.5)
        walk = (await client.get(walk["url"])).json()
        heartbeat.phase = "filming" if walk["state"] == "filming" else "rendering"
    beating.cancel()
    if walk["state"] == "failed":
        sys.exit(walk["error"])


async def measure(settings: Settings) -> Heartbeat:
    """Make a walk with an API on this loop."""
    app, heartbeat = create_app(settings), Heartbeat()
    collect_garbage_rarely()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            while not (await client.get("/api/v1/model")).json()["replicas"]["awake"]:
                await asyncio.sleep(0.1)
            await make_walk(client, heartbeat)
    return heartbeat


def main(folder: Path) -> None:
    ports = [free_port() for _ in range(REPLICAS)]
    (folder / "card.json").write_text(json.dumps(CARD))
    environment: dict[str, Any] = {
        "model_card": folder / "card.json",
        "bucket": str(folder / "bucket"),
        "database_url": f"sqlite:///{folder}/catalogue.sqlite",
        "replicas": " ".join(f"http://127.0.0.1:{port}" for port in ports),
        "backup_shards": False,
        "log_level": "warning",
    }
    replicas = subprocess.Popen([sys.executable, __file__, "--replicas", *map(str, ports)])
    try:
        began = time.perf_counter()
        settings = Settings(**environment)
        configure_log(settings)
        heartbeat = asyncio.run(measure(settings))
        took_s = time.perf_counter() - began
    finally:
        replicas.terminate()
        replicas.wait()
    print(
        f"{FRAMES} frames of {SIDE} px from {REPLICAS} replicas, {FRAMES_PER_S} a second; the walk took {took_s:.0f} s"
    )
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for phase in PHASES:
        stalls, cpu = heartbeat.stalls_ms[phase], heartbeat.cpu_ms[phase]
        if stalls:
            print(
                f"{phase:10}  stalls: p99 {percentile(stalls, 99):5.1f} ms, longest {max(stalls):6.1f} ms"
                f" (target {TARGET_MS});   CPU of the loop in one turn: longest {max(cpu):6.1f} ms"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replicas"]:
        serve_replicas([int(port) for port in sys.argv[2:]])
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
