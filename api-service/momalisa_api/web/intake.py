"""The desk: takes walks in and takes asks back. It renders nothing; what is to be done goes into the queue."""

import structlog

from momalisa_api.problems import Unavailable
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.queue import Job, Kind, Queue
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.quotas import Quotas
from momalisa_api.web.request import unknown_words

log = structlog.get_logger()


class Intake:
    """Where visitors ask. What is taken in here is finished, whatever happens to this process."""

    def __init__(self, card: ModelCard, catalogue: Catalogue, quotas: Quotas, bucket: Bucket, queue: Queue) -> None:
        self._card = card
        self._catalogue = catalogue
        self._quotas = quotas
        self._bucket = bucket
        self._queue = queue

    async def ask(
        self, spec: WalkSpec, owner: str, *, listed: bool | None = None, again: bool = False
    ) -> tuple[Walk, bool]:
        """The walk of a spec, and whether it was started by this. `again` starts one anew that failed, was cancelled,
        or has lost pictures. listed: whether it may hang on the wall; None leaves that as it is, at first it may.

        Raises TooManyWaiting, BudgetSpent, Unavailable.
        """
        told = unknown_words(spec, self._card)
        walk, started = await self._catalogue.ask(spec, owner, listed=listed, warnings=told, door=self._quotas.check)
        if again and not started:
            started = await self._start_again(walk, owner)
        if started:
            log.debug("walk taken in", walk=walk.id)
            await self._put_in_line(await self._catalogue.get(walk.id))
        return await self._catalogue.get(walk.id), started

    async def withdraw(self, walk_id: str, owner: str) -> Walk:
        """Take back an owner's ask; a walk that nobody asks for any more ends, unless it has ended already.

        Whichever worker is at it sees that within a second. Raises WalkUnknown, Unavailable.
        """
        await self._catalogue.withdraw(walk_id, owner)
        return await self._catalogue.get(walk_id)

    async def _start_again(self, walk: Walk, owner: str) -> bool:
        door = self._quotas.check
        if walk.state in (State.FAILED, State.CANCELLED):
            return await self._catalogue.start_again(walk, owner, door=door)
        if walk.state is not State.DONE:
            return False
        films = await self._films_there(walk.id)
        if walk.films <= films and await self._frames_there(walk):
            return False
        return await self._catalogue.start_again(walk, owner, door=door, films=sorted(walk.films & films))

    async def _put_in_line(self, walk: Walk) -> None:
        try:
            await self._queue.put([Job(Kind.PLAN, walk.id, walk.plans)], walk.tag)
        except Unavailable as away:
            # It is in the catalogue, so it is taken in: a worker's reconciler will find it.
            log.warning("walk not put in line", walk=walk.id, reason=str(away))

    async def _films_there(self, walk_id: str) -> frozenset[str]:
        folder = f"walks/{walk_id}/"
        return frozenset(key.removeprefix(folder) for key in await self._bucket.present(folder))

    async def _frames_there(self, walk: Walk) -> bool:
        held: set[str] = set()
        for recipe in {frame.recipe for frame in walk.frames}:
            held |= await self._bucket.present(recipe.folder)
        return all(frame.key in held for frame in walk.frames)
