"""Removes what a deployment keeps for a limited time: frames, films and whole walks, each some days after their end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import transaction
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.tables import asks, walks
from momalisa_api.store.walk_files import WalkFiles
from momalisa_api.walks.walk import ENDED, Walk

EXPIRED_AT_ONCE: Final = 20
# A private walk that nobody requests any more can be read by nobody; its owner may request it again at once.
KEEP_ABANDONED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """How long walks, their frames and their films are kept after the walk has ended; None: for ever."""

    walks: timedelta | None = None
    frames: timedelta | None = None
    films: timedelta | None = None


class Expiry:
    """What is due is removed in small batches. Everything raises CatalogueUnavailable and BucketUnavailable."""

    def __init__(self, engine: AsyncEngine, bucket: Bucket, erasures: Erasures, kept: Kept) -> None:
        self._engine = engine
        self._catalogue = Catalogue(engine)
        self._files = WalkFiles(self._catalogue, bucket)
        self._erasures = erasures
        self._kept = kept

    async def remove_due(self) -> int:
        """Remove a batch of what is due. Returns the number of walks, 0 if nothing is left."""
        return await self._erase_walks() + await self._remove_frames() + await self._remove_films()

    async def _erase_walks(self) -> int:
        """Delete walks whose time is over, and private walks that nobody requests. `Erasures.sweep` does the rest."""
        unrequested = ~select(asks.c.walk_id).where(asks.c.walk_id == walks.c.id).exists()
        due = _ended(KEEP_ABANDONED) & walks.c.scope.is_not(None) & unrequested
        if self._kept.walks is not None:
            due |= _ended(self._kept.walks)
        batch = select(walks.c.id).where(due).order_by(walks.c.number).limit(EXPIRED_AT_ONCE)
        async with transaction(self._engine) as connection:
            ids = list((await connection.scalars(batch)).all())
        return await self._erasures.erase(walks.c.id.in_(ids) & due) if ids else 0

    async def _remove_frames(self) -> int:
        async def remove(walk: Walk) -> None:
            beside = await self._files.of_walk(walk.id) - {f"walks/{walk.id}/{name}" for name in walk.films}
            await self._files.delete(beside | await self._files.of_recipes(frozenset(walk.recipes), but=walk.id))

        return await self._remove(self._kept.frames, walks.c.frames_removed, remove)

    async def _remove_films(self) -> int:
        async def remove(walk: Walk) -> None:
            await self._files.delete(f"walks/{walk.id}/{name}" for name in walk.films)

        return await self._remove(self._kept.films, walks.c.films_removed, remove)

    async def _remove(
        self, kept: timedelta | None, removed: ColumnElement[bool], remove: Callable[[Walk], Awaitable[None]]
    ) -> int:
        """Remove files of walks, oldest first, and mark these walks, unless they were restarted meanwhile."""
        if kept is None:
            return 0
        due = _ended(kept) & ~removed
        async with transaction(self._engine) as connection:
            batch = select(walks.c.id, walks.c.plans).where(due).order_by(walks.c.number).limit(EXPIRED_AT_ONCE)
            plans = {row.id: row.plans for row in await connection.execute(batch)}
        found = await self._catalogue.read(plans)
        for walk_id, plan in plans.items():
            if walk_id in found:
                await remove(found[walk_id])
            same = (walks.c.id == walk_id) & (walks.c.plans == plan) & walks.c.state.in_(ENDED)
            marked = update(walks).where(same).values({removed: True, walks.c.revision: walks.c.revision + 1})
            async with transaction(self._engine) as connection:
                await connection.execute(marked)
        return len(plans)


def _ended(kept: timedelta) -> ColumnElement[bool]:
    """Whether a walk ended at least this long ago. Of walks that older releases ended, only the beginning is known."""
    ended_at = func.coalesce(walks.c.finished_at, walks.c.created_at)
    return walks.c.state.in_(ENDED) & (ended_at <= datetime.now(UTC) - kept)
