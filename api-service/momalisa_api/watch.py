"""Who watches a walk hears of its changes: one look at the catalogue a process, however many watch."""

from collections.abc import AsyncIterator

import anyio

from momalisa_api.catalogue import Catalogue, Walk


class Watch:
    """Wakes watchers when a walk's revision has grown, whichever process let it grow."""

    def __init__(self, catalogue: Catalogue, every_s: float) -> None:
        """every_s: seconds between two looks while anybody watches."""
        self._catalogue = catalogue
        self._every_s = every_s
        self._waiting: dict[str, tuple[int, anyio.Event]] = {}
        self._somebody = anyio.Event()
        self._ending = False

    def end(self) -> None:
        """Let every watcher go: this process stops, and they will watch from another."""
        self._ending = True
        for _, event in self._waiting.values():
            event.set()

    async def run(self) -> None:
        """Look for ever, but only while somebody watches."""
        while True:
            await self._somebody.wait()
            await anyio.sleep(self._every_s)
            await self._look()

    async def snapshots(self, walk_id: str, after: int = 0) -> AsyncIterator[Walk]:
        """Snapshots newer than revision `after`, until the walk, or this process, has ended. Skips what was missed.

        Raises WalkUnknown.
        """
        while True:
            walk = await self._catalogue.get(walk_id)
            if walk.revision > after:
                after = walk.revision
                yield walk
            if walk.ended or self._ending:
                return
            await self._grown(walk_id, walk.revision).wait()

    def _grown(self, walk_id: str, revision: int) -> anyio.Event:
        """The event that all who have seen this revision wait for."""
        seen, event = self._waiting.get(walk_id, (revision, anyio.Event()))
        self._waiting[walk_id] = (min(seen, revision), event)
        self._somebody.set()
        return event

    async def _look(self) -> None:
        found = await self._catalogue.revisions(self._waiting)
        for walk_id, (seen, event) in list(self._waiting.items()):
            if found.get(walk_id, seen + 1) > seen:
                del self._waiting[walk_id]
                event.set()
        if not self._waiting:
            self._somebody = anyio.Event()
