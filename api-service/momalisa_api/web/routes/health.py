"""Whether this process answers, and whether requests should come here."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from momalisa_api.problems import CatalogueUnavailable, Stopping
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.deps import FairQueueDep, LiveUpdatesDep, MetricsDep, WorkersDep

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process answers", response_class=Response)
async def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", summary="Requests should come here", response_class=Response, responses=documented(Stopping))
async def readyz(live: LiveUpdatesDep) -> Response:
    """Requests should come here: the process has started, and does not stop.

    Not whether bucket and catalogue answer: all processes share them, and were each taken away for their sake, nobody
    would be left to say what is wrong.
    """
    if live.ending:
        raise Stopping("This process stops. Ask again: another answers.")
    return Response("ready\n", media_type="text/plain")


@router.get(
    "/metrics", summary="What Prometheus reads", response_class=Response, responses=documented(CatalogueUnavailable)
)
async def scrape(metrics: MetricsDep, workers: WorkersDep, fair_queue: FairQueueDep) -> Response:
    """Frames that wait for replicas (what an autoscaler needs), walks by state, shard seconds, losses."""
    text = metrics.scrape(
        replicas_awake=(await workers.fleet_status()).awake,
        frames_pending=await fair_queue.frames_pending(),
        walks=await fair_queue.counts(),
    )
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
