"""Assembles a replica from settings, model, device queue and routes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, FastAPI, Request, Response

from momalisa_model import __version__, openapi
from momalisa_model.body_limit import BodyLimit
from momalisa_model.engines.loading import load_engine
from momalisa_model.lifecycle import LoadedModel
from momalisa_model.model_card import card_fields, derive_card
from momalisa_model.model_recipe import only_source
from momalisa_model.pictures import read_pictures
from momalisa_model.predict import PredictRequest, PredictResponse, predict
from momalisa_model.problem_json import documented, install
from momalisa_model.problems import (
    BodyTooLarge,
    DeviceFailed,
    Invalid,
    NotANumber,
    NotReady,
    OutOfMemory,
    QueueFull,
    Stopping,
    WrongModel,
)
from momalisa_model.replica import Replica
from momalisa_model.request_check import check
from momalisa_model.server import run
from momalisa_model.settings import Settings
from momalisa_model.streaming import FramesResponse, Shard
from momalisa_model.weights import load
from momalisa_model.wire import ModelAnswer, ModelsAnswer, RenderRequest

LINES = """JSON lines. The first is
`{"model", "revision", "fingerprint", "warnings": [{"prompt", "truncated", "detail"}]}`. One
`{"fraction", "png", "seconds", "marked"}` for each frame follows, in the requested order; `png` is base64, and `marked`
is true if the model's safety checker objects. If rendering stops early, the last line is `{"problem": {...}}`."""


def replica_of(request: Request) -> Replica:
    """The replica that serves this request."""
    replica: Replica = request.app.state.replica
    return replica


def models_of(request: Request) -> tuple[LoadedModel, ...]:
    """All models of the replica. Raises NotReady until they are loaded."""
    return replica_of(request).ready()


ReplicaDep = Annotated[Replica, Depends(replica_of)]
ModelsDep = Annotated[tuple[LoadedModel, ...], Depends(models_of)]


def create_app(settings: Settings) -> FastAPI:
    """Assemble one replica. Its port can open at once; until the weights are loaded, /readyz returns 503."""
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
    app.add_middleware(BodyLimit, limit=replica.max_body_bytes)
    install(app)
    add_routes(app)
    add_platform_routes(app, settings)
    openapi.finish_document(app, settings.max_fractions)
    return app


def add_routes(app: FastAPI) -> None:
    """Add the routes of the contract; docs/model-contract.md explains them with examples."""
    lines = {"description": LINES, "content": {"application/jsonl": {"schema": {"type": "string"}}}}
    responses: dict[int | str, dict[str, Any]] = {200: lines, **_render_problems()}

    @app.post(
        "/v1/render",
        status_code=200,
        tags=["rendering"],
        summary="Render frames",
        response_class=FramesResponse,
        responses=responses,
    )
    async def render_frames(body: RenderRequest, replica: ReplicaDep) -> Response:
        """Render the frames of one recipe, and stream them. Closing the connection cancels between denoising steps."""
        model = replica.model_for(body.recipe)
        check(body, model.answer, replica.settings.max_fractions)
        pictures = await to_thread.run_sync(read_pictures, body)
        shard = Shard(body, model, replica.metrics, pictures)
        return FramesResponse(shard, replica.queue, replica.settings.send_timeout_s)

    @app.get("/v1/models", tags=["rendering"], summary="The loaded models", responses=documented(NotReady))
    async def get_models(models: ModelsDep) -> ModelsAnswer:
        """For each model its card, and what else decides the pixels of a recipe."""
        return ModelsAnswer(models=tuple(model.answer for model in models))

    @app.get("/v1/model", tags=["rendering"], summary="The first loaded model", responses=documented(NotReady))
    async def get_model(models: ModelsDep) -> ModelAnswer:
        """The first of `/v1/models`."""
        return models[0].answer

    @app.get("/healthz", tags=["health"], summary="Liveness")
    async def get_health() -> dict[str, str]:
        """The process is alive. The weights may not be loaded yet."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], summary="Readiness", responses=documented(NotReady))
    async def get_readiness(_: ModelsDep) -> dict[str, str]:
        """All models are loaded and warmed up. Otherwise 503, with the reason."""
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"], summary="Metrics for Prometheus", response_class=PrometheusText)
    async def get_metrics(replica: ReplicaDep) -> Response:
        """Counters, gauges and histograms in Prometheus' text format."""
        return PrometheusText(replica.metrics.text())


def add_platform_routes(app: FastAPI, settings: Settings) -> None:
    """Add the routes for Vertex AI and KServe, at the paths that the settings name."""
    if settings.predict_route:

        @app.post(
            settings.predict_route,
            tags=["platforms"],
            summary="Render one frame per instance",
            responses=_render_problems(),
        )
        async def predict_instances(body: PredictRequest, request: Request, replica: ReplicaDep) -> PredictResponse:
            """Render one frame for each instance, and return them together."""
            return await predict(body, request, replica)

    if settings.health_route:

        @app.get(settings.health_route, tags=["platforms"], summary="Readiness", responses=documented(NotReady))
        async def get_platform_health(_: ModelsDep) -> dict[str, str]:
            """The same as /readyz."""
            return {"status": "ready"}


def _render_problems() -> dict[int | str, dict[str, Any]]:
    refused = (WrongModel, BodyTooLarge, Invalid, QueueFull, NotReady)
    failed = (Stopping, DeviceFailed, OutOfMemory, NotANumber)
    return documented(*refused, *failed, framework=[HTTPStatus.BAD_REQUEST])


class PrometheusText(Response):
    """Metrics in Prometheus' text format."""

    media_type = "text/plain; version=0.0.4"


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    app = create_app(settings)
    run(app, app.state.replica.queue, settings)


def print_card(settings: Settings) -> None:
    """Print the card of the model that the settings name, also if its card file is for other weights."""
    source = only_source(settings)
    if source.engine == "diffusion":
        weights = load(source)
        card = derive_card(weights, card_fields(weights.folder, source))
    else:
        card = load_engine(source, lambda _: None).card
    print(card.model_dump_json(indent=2))
