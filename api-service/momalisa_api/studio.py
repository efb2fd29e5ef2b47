"""The story of a walk: plan -> render -> store -> film. Read this first.

A walk goes forward only. Its frames lie in the bucket as soon as they exist, so whatever is lost here is planned
again from what the bucket holds.
"""

import json
from contextlib import aclosing
from pathlib import Path

import anyio
import structlog

from momalisa_api import film
from momalisa_api.bucket import Bucket, copied_aside
from momalisa_api.budgets import Budgets
from momalisa_api.catalogue import Catalogue, State, Walk
from momalisa_api.problems import Problem
from momalisa_api.queue import Queue
from momalisa_api.replicas import Replicas
from momalisa_api.request import unknown_words
from momalisa_api.walk import Frame, Recipe, Shard, WalkSpec, lay_out, plan_shards
from momalisa_api.wire import Head, ModelCard, RenderedFrame

log = structlog.get_logger()

MAX_TRIES = 5
UNLISTED = "Unlisted: the model's safety checker marked a picture between two of its stops. The url works all the same."


class Studio:
    """Takes walks in and sees them through."""

    def __init__(
        self, card: ModelCard, catalogue: Catalogue, budgets: Budgets, bucket: Bucket, queue: Queue, replicas: Replicas
    ) -> None:
        self._card = card
        self._catalogue = catalogue
        self._budgets = budgets
        self._bucket = bucket
        self._queue = queue
        self._replicas = replicas
        # One walk is filmed at a time: encoders take memory and cores.
        self._film_room = anyio.Lock()

    async def ask(self, spec: WalkSpec, owner: str, *, listed: bool = True, again: bool = False) -> tuple[Walk, bool]:
        """The walk of a spec, and whether it was started by this. `again` starts a failed or cancelled one anew."""
        if not await self._catalogue.knows(spec.id):
            await self._budgets.check(owner, spec.frames)
        walk, started = await self._catalogue.ask(spec, owner, listed=listed, warnings=unknown_words(spec, self._card))
        if again and walk.state in (State.FAILED, State.CANCELLED):
            started = await self._catalogue.move(walk.id, walk.state, State.WAITING, error=None, tries=0)
        elif again and walk.state is State.DONE and not walk.films <= await self._films_there(walk.id):
            started = await self._catalogue.move(walk.id, State.DONE, State.WAITING, films=[])
        if started:
            await self._plan_or_fail(walk.id, spec)
        return await self._catalogue.get(walk.id), started

    async def withdraw(self, walk_id: str, owner: str) -> Walk:
        """Take back an owner's ask; a walk that nobody asks for any more ends, unless it has ended already."""
        others = await self._catalogue.withdraw(walk_id, owner)
        walk = await self._catalogue.get(walk_id)
        if not others and not walk.ended and await self._catalogue.move(walk_id, walk.state, State.CANCELLED):
            await self._queue.cancel(walk_id)
        return await self._catalogue.get(walk_id)

    async def resume(self) -> None:
        """Plan again what was open when the last process ended; what it had rendered lies in the bucket."""
        for walk in await self._catalogue.open_walks():
            if walk.tries + 1 >= MAX_TRIES:
                await self._fail(
                    walk.id, f"{MAX_TRIES} processes died while this walk was made. Ask for a smaller one."
                )
                continue
            if walk.state is not State.WAITING:
                await self._catalogue.move(walk.id, walk.state, State.WAITING, tries=walk.tries + 1)
            await self._plan_or_fail(walk.id, walk.spec)

    async def render(self, shard: Shard) -> None:
        """Have a shard rendered, store each frame as it comes, and film the walk if nothing lacks now."""
        try:
            await self._store_frames(shard)
            await self._film_if_whole(shard.walk_id)
        except Problem as problem:
            await self._fail(shard.walk_id, str(problem))
        except Exception:
            log.exception("walk broke", walk=shard.walk_id)
            await self._fail(shard.walk_id, "Something broke while the walk was made; the operator's log says what.")

    async def _films_there(self, walk_id: str) -> frozenset[str]:
        folder = f"walks/{walk_id}/"
        return frozenset(key.removeprefix(folder) for key in await self._bucket.present(folder))

    async def _plan_or_fail(self, walk_id: str, spec: WalkSpec) -> None:
        try:
            await self._plan(walk_id, spec)
        except Exception:
            await self._fail(walk_id, "The bucket did not answer when the walk was planned. POST it again later.")
            raise

    async def _plan(self, walk_id: str, spec: WalkSpec) -> None:
        """Note the frames that the bucket holds and put what lacks in line."""
        frames = lay_out(spec)
        held: set[str] = set()
        for recipe in set(spec.recipes):
            held |= await self._bucket.present(recipe.folder)
            if recipe.marked_key in held:
                await self._catalogue.mark(walk_id, UNLISTED)
            if recipe.unheard_key in held:
                await self._catalogue.warn(walk_id, json.loads(await self._bucket.get(recipe.unheard_key)))
        lacking = [frame for frame in frames if frame.key not in held]
        await self._catalogue.land(walk_id, [index for index, frame in enumerate(frames) if frame.key in held])
        shards = plan_shards(walk_id, lacking, self._card.micro_batch)
        log.info("walk planned", walk=walk_id, frames=len(frames), lacking=len(lacking), shards=len(shards))
        if (await self._catalogue.get(walk_id)).state is not State.WAITING:
            return  # withdrawn while it was planned
        # A shard without frames renders nothing, and films what is whole already.
        await self._queue.enqueue(shards or [Shard(walk_id, spec.recipes[0], ())])

    async def _store_frames(self, shard: Shard) -> None:
        if not shard.fractions:
            await self._catalogue.move(shard.walk_id, State.WAITING, State.RENDERING)
            return
        walk = await self._catalogue.get(shard.walk_id)
        places = _places(walk.spec)
        async with aclosing(self._replicas.render(shard)) as events:
            async for event in events:
                match event:
                    case Head(warnings=warnings):
                        await self._catalogue.move(walk.id, State.WAITING, State.RENDERING)
                        await self._warn(walk.id, shard.recipe, [warning.detail for warning in warnings])
                    case RenderedFrame(fraction=fraction, png=png, marked=marked):
                        frame = Frame(shard.recipe, fraction)
                        if marked:
                            await self._mark(walk.id, frame)
                        # First the bucket, then the catalogue: a frame that is noted is there.
                        await self._bucket.put(frame.key, png)
                        await self._catalogue.land(walk.id, places[frame])

    async def _warn(self, walk_id: str, recipe: Recipe, warnings: list[str]) -> None:
        """Tell the walk what went unheard, and lay it beside the frames, for walks that will find those there."""
        if warnings:
            await self._bucket.put(recipe.unheard_key, json.dumps(warnings).encode())
            await self._catalogue.warn(walk_id, warnings)

    async def _mark(self, walk_id: str, frame: Frame) -> None:
        """Before the frame is anywhere: whoever finds it finds the mark, and no wall shows it meanwhile."""
        await self._bucket.put(frame.recipe.marked_key, json.dumps({"fraction": frame.fraction}).encode())
        await self._catalogue.mark(walk_id, UNLISTED)

    async def _film_if_whole(self, walk_id: str) -> None:
        """Whoever finds all frames present makes the films; the move to filming lets only one through."""
        walk = await self._catalogue.get(walk_id)
        whole = len(walk.landed) == walk.spec.frames
        if not whole or not await self._catalogue.move(walk_id, State.RENDERING, State.FILMING):
            return
        films = await self._films(walk)
        await self._catalogue.move(walk_id, State.FILMING, State.DONE, films=sorted(films))
        log.info("walk done", walk=walk_id, films=sorted(films))

    async def _films(self, walk: Walk) -> frozenset[str]:
        """Make a walk's films and put them in the bucket. Returns their names."""
        keys = [frame.key for frame in lay_out(walk.spec)]
        async with self._film_room, copied_aside(self._bucket, keys) as copies:
            frames = [copy.read_bytes for copy in copies]
            made = await anyio.to_thread.run_sync(_make_films, frames, copies[0].parent, walk.spec)
            for path in made:
                await self._bucket.put_file(f"walks/{walk.id}/{path.name}", path)
        return frozenset(path.name for path in made)

    async def _fail(self, walk_id: str, error: str) -> None:
        """A walk whose shard failed fails as a whole; the frames that landed stay for the next try."""
        walk = await self._catalogue.get(walk_id)
        if not walk.ended and await self._catalogue.move(walk_id, walk.state, State.FAILED, error=error):
            log.warning("walk failed", walk=walk_id, error=error)
            await self._queue.cancel(walk_id)


def _places(spec: WalkSpec) -> dict[Frame, list[int]]:
    """Where each of a walk's frames stands; one that is passed twice stands in two places."""
    places: dict[Frame, list[int]] = {}
    for index, frame in enumerate(lay_out(spec)):
        places.setdefault(frame, []).append(index)
    return places


def _make_films(frames: film.Frames, folder: Path, spec: WalkSpec) -> list[Path]:
    """All films of a walk that this installation can make, in a folder. Each holds the walk's spec."""
    metadata = spec.model_dump_json()
    gif, mp4, preview, poster = (folder / name for name in ("walk.gif", "walk.mp4", "preview.mp4", "poster.webp"))
    film.make_gif(frames, gif, film.FilmOptions(spec.frame_ms, spec.gif_there_and_back), metadata)
    film.make_poster(frames, poster, metadata)
    if not film.can_make_video():
        return [gif, poster]
    film.make_mp4(frames, mp4, film.FilmOptions(spec.frame_ms, spec.mp4_there_and_back), metadata)
    film.make_preview(frames, preview, metadata, film.FilmOptions(spec.frame_ms))
    return [gif, poster, mp4, preview]
