"""The story of a walk: plan -> render -> store -> film. Read this first.

A walk only moves forward. Its frames are in the bucket as soon as they exist, so whatever is lost here is planned again
from what the bucket holds. web/intake.py accepts walks; work/worker.py calls this, job by job.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskStatus
from pydantic import TypeAdapter

from momalisa_api.concurrency import task_group
from momalisa_api.films.make import Made, Sign, make_films
from momalisa_api.films.provenance import png_with_xmp, source_of, xmp_of
from momalisa_api.fleet.dispatch import ReadSources
from momalisa_api.fleet.fleet import Fleet
from momalisa_api.fleet.wire import Head, RenderedExtra, RenderedFrame
from momalisa_api.problems import Unavailable, WalkFailed
from momalisa_api.store.bucket import Bucket, NotInBucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import Job, Kind, Queue
from momalisa_api.walks.clip import ClipRecipe
from momalisa_api.walks.fingerprints import fingerprints_of, new_marks
from momalisa_api.walks.growth import Capacity, choose_growth
from momalisa_api.walks.kinds import BETWEEN, EARLY_BLEND
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.rescue import can_rescue
from momalisa_api.walks.rounds import Layout, next_layout, stored_walk, with_growth
from momalisa_api.walks.spec import Frame, Shard, WalkSpec, plan_shards
from momalisa_api.walks.walk import State, Walk
from momalisa_api.work.clip_sources import ClipSources
from momalisa_api.work.extras import Extras
from momalisa_api.work.listings import Listings
from momalisa_api.work.notes import Notes
from momalisa_api.work.stop_pictures import StopPictures
from momalisa_api.work.thumbnails import Thumbnails

log = structlog.get_logger()

NOTHING_MOVES = "All frames of this walk are the same picture. Try other prompts or another seed."
TOO_LARGE = "{} would be too large for this walk, so there is none. Use another film, or request a smaller walk."
NOT_IMPROVED = "This walk is less even than it could be, because some frames could not be rendered. {}"
UNLISTED = "Unlisted: the model's safety checker marked a picture between two stops. The URL still works."
WARNINGS: Final = TypeAdapter(list[str])
# How long workers with the old and with the new model card may run at the same time.
UPGRADE: Final = timedelta(minutes=10)
# Frames that a worker stores at a time: replicas wait if the bucket is slower than they are.
MAX_FRAMES_IN_FLIGHT: Final = 64

Begin = Callable[[], Awaitable[None]]


class Studio:
    """Does the jobs of walks. Every job can be repeated: the second time changes nothing."""

    def __init__(
        self,
        models: ModelRegistry,
        catalogue: Catalogue,
        progress: Progress,
        bucket: Bucket,
        queue: Queue,
        fleet: Fleet,
        sign: Sign | None = None,
        folder: Path | None = None,
    ) -> None:
        """sign: signs each film, if the operator has a key for that. folder: for films while they are made; what a
        killed process leaves there must be removed. None: that of the system.
        """
        self._models = models
        self._catalogue = catalogue
        self._progress = progress
        self._bucket = bucket
        self._queue = queue
        self._fleet = fleet
        self._sign = sign
        self._folder = folder
        self._listings = Listings(bucket)
        self._thumbnails = Thumbnails(bucket)
        self._stop_pictures = StopPictures(catalogue, bucket)
        self._clips = ClipSources(catalogue, bucket, folder)
        self._extras = Extras(bucket, progress)
        self._notes = Notes(progress)
        self._room = anyio.Semaphore(MAX_FRAMES_IN_FLIGHT)
        self._started_at = datetime.now(UTC)
        # One walk is filmed at a time: encoders need memory and cores.
        self._film_lock = anyio.Lock()

    async def do(self, job: Job, walk: Walk, begin: Begin) -> None:
        """Do one job of a walk. begin: called when the work starts, after any waiting for replicas.

        Raises Unavailable, WalkFailed if no replica can render it, and what `begin` raises.
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
            await self.enqueue_jobs(await self._catalogue.get(walk.id), after=job)

    async def enqueue_jobs(self, walk: Walk, after: Job | None = None) -> None:
        """Queue the jobs that a walk needs next; queued ones stay. after: the job that was just done."""
        jobs = missing_jobs(walk)
        # The other shards are queued since the walk was planned: only what follows the last of them is new.
        if after is None or after.kind is not Kind.RENDER or all(job.kind is not Kind.RENDER for job in jobs):
            await self._queue.put(jobs, walk.tag)

    async def enqueue_lost(self, walks: Iterable[Walk]) -> None:
        """Queue the jobs that walks need next and the queue has lost, in one statement for all of them."""
        await self._queue.put_all((job, walk.tag) for walk in walks for job in missing_jobs(walk))

    async def fail(self, walk: Walk, error: str) -> None:
        """Fail a walk because one of its jobs failed; stored frames stay for the next try.

        A walk that was restarted meanwhile does not fail: the job belonged to an older plan. Nor does one whose uniform
        walk is stored: it gets the best frames that there are, and a warning.
        """
        now = await self._catalogue.get(walk.id)
        while not now.ended and now.plans == walk.plans:
            if await self._settle(now, error):
                return
            if await self._progress.move(walk.id, now.state, State.FAILED, of_plan=walk.plans, error=error):
                log.warning("walk failed", walk=walk.id, error=error)
                return
            now = await self._catalogue.get(walk.id)

    async def _settle(self, walk: Walk, error: str) -> bool:
        """End the rounds of a walk with the frames that are stored, if these are a whole walk. Returns whether so."""
        known = stored_walk(walk.spec, walk.layout, walk.stored)
        if known is None:
            return False
        layout = await self._after(walk, known)
        await self._progress.warn(walk.id, [NOT_IMPROVED.format(error)])
        if not await self._progress.plan(walk, layout, range(len(layout.points)), []):
            return False
        log.warning("walk settled early", walk=walk.id, error=error)
        await self.enqueue_jobs(await self._catalogue.get(walk.id))
        return True

    async def drop_unused_clips(self) -> None:
        """Remove decoded clips that no walk has needed for some minutes."""
        await self._clips.drop_unused()

    async def _plan(self, walk: Walk) -> None:
        """Find the walk's next round, record which of its frames are stored, and split the others into shards."""
        layout, held = await self._next_round(walk)
        frames = layout.frames(walk.spec)
        stored = [number for number, frame in enumerate(frames) if frame.key in held]
        missing = [frame for frame in frames if frame.key not in held]
        reused = fingerprints_of(frames, held)
        await self._kept(walk, reused)
        await self._progress.reuses(walk, reused)
        await self._extras.record(walk, {frame.recipe for frame in frames}, held)
        indices = _indices(frames)
        shards = [
            [number for fraction in shard.fractions for number in indices[Frame(shard.recipe, fraction)]]
            for shard in plan_shards(walk.id, missing, self._models.known.micro_batch(walk.spec.model))
        ]
        if await self._progress.plan(walk, layout, stored, shards):
            found = {"frames": len(frames), "missing": len(missing), "shards": len(shards)}
            log.info("walk planned", walk=walk.id, settled=layout.settled, **found)

    async def _next_round(self, walk: Walk) -> tuple[Layout, set[str]]:
        """The first round that needs frames, or the settled one, and the keys of all stored frames.

        Rounds follow from the stored one and from pictures alone, so any worker finds the same ones from the bucket.
        """
        layout = self._with_rescue(walk.spec, await self._with_growth(walk))
        held: set[str] = set()
        listed: set[Recipe] = set()

        async def look(recipe: Recipe) -> None:
            held.update(await self._held(walk.id, recipe, await self._listings.present(recipe.folder)))

        while True:
            frames = layout.frames(walk.spec)
            async with task_group() as tasks:
                for recipe in {frame.recipe for frame in frames} - listed:
                    listed.add(recipe)
                    tasks.start_soon(look, recipe)
            if layout.settled or not all(frame.key in held for frame in frames):
                return layout, held
            layout = await self._after(walk, layout)

    async def _with_growth(self, walk: Walk) -> Layout:
        """The walk's layout, with the number of further rounds and their sizes: decided once, from what is idle now.

        All replicas of its model count: one that restarts must not change the pictures of the walk.
        """
        if walk.layout.settled or walk.layout.growth or walk.spec.spacing != "even":
            return walk.layout
        model, replicas = walk.spec.model, self._fleet.holders(walk.spec.model_key).size
        open_walks = await self._catalogue.count_open(model)
        capacity = Capacity(self._models.known.micro_batch(model), max(1, replicas), open_walks)
        return with_growth(walk.spec, walk.layout, choose_growth(walk.spec.effort, walk.spec.legs, capacity))

    def _with_rescue(self, spec: WalkSpec, layout: Layout) -> Layout:
        """The layout, with whether legs that jump are rendered again: decided once, when a replica is awake."""
        holders = self._fleet.holders(spec.model_key)
        if layout.settled or layout.rescue is not None or not holders.awake:
            return layout
        rescue = can_rescue(spec) and EARLY_BLEND in holders.features
        return layout.model_copy(update={"rescue": rescue})

    async def _after(self, walk: Walk, layout: Layout) -> Layout:
        """The round after one whose frames are all stored. Their measures are stored meanwhile."""
        frames = layout.frames(walk.spec)
        thumbnails = await self._thumbnails.of(walk.id, frames)
        seen = {point: thumbnails[frame.key] for point, frame in zip(layout.points, frames, strict=True)}
        async with task_group() as tasks:
            tasks.start_soon(self._thumbnails.store, walk.id, thumbnails)
            return await anyio.to_thread.run_sync(next_layout, walk.spec, layout, seen.__getitem__)

    async def _render(self, walk: Walk, number: int, begin: Begin) -> None:
        """Render one shard, without the frames that are stored already, and store each frame as it arrives."""
        assert walk.plan is not None
        frames, wanted = walk.layout.frames(walk.spec), walk.plan[number]
        recipe, indices = frames[wanted[0]].recipe, _indices(frames)
        log.debug("shard started", walk=walk.id, shard=number, frames=len(wanted))
        held = await self._held(walk.id, recipe, await self._listings.recent(recipe.folder))
        await self._progress.note_stored(walk, [number for number in wanted if frames[number].key in held])
        missing = tuple(dict.fromkeys(frames[at].fraction for at in wanted if frames[at].key not in held))
        extras = await self._extras.are_needed(walk, number, recipe, held)
        if not missing:
            await self._progress.move(walk.id, State.WAITING, State.RENDERING, of_plan=walk.plans)
            return
        self._check_model(walk)
        await self._fleet.wait_awake(walk.spec.model_key)
        self._check_features(recipe)
        kept = await self._kept(walk, walk.fingerprints)
        shard = Shard(walk.id, recipe, missing, extras)
        pictures = await self._stop_pictures.of(walk.id, recipe)
        answer = self._fleet.render(shard, walk.tag, kept, pictures, await self._sources(walk, recipe))
        files: dict[str, RenderedExtra] = {}
        # The replica gets its next shard while the frames of this one are being stored, also if it fails at the rest.
        async with task_group(finish_on=WalkFailed) as storing, aclosing(answer) as events:
            async for event in events:
                match event:
                    case Head():
                        await begin()
                        await self._heed(event, walk, recipe, held)
                    case RenderedExtra(name=name):
                        files[name] = event
                    case RenderedFrame(fraction=fraction) as rendered:
                        if files:
                            await self._extras.store(walk, recipe, files.values())
                            files.clear()
                        frame = Frame(recipe, fraction)
                        await storing.start(self._store, walk, frame, indices[frame], rendered)

    async def _sources(self, walk: Walk, recipe: Recipe) -> ReadSources | None:
        """What reads the frames of a recipe's clip, which is decoded now: no replica waits for that."""
        if not isinstance(recipe, ClipRecipe):
            return None
        await self._clips.prepare(walk.id, recipe)
        return partial(self._clips.of, walk.id, recipe)

    async def _heed(self, head: Head, walk: Walk, recipe: Recipe, held: frozenset[str]) -> None:
        """Record what a replica says before its first frame, so that it is known of every stored frame."""
        if walk.state is State.WAITING:
            await self._progress.move(walk.id, State.WAITING, State.RENDERING, of_plan=walk.plans)
        for mark in new_marks(recipe, head.fingerprint, held):
            await self._listings.mark(mark)
        await self._progress.rendered_by(walk, head.fingerprint)
        await self._warn(walk.id, recipe, [warning.detail for warning in head.warnings])

    async def _kept(self, walk: Walk, among: Collection[str]) -> str | None:
        """The fingerprint that a walk keeps to, chosen here if there is none yet; None while no replica is awake.

        among: the fingerprints of its stored frames, which are preferred.
        """
        if walk.fingerprint is not None:
            return walk.fingerprint
        holders = self._fleet.holders(walk.spec.model_key)
        several = len(holders.fingerprints) > 1
        load = await self._progress.frames_by_fingerprint(walk.spec.model) if several else {}
        best = holders.fingerprint_for(walk.spec.frames, load, among)
        return None if best is None else await self._progress.keep_to(walk.id, best)

    def _check_model(self, walk: Walk) -> None:
        """Raise WalkFailed for a walk of a model, or of a revision, that is not served any more.

        While an upgrade changes the model, walks that are newer than this process belong to newer workers, and replicas
        may not have told yet what they hold: such walks raise Unavailable for a while, so that their jobs go back into
        the queue.
        """
        spec, models, now = walk.spec, self._models.known, datetime.now(UTC)
        if self._fleet.serves(spec.model_key):
            return
        known = models.get(spec.model)
        # Its card is current, but all replicas that there can be hold other models: newer workers see the same.
        left = known is not None and models.allows(spec.model) and known.card.key == spec.model_key
        newer = not left and walk.created_at > self._started_at and now - walk.created_at < UPGRADE
        unknown = not known and models.allows(spec.model) and now - self._started_at < UPGRADE
        if newer or unknown:
            raise Unavailable(f"this worker has no replica of {spec.model} ({spec.revision[:12]})")
        instead = known if models.allows(spec.model) else models.default
        others = [model.name for model in models.offered if model.name != spec.model]
        again = f"Request the walk again with another model{f', such as {others[0]}' if others else ''}."
        if instead and not left:
            again = f"Request the walk again to make it with {instead.name} ({instead.card.revision[:12]})."
        raise WalkFailed(
            f"This walk needs the model {spec.model} ({spec.revision[:12]}), which is not served any more. {again}"
        )

    def _check_features(self, recipe: Recipe) -> None:
        """Raise WalkFailed if no replica of the recipe's model can render its kind, or use its pictures."""
        offered = self._fleet.holders(recipe.model_key).offered
        if offered is not None and not recipe.features - {EARLY_BLEND} <= offered:
            unable = "use pictures as stops" if recipe.kind == BETWEEN else f"render walks of the kind {recipe.kind}"
            raise WalkFailed(f"The model {recipe.model} cannot {unable}. Request the walk with another model.")

    async def _held(self, walk_id: str, recipe: Recipe, held: frozenset[str]) -> frozenset[str]:
        """The stored keys of a recipe, from a listing. Adds warnings that are stored with the frames to the walk."""
        if recipe.marked_key in held:
            await self._progress.mark(walk_id, UNLISTED)
        if recipe.truncated_key in held:
            await self._progress.warn(walk_id, _warnings_of(await self._bucket.get(recipe.truncated_key)))
        return held

    async def _store(
        self, walk: Walk, frame: Frame, indices: list[int], rendered: RenderedFrame, *, task_status: TaskStatus[None]
    ) -> None:
        """Store a frame in the bucket first, then record it: a recorded frame exists, and so does its mark.

        The task has started once there is room for the frame.
        """
        async with self._room:
            task_status.started()
            if rendered.marked:
                await self._mark(walk.id, frame)
            async with task_group() as tasks:
                if not walk.layout.settled:
                    tasks.start_soon(self._thumbnails.take, frame.key, rendered.png)
                xmp = xmp_of(source_of((*frame.recipe.pictures, *frame.recipe.clips)))
                new = await self._bucket.put(frame.key, png_with_xmp(rendered.png, xmp))
            if not new:
                # Another worker's picture of this frame was stored first, and only equal ones have equal thumbnails.
                self._thumbnails.forget(frame.key)
            log.debug("frame stored", walk=walk.id, frame=frame.key)
            await self._notes.stored(walk, indices)

    async def _warn(self, walk_id: str, recipe: Recipe, warnings: list[str]) -> None:
        """Add warnings to the walk, and store them with the frames, for other walks that use these."""
        if warnings:
            await self._bucket.put(recipe.truncated_key, json.dumps(warnings).encode())
            await self._progress.warn(walk_id, warnings)

    async def _mark(self, walk_id: str, frame: Frame) -> None:
        """Mark a frame before it is stored, so that no gallery shows it in between."""
        await self._bucket.put(frame.recipe.marked_key, json.dumps({"fraction": frame.fraction}).encode())
        await self._progress.mark(walk_id, UNLISTED)

    async def _film(self, walk: Walk, begin: Begin) -> None:
        """Make the films of a complete walk. Only one worker passes the move to filming; a takeover continues there."""
        async with self._film_lock:
            await begin()
            await self._progress.move(walk.id, State.WAITING, State.RENDERING, of_plan=walk.plans)
            filming = await self._progress.move(walk.id, State.RENDERING, State.FILMING, of_plan=walk.plans)
            if not filming and walk.state is not State.FILMING:
                return
            log.debug("walk filming", walk=walk.id)
            try:
                made = await self._films(walk)
            except NotInBucket as gone:
                log.warning("frame lost, planning the walk again", walk=walk.id, frame=str(gone))
                with anyio.CancelScope(shield=True):  # this makes the current job outdated
                    if await self._progress.discard_plan(walk):
                        await self.enqueue_jobs(await self._catalogue.get(walk.id))
                return
        await self._finish(walk, made)

    async def _finish(self, walk: Walk, made: Made) -> None:
        warnings = [TOO_LARGE.format(name) for name in made.too_large]
        smoothness = made.smoothness
        if walk.spec.kind != BETWEEN:
            # Cuts of a clip and instances that appear are no faults.
            smoothness = smoothness.model_copy(update={"jumps": ()})
        elif smoothness.evenness is None:
            warnings.append(NOTHING_MOVES)
        if warnings:
            await self._progress.warn(walk.id, warnings)
        done = {"films": sorted(made.films), "smoothness": smoothness.model_dump(mode="json")}
        if await self._progress.move(walk.id, State.FILMING, State.DONE, of_plan=walk.plans, **done):
            log.info("walk done", walk=walk.id, films=[name.value for name in sorted(made.films)])

    async def _films(self, walk: Walk) -> Made:
        """Make a walk's films and store them."""
        keys = [frame.key for frame in walk.frames]

        async def read(number: int) -> bytes:
            return await self._bucket.get(keys[number])

        async def store(path: Path) -> None:
            await self._bucket.put_file(f"walks/{walk.id}/{path.name}", path)
            log.debug("film stored", walk=walk.id, film=path.name)

        with TemporaryDirectory(prefix="momalisa-", dir=self._folder) as folder:
            times = None
            if isinstance(recipe := walk.frames[0].recipe, ClipRecipe):
                times = await self._clips.times(walk.id, recipe, Path(folder))
            return await make_films(read, walk, Path(folder), store, self._sign, times)


def missing_jobs(walk: Walk) -> list[Job]:
    """The jobs that a walk needs next: plan it, render shards, plan the next round, or make films."""
    if walk.ended:
        return []
    if walk.plan is None:
        return [Job(Kind.PLAN, walk.id, walk.plans)]
    missing = [number for number, frames in enumerate(walk.plan) if not walk.stored.issuperset(frames)]
    shards = [Job(Kind.RENDER, walk.id, walk.plans, number, walk.spec.model) for number in missing]
    return shards or [Job(Kind.FILM if walk.layout.settled else Kind.MEASURE, walk.id, walk.plans)]


def _warnings_of(stored: bytes) -> list[str]:
    """Read stored warnings. Frames are complete without them, so unreadable ones do not fail a walk."""
    try:
        return WARNINGS.validate_json(stored)
    except ValueError as error:
        log.warning("stored warnings cannot be read", reason=str(error))
        return []


def _indices(frames: Sequence[Frame]) -> dict[Frame, list[int]]:
    """The indices of each of a walk's frames; a frame that occurs twice has two."""
    indices: dict[Frame, list[int]] = {}
    for index, frame in enumerate(frames):
        indices.setdefault(frame, []).append(index)
    return indices
