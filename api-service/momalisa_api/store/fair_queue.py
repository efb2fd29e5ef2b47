"""Whose turn it is, and how much there is to do: what follows from all open walks together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, case, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import asks, landings, walks
from momalisa_api.walks.walk import OPEN, State

OF_PLAN: Final = and_(landings.c.walk_id == walks.c.id, landings.c.plan == walks.c.plans)
# Walk by walk: joined, all that ever landed would be counted to learn of the few walks that are open.
LANDED: Final = select(func.count()).where(OF_PLAN).scalar_subquery()


# A walk that is still finding where its frames stand can have more pictures than it will have frames.
LACKING: Final = case((walks.c.frames > LANDED, walks.c.frames - LANDED), else_=0)


@dataclass(frozen=True, slots=True)
class Load:
    """What one owner asks of a deployment. first_ask: the oldest of the asks that the frames are counted from."""

    open_walks: int
    frames: int
    first_ask: datetime | None


@dataclass(frozen=True, slots=True)
class AheadInQueue:
    """What comes before a walk: walks that wait, and frames that are lacking."""

    walks: int
    frames: int


class FairQueue:
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
        query = select(func.coalesce(func.sum(LACKING), 0)).where(walks.c.state.in_(OPEN))
        async with transaction(self._engine) as connection:
            return int(await connection.scalar(query) or 0)

    async def lines_before(self, walk_ids: Sequence[str]) -> dict[str, AheadInQueue]:
        """What will be rendered before each of some walks, of those that are open. One look, however many they are."""
        if not walk_ids:
            return {}
        waits = case((walks.c.state == State.WAITING, 1), else_=0)

        def before(value: ColumnElement[int]) -> ColumnElement[int]:
            """A sum over all that has begun, and all that waits with an earlier turn."""
            return func.sum(value).over(order_by=(waits, walks.c.tag, walks.c.number), rows=(None, -1))

        columns = (walks.c.id, before(waits).label("walks"), before(LACKING).label("frames"))
        line = select(*columns).where(walks.c.state.in_(OPEN)).subquery()
        async with transaction(self._engine) as connection:
            found = await connection.execute(select(line).where(line.c.id.in_(walk_ids)))
            return {row.id: AheadInQueue(int(row.walks or 0), int(row.frames or 0)) for row in found}


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


async def one_at_a_time(connection: AsyncConnection) -> None:
    """Until the transaction ends nobody else takes a walk in: budgets and turns are counted before they change."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('momalisa door'))"))


async def waiting(connection: AsyncConnection) -> int:
    """How many walks wait: what is asked at the door, however many walks have ended."""
    return int(await connection.scalar(select(func.count()).where(walks.c.state == State.WAITING)) or 0)


async def load_of(connection: AsyncConnection, owner: str, since: datetime) -> Load:
    """What an owner has asked of this deployment: open walks now, and frames since a time."""
    of_owner = asks.join(walks, asks.c.walk_id == walks.c.id)
    walking = select(func.count()).select_from(of_owner).where(asks.c.owner == owner, walks.c.state.in_(OPEN))
    asked = select(func.coalesce(func.sum(walks.c.frames), 0), func.min(asks.c.asked_at)).select_from(of_owner)
    open_walks = await connection.scalar(walking) or 0
    frames, first = (await connection.execute(asked.where(asks.c.owner == owner, asks.c.asked_at >= since))).one()
    return Load(int(open_walks), int(frames), first.replace(tzinfo=UTC) if first else None)
