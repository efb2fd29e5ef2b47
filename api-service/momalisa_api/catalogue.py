"""What walks exist and how far they are. It lives in this process; the bucket remembers the pictures."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import anyio

from momalisa_api.problems import WalkUnknown
from momalisa_api.walk import WalkSpec


class State(StrEnum):
    WAITING = "waiting"
    RENDERING = "rendering"
    FILMING = "filming"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})

MOVES: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.RENDERING, State.FAILED, State.CANCELLED}),
    State.RENDERING: frozenset({State.FILMING, State.FAILED, State.CANCELLED}),
    State.FILMING: frozenset({State.DONE, State.FAILED, State.CANCELLED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset({State.WAITING}),
    State.CANCELLED: frozenset({State.WAITING}),
}


@dataclass(frozen=True, slots=True)
class Walk:
    """A snapshot of a walk. `revision` grows with every change."""

    id: str
    spec: WalkSpec
    state: State = State.WAITING
    landed: frozenset[int] = frozenset()
    films: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    error: str | None = None
    revision: int = 1
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    number: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Page:
    walks: tuple[Walk, ...]
    next_cursor: int | None


class Catalogue:
    """Walks by id. Every change is a new snapshot with the next revision, and wakes who watches the walk."""

    def __init__(self) -> None:
        self._walks: dict[str, Walk] = {}
        self._changed: dict[str, anyio.Event] = {}

    async def add(self, spec: WalkSpec, warnings: tuple[str, ...] = ()) -> tuple[Walk, bool]:
        """The walk of a spec, and whether it is new here; a new one is told these warnings."""
        known = self._walks.get(spec.id)
        if known:
            return known, False
        walk = Walk(spec.id, spec, warnings=warnings, number=len(self._walks) + 1)
        self._walks[walk.id] = walk
        return walk, True

    async def get(self, walk_id: str) -> Walk:
        """The newest snapshot. Raises WalkUnknown."""
        walk = self._walks.get(walk_id)
        if walk is None:
            raise WalkUnknown("No walk has this id. Ask for it with POST /api/v1/walks.")
        return walk

    async def page(self, q: str = "", before: int | None = None, limit: int = 24) -> Page:
        """Walks whose stops hold `q`, newest first, from below the cursor `before` on."""
        needle = q.casefold()
        found = [
            walk
            for walk in reversed(self._walks.values())
            if (before is None or walk.number < before) and any(needle in stop.casefold() for stop in walk.spec.stops)
        ]
        more = len(found) > limit
        return Page(tuple(found[:limit]), found[limit - 1].number if more else None)

    async def place_in_line(self, walk: Walk) -> int | None:
        """1 for the oldest walk that waits; None for one that does not wait."""
        if walk.state is not State.WAITING:
            return None
        return sum(other.state is State.WAITING and other.number <= walk.number for other in self._walks.values())

    async def move(self, walk_id: str, start: State, to: State, **changes: Any) -> bool:
        """Move a walk from one state to another, if it still is in the first: compare-and-set.

        Raises ValueError for a move that no walk can make.
        """
        if to not in MOVES[start]:
            raise ValueError(f"no walk moves from {start} to {to}")
        walk = await self.get(walk_id)
        if walk.state is not start:
            return False
        self._store(walk, state=to, **changes)
        return True

    async def land(self, walk_id: str, indices: frozenset[int]) -> Walk:
        """Note frames that lie in the bucket now. Returns the snapshot that holds them."""
        walk = await self.get(walk_id)
        if indices <= walk.landed:
            return walk
        return self._store(walk, landed=walk.landed | indices)

    async def warn(self, walk_id: str, warnings: tuple[str, ...]) -> None:
        """Note what the visitor should know of this walk, each thing once."""
        walk = await self.get(walk_id)
        fresh = tuple(warning for warning in warnings if warning not in walk.warnings)
        if fresh:
            self._store(walk, warnings=walk.warnings + fresh)

    async def watch(self, walk_id: str, after: int = 0) -> AsyncIterator[Walk]:
        """Snapshots newer than revision `after`, until the walk has ended. Skips what a slow watcher missed."""
        while True:
            changed = self._changed.setdefault(walk_id, anyio.Event())
            walk = await self.get(walk_id)
            if walk.revision > after:
                after = walk.revision
                yield walk
            if walk.ended:
                return
            await changed.wait()

    def _store(self, walk: Walk, **changes: Any) -> Walk:
        newer = replace(walk, revision=walk.revision + 1, **changes)
        self._walks[walk.id] = newer
        self._changed.pop(walk.id, anyio.Event()).set()
        return newer
