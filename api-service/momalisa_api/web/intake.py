"""Accepts and withdraws requests for walks. It renders nothing: the work goes into the queue."""

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import BucketUnavailable, Unavailable
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Admission, Catalogue
from momalisa_api.store.charges import limited_network
from momalisa_api.store.models import ModelRegistry
from momalisa_api.store.queue import Job, Kind, Queue
from momalisa_api.walks.forecast import most_pictures
from momalisa_api.walks.kinds import BETWEEN
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.quotas import Quotas
from momalisa_api.web.unknown_words import unknown_words

log = structlog.get_logger()


class Intake:
    """Accepts requests for walks. An accepted walk is finished, whatever happens to this process."""

    def __init__(
        self, models: ModelRegistry, catalogue: Catalogue, quotas: Quotas, bucket: Bucket, queue: Queue
    ) -> None:
        self._models = models
        self._catalogue = catalogue
        self._quotas = quotas
        self._bucket = bucket
        self._queue = queue

    async def request(
        self, spec: WalkSpec, owner: str, network: str, *, listed: bool | None = None, again: bool = False
    ) -> tuple[Walk, bool]:
        """Request the walk of a spec. Returns the walk, and whether this call started it.

        network: keyed hash of the caller's.
        listed: whether the gallery may show the walk; None leaves that unchanged, and a new walk is listed.
        again: whether to restart a walk that failed, was cancelled, or lost frames or films.

        Raises QueueFull, DayFull, QuotaExceeded, Unavailable, and Invalid for a new walk of a model that is retired,
        and for pictures that the owner has not, or the model cannot use.
        """
        try:
            await self._bucket.check_writable()
        except BucketUnavailable:
            if not await self._catalogue.knows(spec.id):
                raise
        models = await self._models.current()
        if spec.kind == BETWEEN and spec.pictures and not await self._catalogue.knows(spec.id):
            models.check_pictures(spec.model)
        model = models.get(spec.model)
        warnings = unknown_words(spec, model.card) if model else ()
        limited = limited_network(owner, network)
        admission = self._admission(spec.model, owner, limited, most_pictures(spec))
        walk, started = await self._catalogue.request(
            spec, owner, network=limited, listed=listed, warnings=warnings, admission=admission
        )
        if again and not started and (started := await self._restart(walk, owner, limited)):
            walk = await self._catalogue.get(walk.id)
        if started:
            log.debug("walk accepted", walk=walk.id)
            await self._enqueue(walk)
        return walk, started

    async def withdraw(self, walk_id: str, owner: str) -> Walk:
        """Withdraw an owner's request. An unfinished walk that nobody requests any more is cancelled.

        Workers are notified, and stop its shards. Raises WalkNotFound, Unavailable.
        """
        await self._catalogue.withdraw(walk_id, owner)
        return await self._catalogue.get(walk_id)

    def _admission(self, model: str, owner: str, network: str | None, frames: int) -> Admission:
        """A check that an owner may start a walk. It raises what Quotas.check raises, and Invalid."""

        async def admit(connection: AsyncConnection) -> None:
            self._models.known.check_offered(model)
            await self._quotas.check(connection, owner, network, frames)

        return admit

    async def _restart(self, walk: Walk, owner: str, network: str | None) -> bool:
        if walk.state in (State.FAILED, State.CANCELLED):
            films = walk.films
            frames = max(0, most_pictures(walk.spec) - len(walk.stored))
        elif walk.state is State.DONE:
            films = walk.films & await self._stored_films(walk.id)
            frames = await self._lost_frames(walk)
            if films == walk.films and not frames:
                return False
        else:
            return False
        await self._bucket.check_writable()
        admission = self._admission(walk.spec.model, owner, network, frames)
        return await self._catalogue.restart(
            walk, owner, frames, network=network, admission=admission, films=sorted(films)
        )

    async def _enqueue(self, walk: Walk) -> None:
        try:
            await self._queue.put([Job(Kind.PLAN, walk.id, walk.plans)], walk.tag)
        except Unavailable as unavailable:
            # The walk is in the catalogue, so a worker's reconciler will enqueue it.
            log.warning("walk not enqueued yet", walk=walk.id, reason=str(unavailable))

    async def _stored_films(self, walk_id: str) -> frozenset[str]:
        folder = f"walks/{walk_id}/"
        return frozenset(key.removeprefix(folder) for key in await self._bucket.present(folder))

    async def _lost_frames(self, walk: Walk) -> int:
        """How many frames of a finished walk the bucket has no more."""
        held: set[str] = set()
        for recipe in {frame.recipe for frame in walk.frames}:
            held |= await self._bucket.present(recipe.folder)
        return sum(frame.key not in held for frame in walk.frames)
