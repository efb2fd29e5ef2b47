"""Live updates of walks to everyone who watches: one query per change and process, however many watch."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.notifications import WalkChanges
from momalisa_api.walks.walk import Walk

PAUSE_S: Final = 1.0
# Watchers are woken in groups, with a pause between them in which the process answers other requests.
GROUP_SIZE: Final = 10
GROUP_PAUSE_S: Final = 0.004

Tell = Callable[[Sequence[Walk]], Awaitable[Sequence[bytes]]]


@dataclass(frozen=True, slots=True)
class Update:
    """A snapshot of a walk, and the event that every watcher receives for it."""

    walk: Walk
    event: bytes


@dataclass(slots=True, eq=False)
class _Wait:
    """Everyone who waits for one walk to pass a revision, and the update that they will receive."""

    seen: int
    watchers: set[anyio.Event] = field(default_factory=set)
    update: Update | None = None


class LiveUpdates:
    """Gives watchers the newest snapshot once a walk's revision has grown, whichever process changed it."""

    def __init__(self, catalogue: Catalogue, every_s: float, changes: WalkChanges) -> None:
        """every_s: poll interval in seconds while there are watchers and no notification arrives."""
        self._catalogue = catalogue
        self._every_s = every_s
        self._changes = changes
        self._waiting: dict[str, _Wait] = {}
        self._watched = anyio.Event()
        self._ending = False

    @property
    def ending(self) -> bool:
        """Whether this process is shutting down."""
        return self._ending

    def end(self) -> None:
        """Release every watcher: this process is shutting down, and clients reconnect to another."""
        self._ending = True
        for wait in self._waiting.values():
            for watcher in wait.watchers:
                watcher.set()

    async def run(self, tell: Tell) -> None:
        """Poll until cancelled, but only while there are watchers. During an outage of the catalogue watchers wait.

        tell: encodes each snapshot as the event for all its watchers; may raise CatalogueUnavailable.
        """
        while True:
            await self._watched.wait()
            await self._changes.wait(self._every_s)
            try:
                await self._look(tell)
            except CatalogueUnavailable:
                await anyio.sleep(PAUSE_S)

    def look_soon(self) -> None:
        """Do not wait for a change: a watcher lacks a snapshot that exists already."""
        self._changes.wake()

    async def newer(self, walk_id: str, seen: int) -> Update | None:
        """Wait for a snapshot newer than the revision `seen`. None: the walk was deleted, or the process shuts down."""
        while not self._ending:
            wait = self._waiting.setdefault(walk_id, _Wait(seen))
            wait.seen = min(wait.seen, seen)
            self._watched.set()
            await self._wait_with_others(walk_id, wait)
            if wait.update is None or wait.update.walk.revision > seen:
                return wait.update
        return None

    async def _wait_with_others(self, walk_id: str, wait: _Wait) -> None:
        """Wait with the other watchers; the last one to leave early removes the walk from the list."""
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
            self._watched = anyio.Event()

    async def _look(self, tell: Tell) -> None:
        # Watchers that arrive during this poll are served by the next one.
        looked = dict(self._waiting)
        if not looked:
            return
        revisions = await self._catalogue.revisions(looked)
        grown = [walk_id for walk_id, wait in looked.items() if revisions.get(walk_id, wait.seen + 1) > wait.seen]
        walks = await self._catalogue.read(grown) if grown else {}
        events = dict(zip(walks, await tell([*walks.values()]) if walks else (), strict=True))
        for walk_id in grown:
            wait, walk = looked[walk_id], walks.get(walk_id)
            wait.update = Update(walk, events[walk_id]) if walk else None
            if self._waiting.get(walk_id) is wait:
                self._forget(walk_id)
            await self._wake(wait)

    async def _wake(self, wait: _Wait) -> None:
        """Wake watchers in groups: waking a thousand at once would delay every other request."""
        for number, watcher in enumerate(list(wait.watchers), 1):
            watcher.set()
            if number % GROUP_SIZE == 0 and not self._ending:
                await anyio.sleep(GROUP_PAUSE_S)
