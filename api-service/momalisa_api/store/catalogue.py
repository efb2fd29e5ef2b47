"""What walks exist, how far they are, and who asks for them. It lives in a database; the bucket keeps the pictures."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, Select, and_, delete, func, select, true, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkUnknown
from momalisa_api.store.engine import transaction
from momalisa_api.store.fair_queue import next_tag, one_at_a_time
from momalisa_api.store.tables import asks, landings, walks
from momalisa_api.walks.rounds import Layout, first_layout
from momalisa_api.walks.smoothness import Smoothness
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import MOVES, OPEN, Standing, State, Walk

FEW: Final = 1000
UNKNOWN: Final = "No walk has this id. Ask for it with POST /api/v1/walks."

Door = Callable[[AsyncConnection, str, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Page:
    walks: tuple[Walk, ...]
    next_cursor: int | None


class Catalogue:
    """Walks by id. Every change bumps the walk's revision in the same transaction.

    Everything raises CatalogueUnavailable where the database does not answer.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # ON CONFLICT is one feature under two names.
        self._insert = postgres_insert if engine.dialect.name == "postgresql" else sqlite_insert

    async def ask(
        self,
        spec: WalkSpec,
        owner: str,
        *,
        listed: bool | None = True,
        warnings: Sequence[str] = (),
        door: Door | None = None,
    ) -> tuple[Walk, bool]:
        """Note that an owner asks for a walk. Returns the walk, and whether it is new here.

        Of many who ask at once one makes the walk; asking again changes nothing but `listed`, and that not for None.
        door: is asked first whether a new walk may come in, and raises where it may not.
        """
        now = datetime.now(UTC)
        row = {
            "id": spec.id,
            "spec": spec.model_dump(mode="json"),
            "stops": "\n".join(spec.stops).casefold(),
            "frames": spec.frames,
            "state": State.WAITING,
            "revision": 1,
            "tries": 0,
            "plans": 0,
            "films": [],
            "warnings": list(warnings),
            "hidden": False,
            "created_at": now,
        }
        wish = {"walk_id": spec.id, "owner": owner, "listed": listed is not False, "asked_at": now}
        again, same = self._insert(asks).values(wish), ["walk_id", "owner"]
        if listed is None:
            again = again.on_conflict_do_nothing(index_elements=same)
        else:
            again = again.on_conflict_do_update(index_elements=same, set_={"listed": listed})
        async with self._transaction() as connection:
            known = await self._touch(connection, spec.id)
            if not known:
                await one_at_a_time(connection)
                known = await self._touch(connection, spec.id)
            if not known:
                if door:
                    await door(connection, owner, spec.frames)
                tag = await next_tag(connection, owner)
                await connection.execute(self._insert(walks).values({**row, "tag": tag}))
            await connection.execute(again)
            [walk] = await self._read(connection, select(walks).where(walks.c.id == spec.id))
        return walk, not known

    async def withdraw(self, walk_id: str, owner: str) -> int:
        """Take back an owner's ask, and cancel the walk where nobody else asks and it has not ended.

        Returns how many others still ask. Raises WalkUnknown.
        """
        others = select(asks.c.walk_id).where(asks.c.walk_id == walk_id)
        async with self._transaction() as connection:
            # Whoever asks for it meanwhile waits for this, or this for them.
            if not await self._touch(connection, walk_id):
                raise WalkUnknown(UNKNOWN)
            await connection.execute(delete(asks).where(asks.c.walk_id == walk_id, asks.c.owner == owner))
            nobody = update(walks).where(walks.c.id == walk_id, walks.c.state.in_(OPEN), ~others.exists())
            await connection.execute(nobody.values(state=State.CANCELLED, revision=walks.c.revision + 1))
            left = await connection.scalar(select(func.count()).where(asks.c.walk_id == walk_id))
        return int(left or 0)

    async def asked(self, walk_id: str, owner: str) -> bool | None:
        """Whether an owner asks for a walk listed; None for one who does not ask for it."""
        return await self._ask_of(walk_id, owner, select(asks.c.listed))

    async def set_listed(self, walk_id: str, owner: str, listed: bool) -> bool | None:
        """Set whether an owner asks for a walk listed. Returns that, or None for one who does not ask for it."""
        return await self._ask_of(walk_id, owner, update(asks).values(listed=listed).returning(asks.c.listed))

    async def on_wall(self, walk_id: str) -> Walk | None:
        """A walk that hangs on the wall: somebody asks for it listed, and it was not taken off."""
        listed = select(asks.c.walk_id).where(asks.c.walk_id == walk_id, asks.c.listed)
        query = select(walks).where(walks.c.id == walk_id, walks.c.hidden.is_(False), listed.exists())
        async with self._transaction() as connection:
            found = await self._read(connection, query)
        return found[0] if found else None

    async def get(self, walk_id: str) -> Walk:
        """The newest snapshot. Raises WalkUnknown."""
        async with self._transaction() as connection:
            found = await self._read(connection, select(walks).where(walks.c.id == walk_id))
        if not found:
            raise WalkUnknown(UNKNOWN)
        return found[0]

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
        async with self._transaction() as connection:
            found = await self._read(connection, query)
        return Page(tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None)

    async def hide(self, walk_id: str) -> None:
        """Take a walk off the wall. Raises WalkUnknown."""
        await self.get(walk_id)
        await self._change(walk_id, true(), hidden=True)

    async def mark(self, walk_id: str, why: str) -> None:
        """Take a walk off the wall, and tell it why, once; no ask lists it again. Raises WalkUnknown."""
        await self.warn(walk_id, [why], hidden=True)

    async def remove(self, walk_id: str) -> None:
        """Forget a walk, its landings and its asks."""
        async with self._transaction() as connection:
            await connection.execute(delete(walks).where(walks.c.id == walk_id))

    async def every_walk(self) -> AsyncIterator[Walk]:
        """All walks, some hundred at a time."""
        last = 0
        while True:
            query = select(walks).where(walks.c.number > last).order_by(walks.c.number).limit(500)
            async with self._transaction() as connection:
                found = await self._read(connection, query)
            for walk in found:
                yield walk
            if not found:
                return
            last = found[-1].number

    async def open_walks(self) -> list[Walk]:
        """Every walk that has not ended, in the order of their turns."""
        query = select(walks).where(walks.c.state.in_(OPEN)).order_by(walks.c.tag, walks.c.number)
        async with self._transaction() as connection:
            return await self._read(connection, query)

    async def read(self, walk_ids: Iterable[str]) -> dict[str, Walk]:
        """The newest snapshot of each walk that there is."""
        async with self._transaction() as connection:
            found = await self._read(connection, select(walks).where(walks.c.id.in_(list(walk_ids))))
        return {walk.id: walk for walk in found}

    async def knows(self, walk_id: str) -> bool:
        """Whether there is such a walk."""
        return bool(await self.revisions([walk_id]))

    async def move(self, walk_id: str, start: State, to: State, *, of_plan: int | None = None, **changes: Any) -> bool:
        """Move a walk from one state to another, if it still is in the first: compare-and-set.

        of_plan: only while this is its plan; whoever works on an older one must not touch what has begun anew.
        changes: columns to set with it. Raises ValueError for a move that no walk can make.
        """
        if to not in MOVES[start]:
            raise ValueError(f"no walk moves from {start} to {to}")
        condition = walks.c.state == start
        if of_plan is not None:
            condition &= walks.c.plans == of_plan
        return await self._change(walk_id, condition, state=to, **changes)

    async def plan(self, walk: Walk, layout: Layout, landed: Iterable[int], shards: Iterable[Sequence[int]]) -> bool:
        """Note a walk's next round: which of its points the bucket holds, and how the others are dealt into shards.

        landed and shards hold numbers of the layout's points. Returns False, and changes nothing, where the walk has
        another plan than it is given with, or has ended.
        """
        rows = [{"walk_id": walk.id, "frame": number, "plan": walk.plans + 1} for number in landed]
        same = update(walks).where(walks.c.id == walk.id, walks.c.plans == walk.plans, walks.c.state.in_(OPEN))
        later = {"plans": walks.c.plans + 1, "revision": walks.c.revision + 1}
        plan = {"layout": layout.model_dump(mode="json"), "plan": [list(shard) for shard in shards]}
        async with self._transaction() as connection:
            if (await connection.execute(same.values(**plan, **later))).rowcount != 1:
                return False
            await connection.execute(delete(landings).where(landings.c.walk_id == walk.id))
            if rows:
                await connection.execute(self._insert(landings).values(rows))
        return True

    async def start_again(self, walk: Walk, owner: str, *, door: Door | None = None, **changes: Any) -> bool:
        """Put a walk in line again, to be planned from what the bucket holds. Returns whether it was as it is given.

        Raises ValueError for a walk that cannot be, and what `door` raises.
        """
        if State.WAITING not in MOVES[walk.state]:
            raise ValueError(f"no walk moves from {walk.state} to {State.WAITING}")
        anew = {"state": State.WAITING, "plan": None, "plans": walks.c.plans + 1, "tries": 0, "error": None}
        same = update(walks).where(walks.c.id == walk.id, walks.c.state == walk.state, walks.c.plans == walk.plans)
        async with self._transaction() as connection:
            await one_at_a_time(connection)
            if door:
                await door(connection, owner, walk.spec.frames)
            tag = await next_tag(connection, owner)
            started = await connection.execute(same.values(**anew, tag=tag, revision=walks.c.revision + 1, **changes))
        return started.rowcount == 1

    async def plan_anew(self, walk: Walk) -> bool:
        """Have a walk planned again where frames that had landed are gone. Returns whether it was as it is given."""
        anew = {"plan": None, "plans": walks.c.plans + 1}
        return await self.move(walk.id, State.FILMING, State.WAITING, of_plan=walk.plans, **anew)

    async def land(self, walk: Walk, numbers: Iterable[int]) -> None:
        """Note points of a walk's plan whose frames lie in the bucket now; those noted already change nothing.

        A walk that gets on is none that kills its workers: its tries begin anew. In another plan the numbers mean
        others, so nothing is noted there: that plan was made from what the bucket holds.
        """
        rows = [{"walk_id": walk.id, "frame": number, "plan": walk.plans} for number in numbers]
        if not rows:
            return
        same = update(walks).where(walks.c.id == walk.id, walks.c.plans == walk.plans)
        async with self._transaction() as connection:
            # First the walk's row, whose lock keeps another plan away until this is noted.
            if not (await connection.execute(same.values(frames=walks.c.frames))).rowcount:
                return
            noted = await connection.execute(self._insert(landings).values(rows).on_conflict_do_nothing())
            if noted.rowcount:
                await connection.execute(same.values(revision=walks.c.revision + 1, tries=0))

    async def warn(self, walk_id: str, warnings: Sequence[str], **changes: Any) -> None:
        """Note what the visitor should know of this walk, each thing once. changes: columns to set with the first."""
        while True:
            walk = await self.get(walk_id)
            fresh = [warning for warning in warnings if warning not in walk.warnings]
            unchanged = walks.c.revision == walk.revision
            # Where the walk has changed meanwhile, as it does with each frame that lands: once more.
            if not fresh or await self._change(walk_id, unchanged, warnings=[*walk.warnings, *fresh], **changes):
                return

    async def standings(self, walk_ids: Iterable[str]) -> dict[str, Standing]:
        """How each of some walks stands, of those that there are."""
        query = select(walks.c.id, walks.c.state, walks.c.plan.is_not(None).label("planned"), walks.c.plans)
        async with self._transaction() as connection:
            found = await connection.execute(query.where(walks.c.id.in_(list(walk_ids))))
            return {row.id: Standing(State(row.state), bool(row.planned), row.plans) for row in found}

    async def revisions(self, walk_ids: Iterable[str]) -> dict[str, int]:
        """The revision of each walk that there is: what a poll for many watchers asks."""
        query = select(walks.c.id, walks.c.revision).where(walks.c.id.in_(list(walk_ids)))
        async with self._transaction() as connection:
            return {row.id: row.revision for row in await connection.execute(query)}

    async def _ask_of(self, walk_id: str, owner: str, statement: Any) -> bool | None:
        async with self._transaction() as connection:
            found = await connection.scalar(statement.where(asks.c.walk_id == walk_id, asks.c.owner == owner))
        return None if found is None else bool(found)

    async def _touch(self, connection: AsyncConnection, walk_id: str) -> bool:
        """Lock a walk's row until the transaction ends. Returns whether there is one."""
        same = update(walks).where(walks.c.id == walk_id).values(frames=walks.c.frames)
        return (await connection.execute(same)).rowcount == 1

    async def _has_few(self, owner: str) -> bool:
        """Whether an owner's walks are soonest found by the asks, and not among all walks: SQLite cannot tell."""
        some = select(asks.c.walk_id).where(asks.c.owner == owner).limit(FEW).subquery()
        async with self._transaction() as connection:
            return int(await connection.scalar(select(func.count()).select_from(some)) or 0) < FEW

    def _transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return transaction(self._engine)

    async def _change(self, walk_id: str, condition: Any, **columns: Any) -> bool:
        query = update(walks).where(walks.c.id == walk_id, condition)
        async with self._transaction() as connection:
            changed = await connection.execute(query.values(revision=walks.c.revision + 1, **columns))
        return changed.rowcount == 1

    async def _read(self, connection: AsyncConnection, query: Select[Any]) -> list[Walk]:
        """Walks with the frames that have landed, in two queries however many there are."""
        while True:
            rows = (await connection.execute(query)).all()
            # A finished walk has all its frames: a gallery page asks for no single one.
            plans = {row.id: row.plans for row in rows if row.state != State.DONE}
            frames: dict[str, set[int]] = {walk_id: set() for walk_id in plans}
            landed = (
                list(await connection.execute(select(landings).where(landings.c.walk_id.in_(plans)))) if plans else []
            )
            for landing in landed:
                if landing.plan == plans[landing.walk_id]:
                    frames[landing.walk_id].add(landing.frame)
            # Planned again between the two queries: its newest landings are of a plan that was not read.
            if all(landing.plan <= plans[landing.walk_id] for landing in landed):
                return [_walk(row, frames.get(row.id)) for row in rows]


def _walk(row: Row[Any], landed: set[int] | None) -> Walk:
    spec = WalkSpec.model_validate(row.spec)
    return Walk(
        id=row.id,
        number=row.number,
        spec=spec,
        state=State(row.state),
        revision=row.revision,
        tries=row.tries,
        tag=row.tag,
        layout=Layout.model_validate(row.layout) if row.layout else first_layout(spec),
        plan=None if row.plan is None else tuple(map(tuple, row.plan)),
        plans=row.plans,
        landed=frozenset(range(spec.frames) if landed is None else landed),
        films=frozenset(row.films),
        warnings=tuple(row.warnings),
        smoothness=row.smoothness and Smoothness.model_validate(row.smoothness),
        error=row.error,
        created_at=row.created_at.replace(tzinfo=UTC),
    )
