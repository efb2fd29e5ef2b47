"""Who watches a walk hears of its changes: one look at the catalogue a process, however many watch."""

from dataclasses import dataclass, field
from typing import Final

import anyio

from momalisa_api.catalogue import Catalogue
from momalisa_api.news import News
from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.states import Walk

PAUSE_S: Final = 1.0


@dataclass(slots=True, eq=False)
class _Wait:
    """All who wait for one walk to grow beyond a revision, and what they are given then."""

    seen: int
    watchers: int = 0
    over: anyio.Event = field(default_factory=anyio.Event)
    walk: Walk | None = None


class Watch:
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
            wait.over.set()

    async def run(self) -> None:
        """Look for ever, but only while somebody watches. In an outage of the catalogue watchers wait."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._news.run)
            while True:
                await self._somebody.wait()
                await self._news.wait(self._every_s)
                try:
                    await self._look()
                except CatalogueUnavailable:
                    await anyio.sleep(PAUSE_S)

    async def newer(self, walk_id: str, seen: int) -> Walk | None:
        """Wait for a snapshot above the revision seen. None: the walk is gone, or this process ends."""
        while not self._ending:
            wait = self._waiting.setdefault(walk_id, _Wait(seen))
            wait.seen = min(wait.seen, seen)
            self._somebody.set()
            await self._sit_out(walk_id, wait)
            if wait.walk is None or wait.walk.revision > seen:
                return wait.walk
        return None

    async def _sit_out(self, walk_id: str, wait: _Wait) -> None:
        """Wait with all others; the last who leaves early takes the walk off the list."""
        wait.watchers += 1
        try:
            await wait.over.wait()
        finally:
            wait.watchers -= 1
            if not wait.watchers and self._waiting.get(walk_id) is wait:
                self._forget(walk_id)

    def _forget(self, walk_id: str) -> None:
        del self._waiting[walk_id]
        if not self._waiting:
            self._somebody = anyio.Event()

    async def _look(self) -> None:
        # Who comes while we look is served by the next look.
        looked = dict(self._waiting)
        if not looked:
            return
        revisions = await self._catalogue.revisions(looked)
        grown = [walk_id for walk_id, wait in looked.items() if revisions.get(walk_id, wait.seen + 1) > wait.seen]
        walks = await self._catalogue.read(grown) if grown else {}
        for walk_id in grown:
            wait = looked[walk_id]
            wait.walk = walks.get(walk_id)
            wait.over.set()
            if self._waiting.get(walk_id) is wait:
                self._forget(walk_id)
