"""The real processes of `make up`, with a recording proxy between the api and its replicas."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = Path(os.environ.get("MOMALISA_MODEL_ID", REPOSITORY / "model-service" / "atelier" / "weights"))
SCRIPTS = Path(sys.executable).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    return port


def wait_until(happened: Callable[[], Any], limit_s: float = 120.0) -> Any:
    """The first true answer of `happened`; fails where none comes in time."""
    deadline = time.monotonic() + limit_s
    while not (answer := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return answer


@dataclass
class Recording:
    """What went through a proxy: every frame that a replica sent, with the recipe that asked for it."""

    frames: list[tuple[str, float]] = field(default_factory=list)
    in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, recipe: str, fraction: float) -> None:
        with self.lock:
            self.frames.append((recipe, fraction))


class Proxy:
    """Forwards HTTP to one replica and records the frames that come back. It lives in a thread of the test."""

    def __init__(self, upstream: str) -> None:
        self.recording = Recording()
        self.upstream = upstream
        app = Starlette(
            routes=[Route("/{path:path}", self._forward, methods=["GET", "POST"])], lifespan=self._connected
        )
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", loop="asyncio"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @asynccontextmanager
    async def _connected(self, _: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=self.upstream, timeout=120) as self._client:
            yield

    async def _forward(self, request: Request) -> Response:
        body = await request.body()
        asked = self._client.build_request(
            request.method, request.url.path, content=body, headers={"Content-Type": "application/json"}
        )
        rendering = request.url.path == "/v1/render"
        self.recording.in_flight += rendering
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx.TransportError:
            # What a caller of a dead process sees, as near as a proxy can come to it.
            return Response(status_code=502)
        finally:
            self.recording.in_flight -= rendering
        recipe = json.dumps(json.loads(body)["recipe"]) if rendering else ""
        kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
        return StreamingResponse(self._pass_on(answer, recipe), answer.status_code, kept)

    async def _pass_on(self, answer: httpx.Response, recipe: str) -> AsyncIterator[bytes]:
        try:
            async for line in answer.aiter_lines():
                if recipe and '"png"' in line:
                    self.recording.add(recipe, json.loads(line)["fraction"])
                yield line.encode() + b"\n"
        finally:
            await answer.aclose()

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        self._thread.start()
        wait_until(lambda: self._server.started)
        yield self
        self._server.should_exit = True
        self._thread.join(10)


@dataclass
class Deployment:
    """A running `momalisa up`, seen from outside."""

    url: str
    process: subprocess.Popen[bytes]
    proxies: list[Proxy]
    log: Path

    @property
    def rendered(self) -> list[tuple[str, float]]:
        """Every frame that any replica has sent so far."""
        return [frame for proxy in self.proxies for frame in proxy.recording.frames]

    def replica_behind(self, proxy: Proxy) -> psutil.Process:
        """The model service that listens where a proxy leads to."""
        port = int(proxy.upstream.rpartition(":")[2])
        [found] = [
            process
            for process in self.replica_processes()
            if any(at.laddr.port == port for at in process.net_connections() if at.status == psutil.CONN_LISTEN)
        ]
        return found

    def replica_processes(self) -> list[psutil.Process]:
        """The model services, not those who watch over them."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if any("momalisa-model" in part for part in child.cmdline()[:2]):
                    found.append(child)
        return found

    def awake(self) -> int:
        try:
            return int(httpx.get(self.url + "/api/v1/model").json()["replicas"]["awake"])
        except (httpx.HTTPError, ValueError):
            return 0

    def ask(self, **wish: Any) -> dict[str, Any]:
        """POST a walk."""
        answer = httpx.post(self.url + "/api/v1/walks", json=wish, timeout=30)
        assert answer.is_success, answer.text
        walk: dict[str, Any] = answer.json()
        return walk

    def read(self, walk: dict[str, Any]) -> dict[str, Any]:
        read: dict[str, Any] = httpx.get(self.url + walk["url"], timeout=30).json()
        return read

    def ended(self, walk: dict[str, Any]) -> dict[str, Any]:
        """The walk once it has ended, whichever way."""
        ended: dict[str, Any] = wait_until(
            lambda: now if (now := self.read(walk))["state"] in ("done", "failed", "cancelled") else None
        )
        return ended

    def fetch(self, path: str) -> bytes:
        answer = httpx.get(self.url + path, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.content


@contextmanager
def deployed(folder: Path, *, proxied: bool = True) -> Iterator[Deployment]:
    """`momalisa up` with two replicas, each behind a proxy unless told otherwise; stopped as Ctrl-C stops it."""
    first, port = free_port(), free_port()
    proxies = [Proxy(f"http://127.0.0.1:{first + replica}") for replica in range(2)] if proxied else []
    environment = {
        **os.environ,
        "MOMALISA_MODEL_ID": str(WEIGHTS),
        "MOMALISA_PORT": str(port),
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
        "MOMALISA_REFRESH_S": "0.5",
        # A late shard would be rendered twice, which is right and spoils what is counted here.
        "MOMALISA_BACKUP_SHARDS": "false",
    }
    if proxied:
        environment["MOMALISA_REPLICAS"] = " ".join(proxy.url for proxy in proxies)
    log = folder / "up.log"
    with ExitStack() as stack:
        for proxy in proxies:
            stack.enter_context(proxy.running())
        command = [str(SCRIPTS / "momalisa"), "up", "--first-port", str(first)]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = Deployment(f"http://127.0.0.1:{port}", process, proxies, log)
        try:
            wait_until(lambda: running.awake() == 2 or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
