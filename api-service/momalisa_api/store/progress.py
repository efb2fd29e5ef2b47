"""How far walks are: their states, plans, stored frames and warnings. Every change bumps the walk's revision."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import landings, walks
from momalisa_api.store.walk_rows import change_walk, insert_into, read_walk
from momalisa_api.walks.rounds import Layout
from momalisa_api.walks.walk import MOVES, OPEN, Standing, State, Walk


class Progress:
    """Notes what workers have done. Everything raises CatalogueUnavailable where the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

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
        return await change_walk(self._engine, walk_id, condition, state=to, **changes)

    async def plan(self, walk: Walk, layout: Layout, stored: Iterable[int], shards: Iterable[Sequence[int]]) -> bool:
        """Note a walk's next round: which of its points the bucket holds, and how the others are dealt into shards.

        stored and shards hold numbers of the layout's points. Returns False, and changes nothing, where the walk has
        another plan than it is given with, or has ended.
        """
        rows = [{"walk_id": walk.id, "frame": number, "plan": walk.plans + 1} for number in stored]
        same = update(walks).where(walks.c.id == walk.id, walks.c.plans == walk.plans, walks.c.state.in_(OPEN))
        later = {"plans": walks.c.plans + 1, "revision": walks.c.revision + 1}
        plan = {"layout": layout.model_dump(mode="json"), "plan": [list(shard) for shard in shards]}
        async with transaction(self._engine) as connection:
            if (await connection.execute(same.values(**plan, **later))).rowcount != 1:
                return False
            await connection.execute(delete(landings).where(landings.c.walk_id == walk.id))
            if rows:
                await connection.execute(insert_into(self._engine, landings).values(rows))
        return True

    async def plan_anew(self, walk: Walk) -> bool:
        """Have a walk planned again where frames that had landed are gone. Returns whether it was as it is given."""
        anew = {"plan": None, "plans": walks.c.plans + 1}
        return await self.move(walk.id, State.FILMING, State.WAITING, of_plan=walk.plans, **anew)

    async def note_stored(self, walk: Walk, numbers: Iterable[int]) -> None:
        """Note points of a walk's plan whose frames lie in the bucket now; those noted already change nothing.

        A walk that gets on is none that kills its workers: its tries begin anew. In another plan the numbers mean
        others, so nothing is noted there: that plan was made from what the bucket holds.
        """
        rows = [{"walk_id": walk.id, "frame": number, "plan": walk.plans} for number in numbers]
        if not rows:
            return
        same = update(walks).where(walks.c.id == walk.id, walks.c.plans == walk.plans)
        async with transaction(self._engine) as connection:
            # First the walk's row, whose lock keeps another plan away until this is noted.
            if not (await connection.execute(same.values(frames=walks.c.frames))).rowcount:
                return
            noted = await connection.execute(insert_into(self._engine, landings).values(rows).on_conflict_do_nothing())
            if noted.rowcount:
                await connection.execute(same.values(revision=walks.c.revision + 1, tries=0))

    async def mark(self, walk_id: str, why: str) -> None:
        """Take a walk off the wall, and tell it why, once; no ask lists it again. Raises WalkNotFound."""
        await self.warn(walk_id, [why], hidden=True)

    async def warn(self, walk_id: str, warnings: Sequence[str], **changes: Any) -> None:
        """Note what the visitor should know of this walk, each thing once. changes: columns to set with the first."""
        while True:
            walk = await read_walk(self._engine, walk_id)
            fresh = [warning for warning in warnings if warning not in walk.warnings]
            unchanged = walks.c.revision == walk.revision
            # Where the walk has changed meanwhile, as it does with each frame that lands: once more.
            if not fresh or await change_walk(
                self._engine, walk_id, unchanged, warnings=[*walk.warnings, *fresh], **changes
            ):
                return

    async def standings(self, walk_ids: Iterable[str]) -> dict[str, Standing]:
        """How each of some walks stands, of those that there are."""
        query = select(walks.c.id, walks.c.state, walks.c.plan.is_not(None).label("planned"), walks.c.plans)
        async with transaction(self._engine) as connection:
            found = await connection.execute(query.where(walks.c.id.in_(list(walk_ids))))
            return {row.id: Standing(State(row.state), bool(row.planned), row.plans) for row in found}
