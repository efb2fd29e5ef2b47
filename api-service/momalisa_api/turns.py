"""Whose turn it is, and how much there is to do: what follows from all open walks together."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.database import asks, landings, transaction, walks
from momalisa_api.states import OPEN, State, Walk


@dataclass(frozen=True, slots=True)
class Load:
    """What one owner asks of a deployment. first_ask: the oldest of the asks that the frames are counted from."""

    open_walks: int
    frames: int
    first_ask: datetime | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What comes before a walk: walks that wait, and frames that are lacking."""

    walks: int
    frames: int


class Turns:
    """Reads the catalogue's tables as a whole. Everything raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def counts(self) -> dict[State, int]:
        """How many walks there are in each state."""
        query = select(walks.c.state, func.count()).group_by(walks.c.state)
        async with transaction(self._engine) as connection:
            found = {State(state): count for state, count in await connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    async def frames_pending(self) -> int:
        """Frames that open walks still lack: the work that waits for replicas, the same from every process."""
        wanted = select(func.coalesce(func.sum(walks.c.frames), 0)).where(walks.c.state.in_(OPEN))
        landed = select(func.count()).select_from(landings.join(walks, landings.c.walk_id == walks.c.id))
        async with transaction(self._engine) as connection:
            there = await connection.scalar(landed.where(walks.c.state.in_(OPEN))) or 0
            return int(await connection.scalar(wanted) or 0) - int(there)

    async def load_of(self, owner: str, since: datetime) -> Load:
        """What an owner has asked of this deployment: open walks now, and frames since a time."""
        of_owner = asks.join(walks, asks.c.walk_id == walks.c.id)
        walking = select(func.count()).select_from(of_owner).where(asks.c.owner == owner, walks.c.state.in_(OPEN))
        asked = select(func.coalesce(func.sum(walks.c.frames), 0), func.min(asks.c.asked_at)).select_from(of_owner)
        async with transaction(self._engine) as connection:
            open_walks = await connection.scalar(walking) or 0
            frames, first = (
                await connection.execute(asked.where(asks.c.owner == owner, asks.c.asked_at >= since))
            ).one()
        return Load(int(open_walks), int(frames), first.replace(tzinfo=UTC) if first else None)

    async def line_before(self, walk: Walk) -> Ahead:
        """What will be rendered before a walk that waits."""
        sooner = tuple_(walks.c.tag, walks.c.number) < tuple_(literal(walk.tag), literal(walk.number))
        ahead = walks.c.state.in_([State.RENDERING, State.FILMING]) | ((walks.c.state == State.WAITING) & sooner)
        waiting = func.count().filter(walks.c.state == State.WAITING)
        landed = select(func.count()).select_from(landings.join(walks, landings.c.walk_id == walks.c.id)).where(ahead)
        async with transaction(self._engine) as connection:
            query = select(waiting, func.coalesce(func.sum(walks.c.frames), 0)).where(ahead)
            in_line, frames = (await connection.execute(query)).one()
            return Ahead(int(in_line), int(frames) - int(await connection.scalar(landed) or 0))


async def next_tag(connection: AsyncConnection, owner: str) -> int:
    """The turn of an owner's next walk, in frames: now, or after all that this owner has in line.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): now is the latest turn that has come, so somebody new
    goes before the second walk of somebody who asked for twenty.
    """
    begun = select(func.max(walks.c.tag)).where(walks.c.state.in_([State.RENDERING, State.FILMING]))
    first = select(func.min(walks.c.tag)).where(walks.c.state == State.WAITING)
    theirs = select(func.max(walks.c.tag + walks.c.frames)).select_from(asks.join(walks, asks.c.walk_id == walks.c.id))
    now = await connection.scalar(begun)
    if now is None:
        now = await connection.scalar(first)
    after = await connection.scalar(theirs.where(asks.c.owner == owner, walks.c.state.in_(OPEN)))
    return max(int(now or 0), int(after or 0))
