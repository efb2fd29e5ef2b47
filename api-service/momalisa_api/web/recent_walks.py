"""Walks whose pictures are being served: read once for all requests of a page, and kept for some seconds.

Nothing here decides who may see a walk: routes have the walk, and apply its rules to each request.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import anyio

from momalisa_api.problems import CatalogueUnavailable
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.walk import Walk

# For as long, a process that has read a walk serves it after its deletion.
KEPT_S: Final = 5.0
KEPT_WALKS: Final = 500
# Walks in one query: each can have hundreds of frames, and the event loop waits while they are put together.
WALKS_PER_QUERY: Final = 25


@dataclass(frozen=True, eq=False)
class Pictures:
    """A walk's snapshot with the keys of its pictures in the bucket."""

    walk: Walk

    @cached_property
    def frames(self) -> tuple[str, ...]:
        """The keys of the frames in order, stored or not; empty before the spacing is settled."""
        return tuple(frame.key for frame in self.walk.frames)


@dataclass(eq=False)
class _Batch:
    """Walks that are read in one query, and what came of it."""

    wanted: set[str] = field(default_factory=set)
    found: dict[str, Pictures] | None = None
    failure: CatalogueUnavailable | None = None


class RecentWalks:
    """Snapshots of walks that are some seconds old at most.

    One query is made at a time. Requests that arrive meanwhile share the next one, so the pictures of a page cost a few
    queries, whether they are of one walk or of many.
    """

    def __init__(self, catalogue: Catalogue, kept_s: float = KEPT_S) -> None:
        """kept_s: age in seconds after which a walk is read again."""
        self._catalogue = catalogue
        self._kept_s = kept_s
        # In the order in which they expire.
        self._known: dict[str, tuple[float, Pictures]] = {}
        self._next = _Batch()
        self._reading = anyio.Lock()

    async def get(self, walk_id: str) -> Pictures:
        """A recent snapshot. Raises WalkNotFound, and Gone for a walk that this release cannot read."""
        expires_at, found = self._known.get(walk_id, (0.0, None))
        return found if found and anyio.current_time() < expires_at else await self.newest(walk_id)

    async def newest(self, walk_id: str) -> Pictures:
        """A snapshot read after this call: for a picture that a recent one lacks. Raises the same."""
        if len(self._next.wanted) >= WALKS_PER_QUERY:
            self._next = _Batch()
        batch = self._next
        batch.wanted.add(walk_id)
        async with self._reading:
            if batch.failure:
                raise batch.failure
            if batch.found is None:
                await self._read(batch)
        if batch.found and walk_id in batch.found:
            return batch.found[walk_id]
        # There is none: this says why.
        return Pictures(await self._catalogue.get(walk_id))

    async def _read(self, batch: _Batch) -> None:
        if self._next is batch:
            self._next = _Batch()
        try:
            walks = await self._catalogue.read(batch.wanted)
        except CatalogueUnavailable as failure:
            batch.failure = failure
            raise
        batch.found = {walk_id: Pictures(walk) for walk_id, walk in walks.items()}
        self._keep(batch.found.values())

    def _keep(self, found: Iterable[Pictures]) -> None:
        now = anyio.current_time()
        for pictures in found:
            self._known.pop(pictures.walk.id, None)
            self._known[pictures.walk.id] = now + self._kept_s, pictures
        for walk_id in list(self._known):
            if len(self._known) <= KEPT_WALKS and self._known[walk_id][0] > now:
                break
            del self._known[walk_id]
