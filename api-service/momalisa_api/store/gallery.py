"""The catalogue for the gallery: pages of listed walks, an owner's walks, and hidden walks."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import reading, transaction
from momalisa_api.store.tables import asks, walks
from momalisa_api.store.walk_rows import change_walk, read_page, read_walk, read_walks, searchable
from momalisa_api.walks.walk import State, Walk

FEW: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """A page of walks. next_cursor: where the next page starts; None on the last page."""

    walks: tuple[Walk, ...]
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class Access:
    """What decides who may read a walk. requested: by the owner in question; listed: shown by the gallery to all."""

    number: int
    private: bool
    requested: bool
    listed: bool


class Gallery:
    """Which walks are shown to whom. Everything raises CatalogueUnavailable if the database does not respond."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(
        self,
        q: str = "",
        before: int | None = None,
        limit: int = 24,
        owner: str | None = None,
        *,
        model: str | None = None,
        hidden: bool = False,
    ) -> Page:
        """Listed walks whose stops contain the words of `q`, newest first, starting below the cursor `before`.

        The public list has no failed and no cancelled walks, and none whose films are deleted.
        owner: all walks that this owner requested instead, listed or not; model: only walks of this model; hidden:
        include hidden walks.
        """
        query = select(walks)
        if owner and await self._has_few(owner):
            query = query.where(walks.c.id.in_(select(asks.c.walk_id).where(asks.c.owner == owner)))
        else:
            requested = asks.c.owner == owner if owner else asks.c.listed
            query = query.where(select(asks.c.walk_id).where(and_(asks.c.walk_id == walks.c.id, requested)).exists())
        if not owner:
            query = query.where(walks.c.state.not_in([State.FAILED, State.CANCELLED]), ~walks.c.films_removed)
        if not hidden:
            query = query.where(walks.c.hidden.is_(False))
        if model is not None:
            query = query.where(walks.c.model == model)
        for word in searchable(q).split():
            query = query.where(walks.c.stops.contains(word, autoescape=True))
        async with transaction(self._engine) as connection:
            found, next_cursor = await read_page(connection, query, before, limit)
        return Page(tuple(found), next_cursor)

    async def listed_walk(self, walk_id: str) -> Walk | None:
        """A walk that the gallery shows: a request lists it, and it is not hidden. None for all others."""
        listed = select(asks.c.walk_id).where(asks.c.walk_id == walk_id, asks.c.listed)
        query = select(walks).where(walks.c.id == walk_id, walks.c.hidden.is_(False), listed.exists())
        async with transaction(self._engine) as connection:
            found = await read_walks(connection, query)
        return found[0] if found else None

    async def access(self, walk_id: str, owner: str | None) -> Access | None:
        """Who may read a walk, as it is now; None if it does not exist. owner: None for a caller without one."""
        requests = select(asks.c.walk_id).where(asks.c.walk_id == walk_id)
        columns = (
            walks.c.number,
            walks.c.scope.is_not(None).label("private"),
            requests.where(asks.c.owner == owner).exists().label("requested"),
            (~walks.c.hidden & requests.where(asks.c.listed).exists()).label("listed"),
        )
        async with reading(self._engine) as connection:
            row = (await connection.execute(select(*columns).where(walks.c.id == walk_id))).first()
        return Access(row.number, bool(row.private), bool(row.requested), bool(row.listed)) if row else None

    async def is_listed(self, walk_id: str, owner: str) -> bool | None:
        """Whether an owner's request lists a walk; None without a request by this owner."""
        return await self._of_request(walk_id, owner, select(asks.c.listed))

    async def set_listed(self, walk_id: str, owner: str, listed: bool) -> bool | None:
        """Set whether an owner's request lists a walk. Returns the value, or None without a request by this owner."""
        return await self._of_request(walk_id, owner, update(asks).values(listed=listed).returning(asks.c.listed))

    async def hide(self, walk_id: str) -> None:
        """Hide a walk from the gallery. Raises WalkNotFound."""
        await read_walk(self._engine, walk_id)
        await change_walk(self._engine, walk_id, true(), hidden=True)

    async def _of_request(self, walk_id: str, owner: str, statement: Any) -> bool | None:
        async with transaction(self._engine) as connection:
            found = await connection.scalar(statement.where(asks.c.walk_id == walk_id, asks.c.owner == owner))
        return None if found is None else bool(found)

    async def _has_few(self, owner: str) -> bool:
        """Whether the query should start from the owner's requests instead of all walks: SQLite cannot decide this."""
        some = select(asks.c.walk_id).where(asks.c.owner == owner).limit(FEW).subquery()
        async with transaction(self._engine) as connection:
            return int(await connection.scalar(select(func.count()).select_from(some)) or 0) < FEW
