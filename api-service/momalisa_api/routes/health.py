"""Whether this process answers, and whether it can take walks in."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from momalisa_api.problems import BucketUnavailable, CatalogueUnavailable, documented
from momalisa_api.routes.services import Needs

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process answers", response_class=Response)
async def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz", summary="Walks can be taken in", response_class=Response, responses=documented(BucketUnavailable)
)
async def readyz(services: Needs) -> Response:
    """Walks can be taken in: the bucket answers. Replicas may all be asleep, walks wait for them."""
    await services.bucket.present("readyz/")
    return Response("ready\n", media_type="text/plain")


@router.get(
    "/metrics", summary="What Prometheus reads", response_class=Response, responses=documented(CatalogueUnavailable)
)
async def metrics(services: Needs) -> Response:
    """Frames that wait for replicas (what an autoscaler needs), walks by state, shard seconds, losses."""
    text = await services.metrics.scrape(services.turns, (await services.roster.fleet()).awake)
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
