"""How far walks are: their states, plans, stored frames and warnings. Every change bumps the walk's revision."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, cast, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.engine import insert_into, reading, transaction
from momalisa_api.store.tables import landings, walks
from momalisa_api.store.walk_rows import change_walk, lock_walk, read_walk
from momalisa_api.walks.fingerprints import MIXED
from momalisa_api.walks.forecast import most_pictures
from momalisa_api.walks.rounds import Layout, first_layout
from momalisa_api.walks.walk import ENDED, MOVES, OPEN, State, Walk, WalkStatus


class Progress:
    """Records what workers have done. Everything raises CatalogueUnavailable if the database does not respond."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def move(self, walk_id: str, start: State, to: State, *, of_plan: int | None = None, **changes: Any) -> bool:
        """Move a walk from one state to another if it is still in the first (compare and set).

        of_plan: only while this is the current plan, so that work on an old plan cannot change a restarted walk.
        changes: further columns to set. Returns whether the walk moved. Raises ValueError for an impossible move.
        """
        if to not in MOVES[start]:
            raise ValueError(f"a walk cannot move from {start} to {to}")
        if to in ENDED:
            changes["finished_at"] = datetime.now(UTC)
        condition = walks.c.state == start
        if of_plan is not None:
            condition &= walks.c.plans == of_plan
        return await change_walk(self._engine, walk_id, condition, state=to, **changes)

    async def plan(self, walk: Walk, layout: Layout, stored: Iterable[int], shards: Iterable[Sequence[int]]) -> bool:
        """Record a walk's next round: which of its points are stored, and how the others are split into shards.

        stored, shards: numbers of the layout's points. Returns False, and changes nothing, if the walk has another plan
        by now, or has ended.
        """
        rows = [{"walk_id": walk.id, "frame": number, "plan": walk.plans + 1} for number in stored]
        same = update(walks).where(walks.c.id == walk.id, walks.c.plans == walk.plans, walks.c.state.in_(OPEN))
        later = {"plans": walks.c.plans + 1, "revision": walks.c.revision + 1}
        plan = {
            # The spec says it already: a clip has hundreds of points, and a walk is read with each event.
            "layout": None if layout == first_layout(walk.spec) else layout.model_dump(mode="json"),
            "plan": [list(shard) for shard in shards],
            "frames": most_pictures(walk.spec, layout.growth, layout.rescued),
        }
        async with transaction(self._engine) as connection:
            if (await connection.execute(same.values(**plan, **later))).rowcount != 1:
                return False
            await connection.execute(delete(landings).where(landings.c.walk_id == walk.id))
            if rows:
                await connection.execute(insert_into(self._engine, landings).values(rows))
        return True

    async def discard_plan(self, walk: Walk) -> bool:
        """Have a walk planned again, after stored frames were lost. Returns False if the walk changed meanwhile."""
        unplanned = {"plan": None, "plans": walks.c.plans + 1}
        return await self.move(walk.id, State.FILMING, State.WAITING, of_plan=walk.plans, **unplanned)

    async def note_stored(self, walk: Walk, numbers: Iterable[int]) -> None:
        """Record points of a walk's plan whose frames are stored now; recorded ones change nothing.

        A walk that makes progress does not kill its workers, so its tries are reset. If the walk has another plan by
        now, nothing is recorded: the numbers have another meaning there, and the bucket was read for it.
        """
        rows = [{"walk_id": walk.id, "frame": number, "plan": walk.plans} for number in numbers]
        if not rows:
            return
        same = update(walks).where(walks.c.id == walk.id, walks.c.plans == walk.plans)
        async with transaction(self._engine) as connection:
            # Lock the walk's row first, so that the plan cannot change meanwhile.
            if not (await connection.execute(same.values(frames=walks.c.frames))).rowcount:
                return
            noted = await connection.execute(insert_into(self._engine, landings).values(rows).on_conflict_do_nothing())
            if noted.rowcount:
                await connection.execute(same.values(revision=walks.c.revision + 1, tries=0))

    async def mark(self, walk_id: str, why: str) -> None:
        """Hide a walk from the gallery for good, with a warning that says why. Raises WalkNotFound."""
        await self.warn(walk_id, [why], hidden=True)

    async def warn(self, walk_id: str, warnings: Sequence[str], **changes: Any) -> None:
        """Add warnings to a walk, each once. changes: further columns to set with them. Raises WalkNotFound."""
        while True:
            walk = await read_walk(self._engine, walk_id)
            fresh = [warning for warning in warnings if warning not in walk.warnings]
            unchanged = walks.c.revision == walk.revision
            # If the walk changed meanwhile, as it does with each stored frame, try again.
            if not fresh or await change_walk(
                self._engine, walk_id, unchanged, warnings=[*walk.warnings, *fresh], **changes
            ):
                return

    async def has_extras(self, walk_id: str, names: Sequence[str]) -> None:
        """Record the files that a walk's recipe has beside frames; recorded ones change nothing."""
        unknown = cast(walks.c.extras, Text) == "[]"
        await change_walk(self._engine, walk_id, unknown, extras=list(names))

    async def keep_to(self, walk_id: str, fingerprint: str) -> str:
        """Have a walk keep to a fingerprint, if it keeps to none yet. Returns the one that it keeps to."""
        none = walks.c.id == walk_id, walks.c.fingerprint.is_(None)
        async with transaction(self._engine) as connection:
            await connection.execute(update(walks).where(*none).values(fingerprint=fingerprint))
            kept: str | None = await connection.scalar(select(walks.c.fingerprint).where(walks.c.id == walk_id))
        return fingerprint if kept is None else kept

    async def rendered_by(self, walk: Walk, fingerprint: str) -> None:
        """Record that a replica with this fingerprint renders frames of a walk; recorded ones change nothing.

        The walk keeps to it from now on, if the fingerprint that it should keep to has rendered nothing.
        """
        await self._add_fingerprints(walk, [fingerprint], keep=fingerprint)

    async def reuses(self, walk: Walk, fingerprints: Collection[str]) -> None:
        """Record the fingerprints of stored frames that a walk uses."""
        await self._add_fingerprints(walk, fingerprints)

    async def _add_fingerprints(self, walk: Walk, added: Collection[str], *, keep: str | None = None) -> None:
        """Add to a walk's fingerprints, with a warning once there are several.

        keep: the walk keeps to this one from now on, if the one that it should keep to has rendered nothing.
        """
        if {*added} <= {*walk.fingerprints}:
            return
        same = walks.c.id == walk.id
        async with transaction(self._engine) as connection:
            if not await lock_walk(connection, walk.id):
                return
            query = select(walks.c.fingerprint, walks.c.fingerprints, walks.c.warnings).where(same)
            kept, known, warnings = (await connection.execute(query)).one()
            now = [*known, *sorted({*added} - {*known})]
            if now == known:
                return
            changes = {
                "fingerprint": kept if keep is None or kept in known else keep,
                "fingerprints": now,
                "warnings": [*warnings, MIXED] if len(now) > 1 and MIXED not in warnings else warnings,
            }
            await connection.execute(update(walks).where(same).values(**changes, revision=walks.c.revision + 1))

    async def frames_by_fingerprint(self, model: str) -> dict[str, int]:
        """The number of frames of all unfinished walks of a model that keep to each fingerprint."""
        query = select(walks.c.fingerprint, func.sum(walks.c.frames)).group_by(walks.c.fingerprint)
        kept = walks.c.state.in_(OPEN) & walks.c.fingerprint.is_not(None) & (walks.c.model == model)
        async with reading(self._engine) as connection:
            return {row[0]: int(row[1]) for row in await connection.execute(query.where(kept))}

    async def statuses(self, walk_ids: Iterable[str]) -> dict[str, WalkStatus]:
        """The status of each of these walks that exists, in a state that this release knows."""
        query = select(walks.c.id, walks.c.state, walks.c.plan.is_not(None).label("planned"), walks.c.plans)
        async with reading(self._engine) as connection:
            known = walks.c.id.in_(list(walk_ids)) & walks.c.state.in_(State)
            found = await connection.execute(query.where(known))
            return {row.id: WalkStatus(State(row.state), bool(row.planned), row.plans) for row in found}
