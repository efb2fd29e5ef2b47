"""How walks look on the wire."""

import math
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from momalisa_api.catalogue import State, Walk
from momalisa_api.routes.services import Services
from momalisa_api.walk import WalkSpec

EXAMPLE: JsonDict = {
    "id": "66ec43256477540dc236522cabd07085",
    "url": "/api/v1/walks/66ec43256477540dc236522cabd07085",
    "state": "rendering",
    "revision": 9,
    "spec": {
        "stops": ["a red spiral on white", "blue waves"],
        "frames": 25,
        "seed": 7,
        "negative_prompt": "",
        "width": 128,
        "height": 128,
        "steps": 12,
        "guidance_scale": 4.0,
        "scheduler": "UniPC",
        "model": "atelier",
        "revision": "5a4cb458948e7b58",
        "frame_ms": 80,
        "gif_there_and_back": True,
        "mp4_there_and_back": False,
    },
    "landed": [0, 5, 10, 15, 20],
    "films": {},
    "warnings": [],
    "error": None,
    "place_in_line": None,
    "replicas_awake": 2,
    "seconds_left": 2.2,
    "created_at": "2026-11-20T12:00:00Z",
}


class WalkResource(BaseModel):
    """A walk as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str = Field(description="A hash of the spec: the same wish is the same walk.")
    url: str
    state: State
    revision: int = Field(description="Grows with every change.")
    spec: WalkSpec
    landed: list[int] = Field(description="Frames that can be fetched, counted from 0.")
    films: dict[str, str] = Field(description="Urls of the finished films by name.")
    warnings: list[str] = Field(description="What to know of it: words that went unheard, why it is unlisted.")
    error: str | None = Field(description="Why the walk failed and what to do.")
    place_in_line: int | None = Field(description="1 for the next walk to be rendered; null once it is.")
    replicas_awake: int = Field(description="Replicas that can take work; with 0 the walk waits until one wakes.")
    seconds_left: float | None = Field(description="An estimate from this deployment's own shards; null when unknown.")
    created_at: datetime


class GalleryPage(BaseModel):
    """Some walks, newest first."""

    walks: list[WalkResource]
    next: str | None = Field(description="The url of the next page; null on the last.")


class ReplicasResource(BaseModel):
    awake: int


async def show(walk: Walk, services: Services) -> WalkResource:
    """A snapshot of a walk with what only this moment knows: its place, who is awake, how long it may take."""
    place = await services.catalogue.place_in_line(walk)
    return WalkResource(
        id=walk.id,
        url=walk_url(walk.id),
        state=walk.state,
        revision=walk.revision,
        spec=walk.spec,
        landed=sorted(walk.landed),
        films={name: f"{walk_url(walk.id)}/{name}" for name in sorted(walk.films)},
        warnings=list(walk.warnings),
        error=walk.error,
        place_in_line=place,
        replicas_awake=services.replicas.awake,
        seconds_left=_seconds_left(walk, services),
        created_at=walk.created_at,
    )


def walk_url(walk_id: str) -> str:
    return f"/api/v1/walks/{walk_id}"


def _seconds_left(walk: Walk, services: Services) -> float | None:
    """Rounds of shards that the walk still needs, each as long as shards take of late."""
    shard_s, awake = services.replicas.shard_s, services.replicas.awake
    if walk.ended or shard_s is None or not awake:
        return None
    lacking = walk.spec.frames - len(walk.landed)
    if not lacking:
        return None
    rounds = math.ceil(lacking / services.card.micro_batch / awake)
    return round(rounds * shard_s, 1)
