"""Walks as JSON resources."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from momalisa_api.store.fair_queue import AheadInQueue
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.places import Places
from momalisa_api.store.workers import FleetStatus
from momalisa_api.walks.extras import extra_type
from momalisa_api.walks.forecast import pictures_left, round_of
from momalisa_api.walks.growth import Capacity, choose_growth
from momalisa_api.walks.kinds import WalkKind
from momalisa_api.walks.models import Models
from momalisa_api.walks.rounds import nearest, with_growth
from momalisa_api.walks.smoothness import Smoothness
from momalisa_api.walks.spec import SpecByKind, is_private
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.routes.deps import PlacesDep, RegistryDep, TurnDep
from momalisa_api.web.turns import Turn

NO_REPLICA = "No replica is running. Starting one takes a few minutes; the walk starts after that."
REMOVED = "The {} of this walk have been deleted, as their time is over. Request the walk again to make them again."

EXAMPLE: JsonDict = {
    "id": "66ec43256477540dc236522cabd07085",
    "url": "/api/v1/walks/66ec43256477540dc236522cabd07085",
    "state": "rendering",
    "private": False,
    "revision": 9,
    "kind": "between",
    "spec": {
        "kind": "between",
        "stops": ["a red spiral on white", "blue waves"],
        "frames": 25,
        "spacing": "uniform",
        "effort": "balanced",
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
    "early_legs": [],
    "frames_ready": [0, 5, 10, 15, 20],
    "probes": [],
    "round": 1,
    "rounds": 1,
    "films": {},
    "extras": [],
    "warnings": [],
    "smoothness": None,
    "error": None,
    "queue_position": None,
    "replicas_awake": 2,
    "seconds_left": 2.2,
    "message": None,
    "created_at": "2026-11-20T12:00:00Z",
}


class ProbeResource(BaseModel):
    """A picture rendered to find the spacing, shown until the walk's frames are known."""

    frame: int = Field(description="The frame that the picture can stand in for, counted from 0.")
    url: str = Field(description="URL of the picture.")


class ExtraResource(BaseModel):
    """A file that the walk has beside its frames."""

    name: str = Field(description="Name of the file, such as depth.png.")
    url: str = Field(description="URL of the file.")
    media_type: str = Field(description="image/png or application/json.")


