"""The fair queue of walks: their order, their load, and what is pending over all unfinished walks."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Text, and_, case, cast, false, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.store.engine import reading, unreadable_of
from momalisa_api.store.tables import charges, landings, walks
from momalisa_api.walks.spec import SPEC_VERSION
from momalisa_api.walks.walk import OPEN, State

OF_PLAN: Final = and_(landings.c.walk_id == walks.c.id, landings.c.plan == walks.c.plans)
# A correlated subquery: a join would count the frames of all walks, and not only those of the few unfinished ones.
STORED: Final = select(func.count()).where(OF_PLAN).scalar_subquery()
# Pictures that a walk still needs, those of later rounds included. A plan without shards is the last one, and complete.
COMPLETE: Final = func.coalesce(cast(walks.c.plan, Text) == "[]", false())
MISSING: Final = case((COMPLETE, 0), (walks.c.frames > STORED, walks.c.frames - STORED), else_=0)
# Several people share the address of an office or a home, and one person can be as many owners as they like.
TURNS_OF_NETWORK: Final = 4


@dataclass(frozen=True, slots=True)
class AheadInQueue:
    """What else is in the queue: waiting walks before a walk (none if it has started), missing frames before and after.

    What comes after it is rendered whenever the walk leaves replicas idle.
    """

    walks: int
    frames: int
    frames_after: int = 0


class FairQueue:
    """Queries over all walks. Everything raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def counts(self) -> dict[State, int]:
        """The number of walks in each state."""
        query = select(walks.c.state, func.count()).where(walks.c.state.in_(State)).group_by(walks.c.state)
        async with reading(self._engine) as connection:
            found = {State(state): count for state, count in await connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    async def frames_pending(self) -> dict[str, int]:
        """The number of frames that unfinished walks still need, by model: of models that have such walks.

        Without walks of newer releases, and others that this process could not read: nothing renders them, and the
        autoscaler would keep replicas for ever.
        """
        readable = (walks.c.spec_version <= SPEC_VERSION) & walks.c.id.not_in(list(unreadable_of(self._engine)))
        open_walks = walks.c.state.in_(OPEN) & walks.c.model.is_not(None)
        query = select(walks.c.model, func.sum(MISSING)).where(open_walks, readable)
        async with reading(self._engine) as connection:
            return {name: int(frames) for name, frames in await connection.execute(query.group_by(walks.c.model))}

    async def positions(self) -> dict[str, AheadInQueue]:
        """What of the same model is before each unfinished walk, in the order in which replicas take shards.

        One query, whose cost grows with the unfinished walks: store/places.py reads it once for many requests.
        """
        columns = walks.c.id, walks.c.model, walks.c.state, walks.c.frames
        queue = (
            select(*columns, COMPLETE.label("complete"), STORED.label("stored"))
            .where(walks.c.state.in_(OPEN))
            .order_by(walks.c.tag, walks.c.number)
        )
        async with reading(self._engine) as connection:
            rows = (await connection.execute(queue)).all()
        left = [0 if row.complete else max(0, row.frames - row.stored) for row in rows]
        after = Counter[str]()
        for row, missing in zip(rows, left, strict=True):
            after[row.model] += missing
        found, ahead, before = dict[str, AheadInQueue](), Counter[str](), Counter[str]()
        for row, missing in zip(rows, left, strict=True):
            after[row.model] -= missing
            found[row.id] = AheadInQueue(ahead[row.model], before[row.model], after[row.model])
            ahead[row.model] += row.state == State.WAITING
            before[row.model] += missing
        return found


async def next_tag(connection: AsyncConnection, account: str, network: str | None, model: str) -> int:
    """The tag of the next walk of an account, in frames: the current time, or after all of its queued walks.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): the current time is the latest tag that has started, so that
    a new owner comes before the second walk of an owner who requested twenty. Each model has its own time and its own
    queue. A model without unfinished walks begins at the time of the others: replicas that hold two models take the
    lowest tag of both. All owners of a network together have as many turns as `TURNS_OF_NETWORK` owners.
    """
    begun = select(func.max(walks.c.tag)).where(walks.c.state.in_([State.RENDERING, State.FILMING]))
    first = select(func.min(walks.c.tag)).where(walks.c.state == State.WAITING)
    same = walks.c.model == model
    now: int | None = None
    for clock in (begun.where(same), first.where(same), begun, first):
        now = await connection.scalar(clock) if now is None else now
    started = walks.join(charges, charges.c.walk_id == walks.c.id)
    theirs = select(func.max(walks.c.tag + walks.c.frames)).select_from(started)
    after = await connection.scalar(theirs.where(charges.c.owner == account, walks.c.state.in_(OPEN), same))
    tag = max(int(now or 0), int(after or 0))
    return max(tag, await _turn_of_network(connection, network, model, int(now or 0))) if network else tag


async def _turn_of_network(connection: AsyncConnection, network: str, model: str, now: int) -> int:
    """The first tag, from the current time on, at which the unfinished walks of a network leave it a turn.

    Each of them takes its frames divided by the turns. A walk with a later tag than that waits for its own owner, and
    takes no turn from the others.
    """
    started = walks.join(charges, charges.c.walk_id == walks.c.id)
    queue = select(walks.c.tag, walks.c.frames).select_from(started).order_by(walks.c.tag, walks.c.number)
    theirs = queue.where(charges.c.network == network, walks.c.state.in_(OPEN), walks.c.model == model)
    turn = now * TURNS_OF_NETWORK
    for tag, frames in await connection.execute(theirs):
        if tag > -(-turn // TURNS_OF_NETWORK):
            break
        turn += frames
    return -(-turn // TURNS_OF_NETWORK)


async def one_at_a_time(connection: AsyncConnection) -> None:
    """Lock out other new walks until the transaction ends, as quotas and tags are computed from the current ones."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('momalisa door'))"))


async def waiting(connection: AsyncConnection) -> int:
    """The number of waiting walks."""
    return int(await connection.scalar(select(func.count()).where(walks.c.state == State.WAITING)) or 0)
