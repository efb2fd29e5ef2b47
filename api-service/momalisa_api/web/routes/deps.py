"""What routes need: the parts of this app, made by app.py, handed out by FastAPI."""

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, Path, Request

from momalisa_api.metrics import Metrics
from momalisa_api.settings import Settings
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.fair_queue import Turns
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.owners import Owners
from momalisa_api.store.workers import WorkerRegistry
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.walk import Walk
from momalisa_api.web.blocklist import Blocklist
from momalisa_api.web.intake import Desk
from momalisa_api.web.live import Watch


@dataclass(frozen=True)
class Services:
    settings: Settings
    card: ModelCard
    catalogue: Catalogue
    gallery: Gallery
    turns: Turns
    worker_registry: WorkerRegistry
    bucket: Bucket
    desk: Desk
    watch: Watch
    owners: Owners
    metrics: Metrics
    blocklist: Blocklist
    packing_room: anyio.Lock = field(default_factory=anyio.Lock)


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Needs = Annotated[Services, Depends(_services)]
WalkId = Annotated[str, Path(description="The walk's id: a hash of its spec.", pattern="^[0-9a-f]{32}$")]


async def _walk(walk_id: WalkId, services: Needs) -> Walk:
    return await services.catalogue.get(walk_id)


KnownWalk = Annotated[Walk, Depends(_walk)]