class WalkResource(BaseModel):
    """A walk as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str = Field(description="A hash of the spec: equal requests are one walk.")
    url: str = Field(description="URL of this resource.")
    state: State = Field(description="How far the walk is.")
    private: bool = Field(
        description="Whether it is closed to all but its owners and the holders of links, unless a request lists it."
    )
    revision: int = Field(description="Increases with every change.")
    kind: WalkKind = Field(description="What its frames show.")
    spec: SpecByKind = Field(description="The complete request: what was omitted comes from the model card.")
    seed: int | None = Field(
        description="Seed of the noise that every frame starts from; null while one is being chosen, and without noise."
    )
    early_legs: list[int] = Field(
        description="Legs, counted from 0, that have the early blend: they jumped, and it made them more even."
    )
    frames_ready: list[int] = Field(description="Numbers of the frames that can be fetched, counted from 0.")
    probes: list[ProbeResource] = Field(
        description="Pictures to show while the spacing of an even walk is being found; empty afterwards."
    )
    round: int | None = Field(
        description="The round that is rendered, counted from 1; null before it is planned. An even walk needs several."
    )
    rounds: int | None = Field(description="The number of rounds that the walk needs at most; null like `round`.")
    films: dict[str, str] = Field(description="URLs of the finished films, by name.")
    extras: list[ExtraResource] = Field(
        description="Files beside the frames of walks into a picture (depth map, cut-out) and of walks that take one "
        "apart (instances as JSON, their cut-outs); there before frame 0, and empty for other kinds."
    )
    warnings: list[str] = Field(
        description="Warnings for the visitor, such as a truncated prompt or why the walk is unlisted."
    )
    smoothness: Smoothness | None = Field(description="How evenly the walk moves; null until it is done.")
    error: str | None = Field(description="Why the walk failed, and what to do; null otherwise.")
    queue_position: int | None = Field(
        description="Position in the queue of its model, 1 for the next walk; null once rendering has started."
    )
    replicas_awake: int = Field(
        description="Number of replicas that can render its model; with 0 the walk waits until one starts."
    )
    seconds_left: float | None = Field(
        description="Estimated seconds until the last frame, from the rounds left and recent shards; null when unknown."
    )
    message: str | None = Field(
        description="What the visitor should know: why the walk waits, or what of it is deleted; null otherwise."
    )
    created_at: datetime = Field(description="When the walk was first requested.")


class Listing(BaseModel):
    """Whether the gallery may show a walk because of your request."""

    model_config = ConfigDict(extra="forbid")

    listed: bool = Field(description="Whether the gallery may show the walk.")


class RequestResource(BaseModel):
    """Your own request for a walk."""

    mine: bool = Field(description="Whether you requested the walk.")
    listed: bool = Field(
        description="Whether your request lets the gallery show the walk; false if you did not request it."
    )


class GalleryPage(BaseModel):
    """A page of walks, newest first."""

    walks: list[WalkResource] = Field(description="The walks of this page.")
    next: str | None = Field(description="URL of the next page; null on the last page.")


class WalkViews:
    """Shows walks as resources: a snapshot, and what changes without the walk: its place, the fleet, the time left."""

    def __init__(self, models: ModelRegistry, places: Places, turn: Turn | None = None) -> None:
        """turn: of the request that they are shown to. It ends when all that is left is shared by many requests."""
        self._models = models
        self._places = places
        self._turn = turn

    async def show(self, walk: Walk, link: str | None = None) -> WalkResource:
        """One walk as it is now. Raises CatalogueUnavailable.

        link: the token that opened a private walk: all its URLs get it.
        """
        [shown] = await self.show_all([walk])
        return shown if link is None else _with_link(shown, link)

    async def show_all(self, walks: Sequence[Walk]) -> list[WalkResource]:
        """Many walks, with as many queries as one walk needs. Raises CatalogueUnavailable."""
        if self._turn:
            self._turn.end()
        seen, models = await self._places.now(), await self._models.current()
        return [_shown(walk, seen.ahead.get(walk.id), seen.fleet.of(walk.spec.model), models) for walk in walks]


async def _views(models: RegistryDep, places: PlacesDep, turn: TurnDep) -> WalkViews:
    return WalkViews(models, places, turn)


WalkViewsDep = Annotated[WalkViews, Depends(_views)]


def _shown(walk: Walk, ahead: AheadInQueue | None, fleet: FleetStatus, models: Models) -> WalkResource:
    number, rounds = round_of(walk.spec, walk.layout) if walk.planned else (None, None)
    return WalkResource(
        id=walk.id,
        url=walk_url(walk.id),
        state=walk.state,
        private=is_private(walk.spec),
        revision=walk.revision,
        kind=walk.spec.kind,
        spec=walk.spec,
        seed=walk.seed,
        early_legs=list(walk.early_legs),
        frames_ready=sorted(walk.frames_ready),
        probes=_probes(walk),
        round=number,
        rounds=rounds,
        films={name: f"{walk_url(walk.id)}/{name}" for name in sorted(walk.films_ready)},
        extras=[
            ExtraResource(name=name, url=f"{walk_url(walk.id)}/extras/{name}", media_type=extra_type(name))
            for name in walk.extras_ready
        ],
        warnings=list(walk.warnings),
        smoothness=walk.smoothness,
        error=walk.error,
        # A walk that was waiting, and has ended before the queue was read, was the next one.
        queue_position=(ahead.walks if ahead else 0) + 1 if walk.state is State.WAITING else None,
        replicas_awake=fleet.awake,
        seconds_left=seconds_left(walk, ahead, fleet, models.micro_batch(walk.spec.model)),
        message=_message(walk, fleet),
        created_at=walk.created_at,
    )


def _message(walk: Walk, fleet: FleetStatus) -> str | None:
    removed = " and ".join(
        name for name, gone in (("frames", walk.frames_removed), ("films", walk.films_removed)) if gone
    )
    if removed:
        return REMOVED.format(removed)
    return None if walk.ended or fleet.awake else NO_REPLICA


def _with_link(shown: WalkResource, link: str) -> WalkResource:
    """The resource with a link's token in all its URLs."""
    films = {name: with_token(url, link) for name, url in shown.films.items()}
    probes = [probe.model_copy(update={"url": with_token(probe.url, link)}) for probe in shown.probes]
    extras = [extra.model_copy(update={"url": with_token(extra.url, link)}) for extra in shown.extras]
    urls = {"url": with_token(shown.url, link), "films": films, "probes": probes, "extras": extras}
    return shown.model_copy(update=urls)


def with_token(url: str, link: str) -> str:
    """A URL of a private walk for those who have a link to it. Tokens need no escapes."""
    return f"{url}?link={link}"


def _probes(walk: Walk) -> list[ProbeResource]:
    """For each frame the nearest stored picture, until the spacing is known."""
    if walk.layout.settled:
        return []
    stored = [walk.layout.points[number] for number in sorted(walk.stored)]
    return [
        ProbeResource(frame=frame, url=f"{walk_url(walk.id)}/probes/{point.seed}/{point.leg}/{point.fraction!r}.png")
        for frame, point in sorted(nearest(walk.spec, stored).items())
    ]


def walk_url(walk_id: str) -> str:
    return f"/api/v1/walks/{walk_id}"


def seconds_left(walk: Walk, ahead: AheadInQueue | None, fleet: FleetStatus, micro_batch: int) -> float | None:
    """Estimate the seconds until the last frame. fleet: the replicas of the walk's model.

    Replicas first render what is ahead in the fair queue. They share the shards of a round; the next one waits for it.
    Each round waits for shards of later walks, which replicas began while they had no others.
    """
    if walk.ended or fleet.shard_s is None or not fleet.awake:
        return None
    ahead = ahead or AheadInQueue(0, 0)
    capacity = Capacity(micro_batch, fleet.awake, 1 + ahead.walks)
    layout = with_growth(walk.spec, walk.layout, choose_growth(walk.spec.effort, walk.spec.legs, capacity))
    left = pictures_left(walk.spec, layout, walk.stored)
    shards = [sum(math.ceil(pictures / micro_batch) for pictures in pictures_of_legs) for pictures_of_legs in left]
    if not any(shards):
        return None
    began_meanwhile = min(sum(map(bool, shards)), math.ceil(ahead.frames_after / micro_batch / fleet.awake))
    shards[0] += math.ceil(ahead.frames / micro_batch)
    turns = sum(math.ceil(of_round / fleet.awake) for of_round in shards) + began_meanwhile
    return round(turns * fleet.shard_s, 1)
