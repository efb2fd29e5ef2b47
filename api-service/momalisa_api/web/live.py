"""Who watches a walk hears of its changes: one look at the catalogue a process, however many watch."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.notifications import News
from momalisa_api.walks.walk import Walk

PAUSE_S: Final = 1.0
# Of many who watch, so many are woken at once; in the breath between, others are answered.
AT_ONCE: Final = 10
BREATH_S: Final = 0.004

Tell = Callable[[Walk], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Update:
    """A snapshot, and what all who watch are told of it."""

    walk: Walk
    event: bytes


@dataclass(slots=True, eq=False)
class _Wait:
    """All who wait for one walk to grow beyond a revision, and what they are given then."""

    seen: int
    watchers: set[anyio.Event] = field(default_factory=set)
    told: Update | None = None


class LiveUpdates:
    """Gives watchers the newest snapshot when a walk's revision has grown, whichever process let it grow."""

    def __init__(self, catalogue: Catalogue, every_s: float, news: News) -> None:
        """every_s: seconds between two looks while anybody watches, and no news comes."""
        self._catalogue = catalogue
        self._every_s = every_s
        self._news = news
        self._waiting: dict[str, _Wait] = {}
        self._somebody = anyio.Event()
        self._ending = False

    @property
    def ending(self) -> bool:
        """Whether this process stops."""
        return self._ending

    def end(self) -> None:
        """Let every watcher go: this process stops, and they will watch from another."""
        self._ending = True
        for wait in self._waiting.values():
            for watcher in wait.watchers:
                watcher.set()

    async def run(self, tell: Tell) -> None:
        """Look for ever, but only while somebody watches. In an outage of the catalogue watchers wait.

        tell: writes out what all who watch are told of a snapshot. May raise CatalogueUnavailable.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._news.run)
            while True:
                await self._somebody.wait()
                await self._news.wait(self._every_s)
                try:
                    await self._look(tell)
                except CatalogueUnavailable:
                    await anyio.sleep(PAUSE_S)

    async def newer(self, walk_id: str, seen: int) -> Update | None:
        """Wait for a snapshot above the revision seen. None: the walk is gone, or this process ends."""
        while not self._ending:
            wait = self._waiting.setdefault(walk_id, _Wait(seen))
            wait.seen = min(wait.seen, seen)
            self._somebody.set()
            await self._sit_out(walk_id, wait)
            if wait.told is None or wait.told.walk.revision > seen:
                return wait.told
        return None

    async def _sit_out(self, walk_id: str, wait: _Wait) -> None:
        """Wait with all others; the last who leaves early takes the walk off the list."""
        over = anyio.Event()
        wait.watchers.add(over)
        try:
            await over.wait()
        finally:
            wait.watchers.discard(over)
            if not wait.watchers and self._waiting.get(walk_id) is wait:
                self._forget(walk_id)

    def _forget(self, walk_id: str) -> None:
        del self._waiting[walk_id]
        if not self._waiting:
            self._somebody = anyio.Event()

    async def _look(self, tell: Tell) -> None:
        # Who comes while we look is served by the next look.
        looked = dict(self._waiting)
        if not looked:
            return
        revisions = await self._catalogue.revisions(looked)
        grown = [walk_id for walk_id, wait in looked.items() if revisions.get(walk_id, wait.seen + 1) > wait.seen]
        walks = await self._catalogue.read(grown) if grown else {}
        for walk_id in grown:
            wait, walk = looked[walk_id], walks.get(walk_id)
            wait.told = Update(walk, await tell(walk)) if walk else None
            if self._waiting.get(walk_id) is wait:
                self._forget(walk_id)
            await self._wake(wait)

    async def _wake(self, wait: _Wait) -> None:
        """A few at a time: a thousand at once would hold up every other visitor."""
        for number, watcher in enumerate(list(wait.watchers), 1):
            watcher.set()
            if number % AT_ONCE == 0 and not self._ending:
                await anyio.sleep(BREATH_S)
