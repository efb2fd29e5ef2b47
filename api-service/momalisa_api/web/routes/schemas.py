"""How walks look on the wire."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from momalisa_api.store.fair_queue import AheadInQueue
from momalisa_api.store.workers import FleetStatus
from momalisa_api.walks.rounds import nearest
from momalisa_api.walks.smoothness import Smoothness
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.routes.deps import CardDep, FairQueueDep, WorkersDep

NOBODY_AWAKE = "No replica is awake. One is being woken, which can take some minutes; the walk waits for it."

EXAMPLE: JsonDict = {
    "id": "66ec43256477540dc236522cabd07085",
    "url": "/api/v1/walks/66ec43256477540dc236522cabd07085",
    "state": "rendering",
    "revision": 9,
    "spec": {
        "stops": ["a red spiral on white", "blue waves"],
        "frames": 25,
        "spacing": "uniform",
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
    "seed": 7,
    "landed": [0, 5, 10, 15, 20],
    "probes": [],
    "films": {},
    "warnings": [],
    "smoothness": None,
    "error": None,
    "place_in_line": None,
    "replicas_awake": 2,
    "seconds_left": 2.2,
    "says": None,
    "created_at": "2026-11-20T12:00:00Z",
}


class ProbeResource(BaseModel):
    """A picture from somewhere on the walk."""

    frame: int = Field(description="The frame in whose place it may be shown meanwhile.")
    url: str


class WalkResource(BaseModel):
    """A walk as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str = Field(description="A hash of the spec: the same wish is the same walk.")
    url: str
    state: State
    revision: int = Field(description="Grows with every change.")
    spec: WalkSpec
    seed: int | None = Field(description="The noise that every frame starts from; null while seeds are auditioned.")
    landed: list[int] = Field(description="Frames that can be fetched, counted from 0.")
    probes: list[ProbeResource] = Field(
        description="What can be seen while it is being found where an even walk's frames stand; then none."
    )
    films: dict[str, str] = Field(description="Urls of the finished films by name.")
    warnings: list[str] = Field(description="What to know of it: words that went unheard, why it is unlisted.")
    smoothness: Smoothness | None = Field(description="How evenly it moves, once it is done.")
    error: str | None = Field(description="Why the walk failed and what to do.")
    place_in_line: int | None = Field(description="1 for the next walk to be rendered; null once it is.")
    replicas_awake: int = Field(description="Replicas that can take work; with 0 the walk waits until one wakes.")
    seconds_left: float | None = Field(description="An estimate from this deployment's own shards; null when unknown.")
    says: str | None = Field(description="What the visitor should know while the walk waits.")
    created_at: datetime


class Listing(BaseModel):
    """Whether a walk may hang on the wall for you."""

    model_config = ConfigDict(extra="forbid")

    listed: bool = Field(description="Whether it may hang on the wall.")


class AskResource(BaseModel):
    """Your own ask for a walk."""

    mine: bool = Field(description="Whether you ask for it.")
    listed: bool = Field(description="Whether you let it hang on the wall; false where you do not ask for it.")


class GalleryPage(BaseModel):
    """Some walks, newest first."""

    walks: list[WalkResource]
    next: str | None = Field(description="The url of the next page; null on the last.")


class ReplicasResource(BaseModel):
    awake: int | None = Field(description="How many can take work; null while the catalogue is away.")


class WalkViews:
    """Shows walks as resources: a snapshot, and what changes without the walk: its place, the fleet, the time left."""

    def __init__(self, card: CardDep, workers: WorkersDep, fair_queue: FairQueueDep) -> None:
        self._micro_batch = card.micro_batch
        self._workers = workers
        self._fair_queue = fair_queue

    async def show(self, walk: Walk) -> WalkResource:
        """One walk as it is now. Raises CatalogueUnavailable."""
        [shown] = await self.show_all([walk])
        return shown

    async def show_all(self, walks: Sequence[Walk]) -> list[WalkResource]:
        """Many walks, with as many queries as one walk needs. Raises CatalogueUnavailable."""
        fleet = await self._workers.fleet_status()
        waiting = [walk.id for walk in walks if walk.state is State.WAITING]
        lines = await self._fair_queue.lines_before(waiting)
        return [_shown(walk, lines.get(walk.id), fleet, self._micro_batch) for walk in walks]


WalkViewsDep = Annotated[WalkViews, Depends()]


def _shown(walk: Walk, ahead: AheadInQueue | None, fleet: FleetStatus, micro_batch: int) -> WalkResource:
    return WalkResource(
        id=walk.id,
        url=walk_url(walk.id),
        state=walk.state,
        revision=walk.revision,
        spec=walk.spec,
        seed=walk.seed,
        landed=sorted(walk.landed_frames),
        probes=_probes(walk),
        films={name: f"{walk_url(walk.id)}/{name}" for name in sorted(walk.films)},
        warnings=list(walk.warnings),
        smoothness=walk.smoothness,
        error=walk.error,
        place_in_line=ahead.walks + 1 if ahead else None,
        replicas_awake=fleet.awake,
        seconds_left=_seconds_left(walk, ahead, fleet, micro_batch),
        says=None if walk.ended or fleet.awake else NOBODY_AWAKE,
        created_at=walk.created_at,
    )


def _probes(walk: Walk) -> list[ProbeResource]:
    """One probe a frame, the nearest of those that have landed."""
    if walk.layout.settled:
        return []
    landed = [walk.layout.points[number] for number in sorted(walk.landed)]
    return [
        ProbeResource(frame=frame, url=f"{walk_url(walk.id)}/probes/{point.seed}/{point.leg}/{point.fraction!r}.png")
        for frame, point in sorted(nearest(walk.spec, landed).items())
    ]


def walk_url(walk_id: str) -> str:
    return f"/api/v1/walks/{walk_id}"


def _seconds_left(walk: Walk, ahead: AheadInQueue | None, fleet: FleetStatus, micro_batch: int) -> float | None:
    """Rounds of shards until the walk's last, each as long as shards take of late."""
    lacking = walk.frames_expected - len(walk.landed)
    if walk.ended or fleet.shard_s is None or not fleet.awake or not lacking:
        return None
    frames = lacking + (ahead.frames if ahead else 0)
    return round(math.ceil(frames / micro_batch / fleet.awake) * fleet.shard_s, 1)
