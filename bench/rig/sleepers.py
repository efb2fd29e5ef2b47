"""Replicas that implement the model contract over real HTTP and sleep instead of rendering."""

import asyncio
import base64
import io
import json
import math
import multiprocessing
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import httpx
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from tests.support.factories import CARD

FINGERPRINT = "0" * 16
# Half of a leg's change happens in an eighth of it, so that even spacing has something to do.
STEEPNESS, MIDDLE = 18.0, 0.4


@dataclass
class Shard:
    """What a sleeper has rendered. began, ended: time.monotonic(), which all processes of a machine share."""

    replica: int
    frames: int
    began: float
    ended: float


@dataclass
class Sleeper:
    """A replica that sleeps for a shard, then sends all its frames; or disconnects during its second shard."""

    shard_s: float
    number: int = 0
    card: dict[str, Any] = field(default_factory=lambda: CARD)
    features: tuple[str, ...] = ()
    dies: bool = False
    rendered: list[Shard] = field(default_factory=list)
    url: str = ""
    server: uvicorn.Server | None = None
    device: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/readyz", self._ready),
            Route("/v1/model", self._model),
            Route("/v1/render", self._render, methods=["POST"]),
        ]

    async def _ready(self, _: Request) -> Response:
        return Response("ready")

    async def _model(self, _: Request) -> Response:
        features = {"features": self.features} if self.features else {}
        return JSONResponse({"card": self.card, "fingerprint": FINGERPRINT, "made_of": {}, **features})

    async def _render(self, request: Request) -> Response:
        body = await request.json()
        return StreamingResponse(self._lines(body["recipe"], body["fractions"]), media_type="application/jsonl")

    async def _lines(self, recipe: dict[str, Any], fractions: list[float]) -> AsyncIterator[bytes]:
        async with self.device:
            began = time.monotonic()
            yield json.dumps({"model": "m", "revision": "r", "fingerprint": FINGERPRINT}).encode() + b"\n"
            self.rendered.append(Shard(self.number, len(fractions), began, math.inf))
            if self.dies and len(self.rendered) == 2:
                await asyncio.sleep(self.shard_s / 2)
                assert self.server
                self.server.should_exit = self.server.force_exit = True
                raise ConnectionResetError("this replica dies on purpose")
            await asyncio.sleep(self.shard_s)
            self.rendered[-1].ended = time.monotonic()
        for fraction in fractions:
            png = base64.b64encode(steep(recipe, fraction)).decode()
            yield json.dumps({"fraction": fraction, "png": png, "seconds": 0}).encode() + b"\n"


def steep(recipe: dict[str, Any], fraction: float) -> bytes:
    """A small picture that changes most around MIDDLE, in steps that are finer than a shade of grey."""
    low, here, high = (1 / (1 + math.exp(-STEEPNESS * (at - MIDDLE))) for at in (0.0, fraction, 1.0))
    shade, part = divmod(255 * (here - low) / (high - low), 1)
    size = recipe["width"], recipe["height"]
    lighter = round(part * size[0] * size[1])
    pixels = bytes([min(255, int(shade) + 1)]) * lighter + bytes([int(shade)]) * (size[0] * size[1] - lighter)
    out = io.BytesIO()
    Image.frombytes("L", size, pixels).convert("RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()


def start(sleepers: list[Sleeper]) -> None:
    """Serve each sleeper at its own port, in threads of this process."""
    for sleeper in sleepers:
        sleeper.server = _server(Starlette(routes=sleeper.routes))
        threading.Thread(target=sleeper.server.run, daemon=True).start()
        while not sleeper.server.started:
            time.sleep(0.01)
        sleeper.url = f"http://127.0.0.1:{sleeper.server.servers[0].sockets[0].getsockname()[1]}"


@dataclass(frozen=True)
class Sleepers:
    """Sleepers in a process of their own, so that they take no time from the one that is measured."""

    url: str
    count: int

    @property
    def addresses(self) -> str:
        return " ".join(f"{self.url}/{number}" for number in range(self.count))

    async def rendered(self) -> list[Shard]:
        """All shards so far."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return [Shard(**shard) for shard in (await client.get(f"{self.url}/rendered")).json()]


@contextmanager
def process_of(count: int, shard_s: float, card: dict[str, Any], features: tuple[str, ...] = ()) -> Iterator[Sleepers]:
    """Start a process with so many sleepers that have a card, and the features of a model service."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(count, shard_s, card, features, theirs), daemon=True)
    process.start()
    try:
        yield Sleepers(f"http://127.0.0.1:{ours.recv()}", count)
    finally:
        process.terminate()
        process.join()


def _serve(
    count: int, shard_s: float, card: dict[str, Any], features: tuple[str, ...], port: "Connection[int, None]"
) -> None:
    sleepers = [Sleeper(shard_s, number, card, features) for number in range(count)]

    async def rendered(_: Request) -> Response:
        shards = [shard for sleeper in sleepers for shard in sleeper.rendered if shard.ended < math.inf]
        return JSONResponse([vars(shard) for shard in shards])

    async def run() -> None:
        mounts = [Mount(f"/{sleeper.number}", routes=sleeper.routes) for sleeper in sleepers]
        server = _server(Starlette(routes=[Route("/rendered", rendered), *mounts]))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port.send(server.servers[0].sockets[0].getsockname()[1])
        await serving

    asyncio.run(run())


def _server(app: Starlette) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", loop="asyncio", lifespan="off"))
