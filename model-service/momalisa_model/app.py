"""The one assembler: settings, weights, sampler, queue and routes become a running replica."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from pydantic import ValidationError

from momalisa_model import __version__, openapi
from momalisa_model.body_limit import BodyLimit
from momalisa_model.lifecycle import LoadedModel, Replica
from momalisa_model.logs import configure_logs
from momalisa_model.model_card import card_file, derive_card, read_overrides
from momalisa_model.predict import PredictAnswer, PredictRequest, predict
from momalisa_model.problems import (
    BodyTooLarge,
    Invalid,
    NotANumber,
    NotReady,
    OutOfMemory,
    Problem,
    QueueFull,
    Stopping,
    Unreadable,
    WrongModel,
    documented,
    install,
)
from momalisa_model.server import run
from momalisa_model.settings import Settings
from momalisa_model.streaming import FramesResponse, shard_for
from momalisa_model.weights import load
from momalisa_model.wire import ModelAnswer, RenderRequest, check

LINES = """JSON lines. The first line is `{"model", "revision", "fingerprint", "warnings": [{"prompt", "truncated",
"detail"}]}`. One line per frame follows, in the requested order: `{"fraction", "png", "seconds", "marked"}`. `png` is
in base64, and `marked` is true if the model's safety checker marked the picture. If rendering fails midway, the last
line is `{"problem": {...}}`."""


def replica_of(request: Request) -> Replica:
    replica: Replica = request.app.state.replica
    return replica


def ready_of(request: Request) -> LoadedModel:
    return replica_of(request).ready()


TheReplica = Annotated[Replica, Depends(replica_of)]
WhatIsReady = Annotated[LoadedModel, Depends(ready_of)]


def create_app(settings: Settings) -> FastAPI:
    """Assemble one replica. The port can open at once: the weights load while /readyz says so."""
    replica = Replica(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        replica.start_loading()
        yield

    app = FastAPI(
        **openapi.ABOUT,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.replica = replica
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    install(app)
    add_routes(app)
    add_platform_routes(app, settings)
    return app


def add_routes(app: FastAPI) -> None:
    """The contract: docs/model-contract.md tells it with examples."""
    refusals = documented(
        Unreadable, WrongModel, BodyTooLarge, Invalid, QueueFull, NotReady, Stopping, OutOfMemory, NotANumber
    )
    lines = {"description": LINES, "content": {"application/jsonl": {"schema": {"type": "string"}}}}

    @app.post(
        "/v1/render",
        status_code=200,
        tags=["rendering"],
        summary="Render frames",
        response_class=FramesResponse,
        responses={200: lines, **refusals},
    )
    async def render_frames(body: RenderRequest, replica: TheReplica, ready: WhatIsReady) -> Response:
        """Render the frames of one recipe, and stream them. Closing the connection cancels between denoising steps."""
        check(body, ready.answer.card, replica.settings.max_fractions)
        shard = shard_for(body, ready.sampler, ready.answer, replica.metrics)
        return FramesResponse(shard, replica.queue, replica.settings.send_timeout_s)

    @app.get("/v1/model", tags=["rendering"], summary="The loaded model", responses=documented(NotReady))
    async def get_model(ready: WhatIsReady) -> ModelAnswer:
        """The model card, and what else decides the pixels of a recipe."""
        return ready.answer

    @app.get("/healthz", tags=["health"], summary="Liveness")
    async def get_health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], summary="Readiness", responses=documented(NotReady))
    async def get_readiness(_: WhatIsReady) -> dict[str, str]:
        """The weights are loaded and warmed up. Otherwise 503, with the reason."""
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"], summary="Metrics for Prometheus", response_class=PrometheusText)
    async def get_metrics(replica: TheReplica) -> Response:
        """Counters for Prometheus."""
        return PrometheusText(replica.metrics.text())


def add_platform_routes(app: FastAPI, settings: Settings) -> None:
    """What Vertex AI and KServe call, under the paths that they choose."""
    refusals = documented(
        Unreadable, WrongModel, BodyTooLarge, Invalid, QueueFull, NotReady, Stopping, OutOfMemory, NotANumber
    )
    if settings.predict_route:

        @app.post(
            settings.predict_route, tags=["platforms"], summary="Render one frame per instance", responses=refusals
        )
        async def predict_instances(
            body: PredictRequest, request: Request, replica: TheReplica, ready: WhatIsReady
        ) -> PredictAnswer:
            """Render one frame for each instance, and return them together."""
            return await predict(body, request, replica, ready)

    if settings.health_route:

        @app.get(settings.health_route, tags=["platforms"], summary="Readiness", responses=documented(NotReady))
        async def get_platform_health(_: WhatIsReady) -> dict[str, str]:
            """The same as /readyz."""
            return {"status": "ready"}


class PrometheusText(Response):
    media_type = "text/plain; version=0.0.4"


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(settings)
    run(app, app.state.replica.queue, settings)


def print_card(settings: Settings) -> None:
    """Print a card for what is loaded: derived, but with the overrides of a card file where there is one."""
    weights = load(settings)
    file = card_file(weights, settings)
    print(derive_card(weights, read_overrides(file) if file else None).model_dump_json(indent=2))


def main(arguments: list[str] | None = None) -> None:
    """The command `momalisa-model [serve | card]`; everything else is set by environment variables."""
    parser = argparse.ArgumentParser(prog="momalisa-model", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["serve", "card"], default="serve")
    chosen = parser.parse_args(arguments)
    try:
        settings = Settings()
        configure_logs(settings.log_format)
        (print_card if chosen.command == "card" else serve)(settings)
    except ValidationError as error:
        wrong = (f"MOMALISA_{str(one['loc'][0]).upper()}: {one['msg']}." for one in error.errors())
        sys.exit(f"momalisa-model: {' '.join(wrong)}")
    except Problem as problem:
        cause = f"\n{problem.__cause__}" if problem.__cause__ else ""
        sys.exit(f"momalisa-model: {problem}{cause}")


if __name__ == "__main__":
    main()
