"""The gallery's side of the catalogue: pages of listed walks, an owner's walks, and what is hidden."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import asks, walks
from momalisa_api.store.walk_rows import change_walk, read_walk, read_walks
from momalisa_api.walks.walk import Walk

FEW: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    walks: tuple[Walk, ...]
    next_cursor: int | None


class Gallery:
    """Which walks who can find. Everything raises CatalogueUnavailable where the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(
        self,
        q: str = "",
        before: int | None = None,
        limit: int = 24,
        owner: str | None = None,
        *,
        hidden: bool = False,
    ) -> Page:
        """Walks on the wall whose stops hold `q`, newest first, from below the cursor `before` on.

        owner: instead of the wall, all that this owner asks for, listed or not; hidden: those taken off it too.
        """
        query = select(walks).order_by(walks.c.number.desc()).limit(limit + 1)
        if owner and await self._has_few(owner):
            query = query.where(walks.c.id.in_(select(asks.c.walk_id).where(asks.c.owner == owner)))
        else:
            wished = asks.c.owner == owner if owner else asks.c.listed
            query = query.where(select(asks.c.walk_id).where(and_(asks.c.walk_id == walks.c.id, wished)).exists())
        if not hidden:
            query = query.where(walks.c.hidden.is_(False))
        if before is not None:
            query = query.where(walks.c.number < before)
        if q:
            query = query.where(walks.c.stops.contains(q.casefold(), autoescape=True))
        async with transaction(self._engine) as connection:
            found = await read_walks(connection, query)
        return Page(tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None)

    async def listed_walk(self, walk_id: str) -> Walk | None:
        """A walk that hangs on the wall: somebody asks for it listed, and it was not taken off."""
        listed = select(asks.c.walk_id).where(asks.c.walk_id == walk_id, asks.c.listed)
        query = select(walks).where(walks.c.id == walk_id, walks.c.hidden.is_(False), listed.exists())
        async with transaction(self._engine) as connection:
            found = await read_walks(connection, query)
        return found[0] if found else None

    async def asked(self, walk_id: str, owner: str) -> bool | None:
        """Whether an owner asks for a walk listed; None for one who does not ask for it."""
        return await self._ask_of(walk_id, owner, select(asks.c.listed))

    async def set_listed(self, walk_id: str, owner: str, listed: bool) -> bool | None:
        """Set whether an owner asks for a walk listed. Returns that, or None for one who does not ask for it."""
        return await self._ask_of(walk_id, owner, update(asks).values(listed=listed).returning(asks.c.listed))

    async def hide(self, walk_id: str) -> None:
        """Take a walk off the wall. Raises WalkNotFound."""
        await read_walk(self._engine, walk_id)
        await change_walk(self._engine, walk_id, true(), hidden=True)

    async def _ask_of(self, walk_id: str, owner: str, statement: Any) -> bool | None:
        async with transaction(self._engine) as connection:
            found = await connection.scalar(statement.where(asks.c.walk_id == walk_id, asks.c.owner == owner))
        return None if found is None else bool(found)

    async def _has_few(self, owner: str) -> bool:
        """Whether an owner's walks are soonest found by the asks, and not among all walks: SQLite cannot tell."""
        some = select(asks.c.walk_id).where(asks.c.owner == owner).limit(FEW).subquery()
        async with transaction(self._engine) as connection:
            return int(await connection.scalar(select(func.count()).select_from(some)) or 0) < FEW
