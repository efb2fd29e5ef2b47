"""The one assembler: settings, weights, sampler, lane and routes become a running replica."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from types import FrameType
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Request, Response

from momalisa_model.answer import FramesResponse, shard_of
from momalisa_model.card import card_file, derive_card
from momalisa_model.door import BodyLimit
from momalisa_model.lane import Lane
from momalisa_model.logs import configure_logs
from momalisa_model.problems import (
    BodyTooLarge,
    Invalid,
    LaneFull,
    NotANumber,
    NotReady,
    OutOfMemory,
    Problem,
    Stopping,
    Unreadable,
    WrongModel,
    documented,
    install,
)
from momalisa_model.replica import Ready, Replica
from momalisa_model.settings import Settings
from momalisa_model.weights import load
from momalisa_model.wire import ModelAnswer, RenderRequest, check

LINES = """The first line is `{"model", "revision", "fingerprint", "warnings": [{"prompt", "unheard", "detail"}]}`; then
one `{"fraction", "png", "seconds"}` a frame, in the order asked for, `png` in base64; and where rendering broke off, a
last line `{"problem": {...}}`."""


def replica_of(request: Request) -> Replica:
    replica: Replica = request.app.state.replica
    return replica


def ready_of(request: Request) -> Ready:
    return replica_of(request).ready()


TheReplica = Annotated[Replica, Depends(replica_of)]
WhatIsReady = Annotated[Ready, Depends(ready_of)]


def create_app(settings: Settings) -> FastAPI:
    """Assemble one replica. The port can open at once: the weights load while /readyz says so."""
    replica = Replica(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        replica.start_loading()
        yield

    app = FastAPI(
        title="MoMALisa model service",
        summary="Frames of a walk through a diffusion model's latent space.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.replica = replica
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    install(app)
    add_routes(app)
    return app


def add_routes(app: FastAPI) -> None:
    """The contract: docs/contract.md tells it with examples."""
    refusals = documented(
        Unreadable, WrongModel, BodyTooLarge, Invalid, LaneFull, NotReady, Stopping, OutOfMemory, NotANumber
    )
    lines = {"description": LINES, "content": {"application/jsonl": {"schema": {"type": "string"}}}}

    @app.post("/v1/render", status_code=200, response_class=FramesResponse, responses={200: lines, **refusals})
    async def render(body: RenderRequest, replica: TheReplica, ready: WhatIsReady) -> Response:
        """Render the frames of one recipe at these fractions. Hanging up cancels, between two denoising steps."""
        check(body, ready.answer.card, replica.settings.max_fractions)
        return FramesResponse(shard_of(body, ready.sampler, ready.answer, replica.metrics), replica.lane)

    @app.get("/v1/model", responses=documented(NotReady))
    async def model(ready: WhatIsReady) -> ModelAnswer:
        """The model card, and what decides pixels beside a recipe."""
        return ready.answer

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/readyz", responses=documented(NotReady))
    async def readyz(_: WhatIsReady) -> dict[str, str]:
        """The weights are loaded and warmed; before that, and where it will never come to that, 503 and the reason."""
        return {"status": "ready"}

    @app.get("/metrics", response_class=PrometheusText)
    async def metrics(replica: TheReplica) -> Response:
        """Counters for Prometheus."""
        return PrometheusText(replica.metrics.text())


class PrometheusText(Response):
    media_type = "text/plain; version=0.0.4"


class GracefulServer(uvicorn.Server):
    """uvicorn, which waits for answers to end; this one also sees to it that they do."""

    def __init__(self, config: uvicorn.Config, lane: Lane, grace_s: int) -> None:
        super().__init__(config)
        self._lane = lane
        self._grace_s = grace_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._lane.close(self._grace_s)
        super().handle_exit(sig, frame)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; then a shard on the device has the grace to finish, and the others are told."""
    configure_logs(settings.log_format)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than clients keep idle connections, so that none is closed under a request.
        timeout_keep_alive=75,
        # For answers that nobody reads: the lane has closed by then.
        timeout_graceful_shutdown=settings.shutdown_grace_s + 5,
    )
    with contextlib.suppress(KeyboardInterrupt):
        GracefulServer(config, app.state.replica.lane, settings.shutdown_grace_s).run()


def print_card(settings: Settings) -> None:
    """Print a card for what is loaded: derived, but with the wishes of a card file where there is one."""
    weights = load(settings)
    file = card_file(weights, settings)
    card = derive_card(weights, json.loads(file.read_bytes()) if file else None)
    print(card.model_dump_json(indent=2))


def main(arguments: list[str] | None = None) -> None:
    """The command `momalisa-model [serve | card]`; everything else is set by environment variables."""
    parser = argparse.ArgumentParser(prog="momalisa-model", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["serve", "card"], default="serve")
    chosen = parser.parse_args(arguments)
    try:
        (print_card if chosen.command == "card" else serve)(Settings())
    except Problem as problem:
        sys.exit(f"momalisa-model: {problem}")


if __name__ == "__main__":
    main()
