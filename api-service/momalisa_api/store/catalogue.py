"""The catalogue: which walks exist and who requested them. The bucket has their pictures."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import anyio
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkNotFound
from momalisa_api.store.charges import account_of, charge, delete_old_charges, release
from momalisa_api.store.engine import insert_into, reading, transaction
from momalisa_api.store.fair_queue import next_tag, one_at_a_time
from momalisa_api.store.owners import ANONYMOUS
from momalisa_api.store.tables import asks, walks
from momalisa_api.store.uses import keys_of_clips, keys_of_pictures, use_uploads
from momalisa_api.store.walk_rows import NOT_FOUND, count_unreadable, lock_walk, read_walk, read_walks, searchable
from momalisa_api.walks.forecast import most_pictures
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import MOVES, OPEN, State, Walk

# Walks that are in memory at a time, where there may be many.
BATCH: Final = 500
# Each of these can have hundreds of stored frames, and the event loop waits while they are put together.
OPEN_BATCH: Final = 10

Admission = Callable[[AsyncConnection], Awaitable[None]]


class Catalogue:
    """Walks by id. Every change increases the walk's revision in the same transaction.

    Everything raises CatalogueUnavailable if the database does not respond.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # New walks wait here for those of this process, and not with a connection each for the lock in the database:
        # they would take all connections from those who only look.
        self._door = anyio.Lock()

    async def request(
        self,
        spec: WalkSpec,
        owner: str,
        *,
        network: str | None = None,
        listed: bool | None = True,
        warnings: Sequence[str] = (),
        admission: Admission | None = None,
    ) -> tuple[Walk, bool]:
        """Record an owner's request for a walk. Returns the walk, and whether it is new.

        Of concurrent requests one creates the walk. A repeated request only changes `listed`, unless that is None, or
        the owner is the one that all anonymous callers share: one of them must not change the request of another.
        A walk that this release cannot read is replaced.
        network: which a new walk is charged to beside the owner, if the limits of a network apply.
        admission: checks whether a new walk is allowed, and raises if not. Raises Invalid if the owner has not all of
        its pictures and clips.
        """
        now, frames = datetime.now(UTC), most_pictures(spec)
        request = {"walk_id": spec.id, "owner": owner, "listed": listed is not False, "asked_at": now}
        again, same = insert_into(self._engine, asks).values(request), ["walk_id", "owner"]
        if listed is None or owner == ANONYMOUS:
            again = again.on_conflict_do_nothing(index_elements=same)
        else:
            again = again.on_conflict_do_update(index_elements=same, set_={"listed": listed})

        async def join(connection: AsyncConnection) -> Walk:
            pictures = {found.picture for found in spec.pictures}
            await use_uploads(connection, spec.id, owner, pictures=pictures, clips=set(spec.clips))
            await connection.execute(again)
            [walk] = await read_walks(connection, select(walks).where(walks.c.id == spec.id))
            return walk

        async with transaction(self._engine) as connection:
            if await self._lock_readable(connection, spec.id):
                return await join(connection), False
        async with self._door, transaction(self._engine) as connection:
            await one_at_a_time(connection)
            if await self._lock_readable(connection, spec.id):
                return await join(connection), False
            if admission:
                await admission(connection)
            account = account_of(owner, network)
            tag = await next_tag(connection, account, network, spec.model)
            row = _new_row(spec, now) | {"frames": frames, "tag": tag, "warnings": list(warnings)}
            await connection.execute(delete(walks).where(walks.c.id == spec.id))
            await connection.execute(insert_into(self._engine, walks).values(row))
            await charge(connection, spec.id, account, network, frames)
            return await join(connection), True

    async def _lock_readable(self, connection: AsyncConnection, walk_id: str) -> bool:
        """Lock a walk's row until the transaction ends. Returns whether there is one that this release can read."""
        locked = await lock_walk(connection, walk_id)
        return locked and bool(await read_walks(connection, select(walks).where(walks.c.id == walk_id)))

    async def withdraw(self, walk_id: str, owner: str) -> int:
        """Withdraw an owner's request, and cancel an unfinished walk that has no other request.

        Returns the number of other requests. Raises WalkNotFound.
        """
        others = select(asks.c.walk_id).where(asks.c.walk_id == walk_id)
        async with transaction(self._engine) as connection:
            # The lock orders this against concurrent requests for the walk.
            if not await lock_walk(connection, walk_id):
                raise WalkNotFound(NOT_FOUND)
            await connection.execute(delete(asks).where(asks.c.walk_id == walk_id, asks.c.owner == owner))
            cancelled = {"state": State.CANCELLED, "finished_at": datetime.now(UTC)}
            abandoned = update(walks).where(walks.c.id == walk_id, walks.c.state.in_(OPEN), ~others.exists())
            await connection.execute(abandoned.values(**cancelled, revision=walks.c.revision + 1))
            left = await connection.scalar(select(func.count()).where(asks.c.walk_id == walk_id))
        return int(left or 0)

    async def get(self, walk_id: str) -> Walk:
        """The newest snapshot. Raises WalkNotFound, and Gone for a walk that this release cannot read."""
        return await read_walk(self._engine, walk_id)

    async def read(self, walk_ids: Iterable[str]) -> dict[str, Walk]:
        """The newest snapshot of each of these walks that exists."""
        async with reading(self._engine) as connection:
            found = await read_walks(connection, select(walks).where(walks.c.id.in_(list(walk_ids))))
        return {walk.id: walk for walk in found}

    async def knows(self, walk_id: str) -> bool:
        """Whether the walk exists."""
        return bool(await self.revisions([walk_id]))

    async def revisions(self, walk_ids: Iterable[str]) -> dict[str, int]:
        """The revision of each of these walks that exists: the query of the poll for all watchers."""
        query = select(walks.c.id, walks.c.revision).where(walks.c.id.in_(list(walk_ids)))
        async with reading(self._engine) as connection:
            return {row.id: row.revision for row in await connection.execute(query)}

    async def open_walks(self) -> AsyncIterator[Walk]:
        """All walks that are unfinished now, in the order of the fair queue; read in small batches."""
        query = select(walks.c.id).where(walks.c.state.in_(OPEN)).order_by(walks.c.tag, walks.c.number)
        async with reading(self._engine) as connection:
            ids = (await connection.scalars(query)).all()
        for first in range(0, len(ids), OPEN_BATCH):
            batch = ids[first : first + OPEN_BATCH]
            found = await self.read(batch)
            for walk_id in batch:
                if walk_id in found:
                    yield found[walk_id]

    async def count_open(self, model: str) -> int:
        """The number of unfinished walks of a model."""
        query = select(func.count()).where(walks.c.state.in_(OPEN), walks.c.model == model)
        async with reading(self._engine) as connection:
            return int(await connection.scalar(query) or 0)

    async def walks_along(self, legs: Iterable[tuple[str, ...]], scope: str | None = None) -> AsyncIterator[Walk]:
        """All walks of a scope that may have one of these legs, given by their prompts; read in batches.

        The index of the gallery's search finds public ones. Some of them have prompts that only look alike.
        """
        along = walks.c.scope == scope
        if scope is None:
            along &= or_(*(walks.c.stops.contains(_searchable(leg), autoescape=True) for leg in legs))
        async with transaction(self._engine) as connection:
            ids = (await connection.scalars(select(walks.c.id).where(along))).all()
        for first in range(0, len(ids), BATCH):
            for walk in (await self.read(ids[first : first + BATCH])).values():
                yield walk

    async def keys_of_pictures(self, walk_id: str) -> dict[str, str]:
        """The key in the bucket of each picture that a walk uses, by the picture's id."""
        async with transaction(self._engine) as connection:
            return await keys_of_pictures(connection, walk_id)

    async def keys_of_clips(self, walk_id: str) -> dict[str, str]:
        """The key in the bucket of each clip that a walk uses, by the clip's id."""
        async with transaction(self._engine) as connection:
            return await keys_of_clips(connection, walk_id)

    async def count_unreadable(self) -> int:
        """How many walks in the catalogue this release cannot read, as far as this process has met them."""
        return await count_unreadable(self._engine)

    async def restart(
        self,
        walk: Walk,
        owner: str,
        frames: int,
        *,
        network: str | None = None,
        admission: Admission | None = None,
        **changes: Any,
    ) -> bool:
        """Queue a walk again, to be planned from what the bucket holds. Returns False if the walk changed meanwhile.

        frames: that may be rendered, which the owner and the network are charged for.
        changes: further columns to set. Raises ValueError for a walk that cannot restart, and what `admission` raises.
        """
        if State.WAITING not in MOVES[walk.state]:
            raise ValueError(f"a walk cannot move from {walk.state} to {State.WAITING}")
        reset: dict[str, Any] = {
            "state": State.WAITING,
            "plan": None,
            "plans": walks.c.plans + 1,
            "tries": 0,
            "error": None,
        }
        reset |= {"finished_at": None, "frames_removed": False, "films_removed": False, "extras": []}
        same = update(walks).where(walks.c.id == walk.id, walks.c.state == walk.state, walks.c.plans == walk.plans)
        async with self._door, transaction(self._engine) as connection:
            await one_at_a_time(connection)
            if admission:
                await admission(connection)
            account = account_of(owner, network)
            tag = await next_tag(connection, account, network, walk.spec.model)
            moved = same.values(**reset, tag=tag, revision=walks.c.revision + 1, **changes)
            started = await connection.execute(moved)
            if restarted := started.rowcount == 1:
                # It is open for its new requester alone.
                await release(connection, walk.id)
                await charge(connection, walk.id, account, network, frames)
        return restarted

    async def delete_old_charges(self) -> int:
        """Delete the records of who started which walk that no limit counts any more. Returns their number."""
        async with transaction(self._engine) as connection:
            return await delete_old_charges(connection)

    async def remove(self, walk_id: str) -> None:
        """Delete a walk, its stored-frame records and its requests; its files stay (store/erasures.py)."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(walks).where(walks.c.id == walk_id))


def _new_row(spec: WalkSpec, now: datetime) -> dict[str, Any]:
    """What the row of a new walk has because of its spec, and because it is new."""
    stored, version = spec.to_stored()
    row = {"id": spec.id, "spec": stored, "spec_version": version, "stops": _searchable(spec.search_terms)}
    fresh = {"state": State.WAITING, "revision": 1, "tries": 0, "plans": 0, "films": [], "hidden": False}
    return {**row, **fresh, "created_at": now}


def _searchable(stops: Iterable[str]) -> str:
    """Prompts in their order, as the column `stops` has them."""
    return searchable("\n".join(stops))
