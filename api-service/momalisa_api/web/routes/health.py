"""Health of this process: alive, ready, metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from momalisa_api.problems import BucketUnavailable, CatalogueUnavailable, Stopping
from momalisa_api.web.problem_json import documented
from momalisa_api.web.routes.deps import (
    BucketDep,
    CatalogueDep,
    FairQueueDep,
    LiveUpdatesDep,
    MetricsDep,
    ModelsDep,
    WorkersDep,
)

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Check that the process is alive", response_class=Response)
async def get_health() -> Response:
    """Answer while the process is alive."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    summary="Check that the process accepts requests",
    response_class=Response,
    responses=documented(Stopping, BucketUnavailable),
)
async def get_readiness(live: LiveUpdatesDep, bucket: BucketDep) -> Response:
    """Answer 200 once the process has started, and 503 while it shuts down or cannot write to its bucket folder.

    Outages of a remote bucket and of the database are not considered: all processes share them, and a load balancer
    that removed every process could not show an error any more.
    """
    if live.ending:
        raise Stopping("This process is shutting down. Retry: another one answers.")
    await bucket.check_writable()
    return Response("ready\n", media_type="text/plain")


@router.get(
    "/metrics",
    summary="Get metrics for Prometheus",
    response_class=Response,
    responses=documented(CatalogueUnavailable),
)
async def get_metrics(
    metrics: MetricsDep, workers: WorkersDep, fair_queue: FairQueueDep, catalogue: CatalogueDep, models: ModelsDep
) -> Response:
    """Get metrics: pending frames by model (for autoscaling), walks by state, seconds per shard, failures."""
    status, pending = await workers.fleet_status(), await fair_queue.frames_pending()
    names = {*models.names, *pending}
    # One frame is pending for a model that no replica has brought yet: a replica must start once to bring its card.
    pending |= {name: max(1, pending.get(name, 0)) for name in models.unseen}
    text = metrics.scrape(
        replicas_awake={name: status.of(name).awake for name in names},
        frames_pending={name: pending.get(name, 0) for name in names},
        unreadable=await catalogue.count_unreadable(),
        walks=await fair_queue.counts(),
    )
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
