"""The story of a walk: plan -> render -> store -> film. Read this first.

A walk goes forward only. Its frames lie in the bucket as soon as they exist, so whatever is lost here is planned
again from what the bucket holds. Who takes walks in is desk.py; who calls this is worker.py, job by job.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from threading import Event

import anyio
import structlog

from momalisa_api.films.make import make_films
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.wire import Head, RenderedFrame
from momalisa_api.problems import BucketUnavailable
from momalisa_api.store.bucket import Bucket, NotInBucket, copied_aside
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Job, Kind, Queue
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.rounds import Layout, Point, first_layout, next_layout
from momalisa_api.walks.smoothness import Sight, Smoothness
from momalisa_api.walks.spec import Frame, Recipe, Shard, plan_shards
from momalisa_api.walks.walk import State, Walk

log = structlog.get_logger()

STILL = "Nothing moves on this walk: all its frames are the same picture. Other prompts or another seed may help."
UNLISTED = "Unlisted: the model's safety checker marked a picture between two of its stops. The url works all the same."


Begin = Callable[[], Awaitable[None]]


class Studio:
    """Does what a walk lacks, one job at a time. Every job may be done twice: the second time changes nothing."""

    def __init__(
        self,
        card: ModelCard,
        catalogue: Catalogue,
        progress: Progress,
        bucket: Bucket,
        queue: Queue,
        fleet: Fleet,
    ) -> None:
        self._card = card
        self._catalogue = catalogue
        self._progress = progress
        self._bucket = bucket
        self._queue = queue
        self._fleet = fleet
        # One walk is filmed at a time: encoders take memory and cores.
        self._film_room = anyio.Lock()

    async def do(self, job: Job, walk: Walk, begin: Begin) -> None:
        """One job of a walk. begin: is called when the work itself begins, after any waiting for replicas or room.

        Raises Unavailable, WalkFailed where no replica can render it, and what `begin` raises.
        """
        match job.kind:
            case Kind.PLAN | Kind.MEASURE:
                await begin()
                await self._plan(walk)
            case Kind.RENDER:
                await self._render(walk, job.shard, begin)
            case Kind.FILM:
                await self._film(walk, begin)
        if job.kind is not Kind.FILM:
            await self.put_in_line(await self._catalogue.get(walk.id), after=job)

    async def put_in_line(self, walk: Walk, after: Job | None = None) -> None:
        """Put the jobs in line that a walk lacks; those that are there stay. after: the job that was just done."""
        jobs = jobs_lacking(walk)
        # Its siblings are in line since the plan was made: only what follows on the last of them is new.
        if after is None or after.kind is not Kind.RENDER or all(job.kind is not Kind.RENDER for job in jobs):
            await self._queue.put(jobs, walk.tag)

    async def fail(self, walk: Walk, error: str) -> None:
        """A walk whose job failed fails as a whole; the frames that landed stay for the next try.

        But not one that was started anew since: that job was none of its.
        """
        now = await self._catalogue.get(walk.id)
        while not now.ended and now.plans == walk.plans:
            if await self._progress.move(walk.id, now.state, State.FAILED, of_plan=walk.plans, error=error):
                log.warning("walk failed", walk=walk.id, error=error)
                return
            now = await self._catalogue.get(walk.id)

    async def _plan(self, walk: Walk) -> None:
        """Find the walk's next round, note what the bucket holds of it, and deal what lacks into shards."""
        layout, held = await self._lay_out(walk)
        frames = layout.frames(walk.spec)
        stored = [number for number, frame in enumerate(frames) if frame.key in held]
        lacking = [frame for frame in frames if frame.key not in held]
        places = _places(frames)
        shards = [
            [number for fraction in shard.fractions for number in places[Frame(shard.recipe, fraction)]]
            for shard in plan_shards(walk.id, lacking, self._card.micro_batch)
        ]
        if await self._progress.plan(walk, layout, stored, shards):
            found = {"frames": len(frames), "lacking": len(lacking), "shards": len(shards)}
            log.info("walk planned", walk=walk.id, settled=layout.settled, **found)

    async def _lay_out(self, walk: Walk) -> tuple[Layout, set[str]]:
        """The first round that lacks something, or the settled one, and the keys of what the bucket holds.

        Rounds follow from pictures alone, so whatever was known of them before is found again from the bucket.
        """
        layout = walk.layout if walk.layout.settled else first_layout(walk.spec)
        held: set[str] = set()
        for recipe in {frame.recipe for frame in layout.frames(walk.spec)}:
            held |= await self._held(walk.id, recipe)
        seen: dict[Point, Sight] = {}
        while not layout.settled and all(frame.key in held for frame in layout.frames(walk.spec)):
            for point, frame in zip(layout.points, layout.frames(walk.spec), strict=True):
                if point not in seen:
                    seen[point] = await self._look(frame)
            layout = await anyio.to_thread.run_sync(next_layout, walk.spec, layout, seen.__getitem__)
        return layout, held

    async def _look(self, frame: Frame) -> Sight:
        """Raises BucketUnavailable for a frame that went the moment before: it will be rendered again."""
        try:
            return await anyio.to_thread.run_sync(Sight.of, await self._bucket.get(frame.key))
        except NotInBucket as gone:
            raise BucketUnavailable(f"{gone} has just gone") from gone

    async def _render(self, walk: Walk, number: int, begin: Begin) -> None:
        """Have one shard rendered, but not what the bucket holds, and store each frame as it comes."""
        assert walk.plan is not None
        frames, wanted = walk.layout.frames(walk.spec), walk.plan[number]
        recipe, places = frames[wanted[0]].recipe, _places(frames)
        log.debug("shard begun", walk=walk.id, shard=number, frames=len(wanted))
        held = await self._held(walk.id, recipe)
        await self._progress.note_stored(walk, [number for number in wanted if frames[number].key in held])
        lacking = tuple(dict.fromkeys(frames[at].fraction for at in wanted if frames[at].key not in held))
        if not lacking:
            await self._progress.move(walk.id, State.WAITING, State.RENDERING, of_plan=walk.plans)
            return
        async with aclosing(self._fleet.render(Shard(walk.id, recipe, lacking), walk.tag)) as events:
            async for event in events:
                match event:
                    case Head(warnings=warnings):
                        await begin()
                        await self._progress.move(walk.id, State.WAITING, State.RENDERING, of_plan=walk.plans)
                        await self._warn(walk.id, recipe, [warning.detail for warning in warnings])
                    case RenderedFrame(fraction=fraction) as rendered:
                        await self._store(walk, Frame(recipe, fraction), places[Frame(recipe, fraction)], rendered)

    async def _held(self, walk_id: str, recipe: Recipe) -> frozenset[str]:
        """What the bucket holds of a recipe. Tells the walk what is said there beside the frames."""
        held = await self._bucket.present(recipe.folder)
        if recipe.marked_key in held:
            await self._progress.mark(walk_id, UNLISTED)
        if recipe.truncated_key in held:
            await self._progress.warn(walk_id, json.loads(await self._bucket.get(recipe.truncated_key)))
        return held

    async def _store(self, walk: Walk, frame: Frame, places: list[int], rendered: RenderedFrame) -> None:
        """First the bucket, then the catalogue: a frame that is noted is there, and so is its mark."""
        if rendered.marked:
            await self._mark(walk.id, frame)
        await self._bucket.put(frame.key, rendered.png)
        log.debug("frame stored", walk=walk.id, frame=frame.key)
        await self._progress.note_stored(walk, places)

    async def _warn(self, walk_id: str, recipe: Recipe, warnings: list[str]) -> None:
        """Tell the walk what went unheard, and lay it beside the frames, for walks that will find those there."""
        if warnings:
            await self._bucket.put(recipe.truncated_key, json.dumps(warnings).encode())
            await self._progress.warn(walk_id, warnings)

    async def _mark(self, walk_id: str, frame: Frame) -> None:
        """Before the frame is anywhere: whoever finds it finds the mark, and no wall shows it meanwhile."""
        await self._bucket.put(frame.recipe.marked_key, json.dumps({"fraction": frame.fraction}).encode())
        await self._progress.mark(walk_id, UNLISTED)

    async def _film(self, walk: Walk, begin: Begin) -> None:
        """Make the films of a whole walk. The move to filming lets one through; who takes over goes on from there."""
        async with self._film_room:
            await begin()
            await self._progress.move(walk.id, State.WAITING, State.RENDERING, of_plan=walk.plans)
            filming = await self._progress.move(walk.id, State.RENDERING, State.FILMING, of_plan=walk.plans)
            if not filming and walk.state is not State.FILMING:
                return
            log.debug("walk filming", walk=walk.id)
            try:
                films, smoothness = await self._films(walk)
            except NotInBucket as gone:
                log.warning("a frame is gone, the walk is planned again", walk=walk.id, frame=str(gone))
                with anyio.CancelScope(shield=True):  # this very job is outdated by it
                    if await self._progress.discard_plan(walk):
                        await self.put_in_line(await self._catalogue.get(walk.id))
                return
        await self._finish(walk, films, smoothness)

    async def _finish(self, walk: Walk, films: frozenset[str], smoothness: Smoothness) -> None:
        if smoothness.evenness is None:
            await self._progress.warn(walk.id, [STILL])
        done = {"films": sorted(films), "smoothness": smoothness.model_dump(mode="json")}
        if await self._progress.move(walk.id, State.FILMING, State.DONE, of_plan=walk.plans, **done):
            log.info("walk done", walk=walk.id, films=sorted(films))

    async def _films(self, walk: Walk) -> tuple[frozenset[str], Smoothness]:
        """Make a walk's films and put them in the bucket. Returns their names, and how the walk moves."""
        frames = walk.frames
        async with copied_aside(self._bucket, [frame.key for frame in frames]) as copies:
            stopped = Event()
            pictures = [partial(_read_unless, stopped, copy) for copy in copies]
            try:
                # A worker that goes home does not wait for an encoder, which ends at its next frame.
                made, smoothness = await anyio.to_thread.run_sync(
                    make_films,
                    pictures,
                    walk,
                    copies[0].parent,
                    abandon_on_cancel=True,
                )
            finally:
                stopped.set()
            for path in made:
                await self._bucket.put_file(f"walks/{walk.id}/{path.name}", path)
                log.debug("film stored", walk=walk.id, film=path.name)
        return frozenset(path.name for path in made), smoothness


def jobs_lacking(walk: Walk) -> list[Job]:
    """What is to be done next: to plan it, to render shards that lack frames, to look at them and go on, to film it."""
    if walk.ended:
        return []
    if walk.plan is None:
        return [Job(Kind.PLAN, walk.id, walk.plans)]
    lacking = [number for number, frames in enumerate(walk.plan) if not walk.stored.issuperset(frames)]
    shards = [Job(Kind.RENDER, walk.id, walk.plans, number) for number in lacking]
    return shards or [Job(Kind.FILM if walk.layout.settled else Kind.MEASURE, walk.id, walk.plans)]


def _places(frames: Sequence[Frame]) -> dict[Frame, list[int]]:
    """Where each of a walk's frames stands; one that is passed twice stands in two places."""
    places: dict[Frame, list[int]] = {}
    for index, frame in enumerate(frames):
        places.setdefault(frame, []).append(index)
    return places


def _read_unless(stopped: Event, copy: Path) -> bytes:
    """A frame, but none for a film that nobody waits for any more."""
    if stopped.is_set():
        raise InterruptedError("the film is not wanted any more")
    return copy.read_bytes()
