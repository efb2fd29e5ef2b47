"""A proxy between the API and a replica that counts rendered frames, independently of the code under test."""

import json
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.processes import wait_until


@dataclass(frozen=True)
class RenderCall:
    """A render request, and when it came (time.monotonic)."""

    recipe: str
    fractions: tuple[float, ...]
    at: float


@dataclass
class Recording:
    """The render requests that went through a proxy, and every frame that the replica sent, with its recipe."""

    calls: list[RenderCall] = field(default_factory=list)
    frames: list[tuple[str, float]] = field(default_factory=list)
    in_flight: int = 0


class Proxy:
    """Forwards HTTP to one replica and records the frames that it sends. Runs in a thread of the test process."""

    def __init__(self, upstream: str) -> None:
        self.recording = Recording()
        self.upstream = upstream
        # How many more frames may pass. The others wait.
        self._passes = math.inf
        self._refusal: str | None = None
        app = Starlette(
            routes=[Route("/{path:path}", self._forward, methods=["GET", "POST"])], lifespan=self._connected
        )
        # Reserves the port: others need the URL before the server starts.
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", loop="asyncio"))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)

    @asynccontextmanager
    async def _connected(self, _: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=self.upstream, timeout=120) as self._client:
            yield

    async def _forward(self, request: Request) -> Response:
        body = await request.body()
        forwarded = self._client.build_request(
            request.method, request.url.path, content=body, headers={"Content-Type": "application/json"}
        )
        rendering = request.url.path == "/v1/render"
        if rendering and self._refusal:
            return JSONResponse({"detail": self._refusal}, 422, media_type="application/problem+json")
        recipe = self._record(body) if rendering else ""
        self.recording.in_flight += rendering
        answer = await self._send(forwarded, request)
        self.recording.in_flight -= rendering
        if not answer:
            # The closest that a proxy can come to a refused connection.
            return Response(status_code=502)
        kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
        return StreamingResponse(self._pass_on(answer, recipe), answer.status_code, kept)

    def _record(self, body: bytes) -> str:
        """Record a render request. Returns its recipe."""
        shard = json.loads(body)
        recipe = json.dumps(shard["recipe"])
        self.recording.calls.append(RenderCall(recipe, tuple(shard["fractions"]), time.monotonic()))
        return recipe

    async def _send(self, forwarded: httpx.Request, request: Request) -> httpx.Response | None:
        """The head of the response. None if the replica is dead or the caller disconnects, as the proxy then does."""
        async with anyio.create_task_group() as tasks:

            async def cancel_on_disconnect() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_on_disconnect)
            answer = None
            with suppress(httpx.TransportError):
                answer = await self._client.send(forwarded, stream=True)
            tasks.cancel_scope.cancel()
        return answer

    async def _pass_on(self, answer: httpx.Response, recipe: str) -> AsyncIterator[bytes]:
        try:
            async for line in answer.aiter_lines():
                if recipe and '"png"' in line:
                    while self._passes < 1:
                        await anyio.sleep(0.02)
                    self._passes -= 1
                    self.recording.frames.append((recipe, json.loads(line)["fraction"]))
                yield line.encode() + b"\n"
        finally:
            await answer.aclose()

    @contextmanager
    def holding(self, after: int) -> Iterator[None]:
        """Let only this many more frames pass until the end of the block or `let_all`."""
        self.let(after)
        try:
            yield
        finally:
            self.let_all()

    def let(self, frames: int) -> None:
        """Set how many more frames may pass."""
        self._passes = frames

    def let_all(self) -> None:
        self._passes = math.inf

    @contextmanager
    def refusing(self, detail: str) -> Iterator[None]:
        """Answer every render request with 422 until the block ends."""
        self._refusal = detail
        try:
            yield
        finally:
            self._refusal = None

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        self._thread.start()
        wait_until(lambda: self._server.started)
        yield self
        self._server.should_exit = True
        self._thread.join(10)
