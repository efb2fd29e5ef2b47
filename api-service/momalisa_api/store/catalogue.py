"""What walks exist, how far they are, and who asks for them. It lives in a database; the bucket keeps the pictures."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkNotFound
from momalisa_api.store.engine import transaction
from momalisa_api.store.fair_queue import next_tag, one_at_a_time
from momalisa_api.store.tables import asks, walks
from momalisa_api.store.walk_rows import NOT_FOUND, insert_into, lock_walk, read_walk, read_walks
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.walks.walk import MOVES, OPEN, State, Walk

Door = Callable[[AsyncConnection, str, int], Awaitable[None]]


class Catalogue:
    """Walks by id. Every change bumps the walk's revision in the same transaction.

    Everything raises CatalogueUnavailable where the database does not answer.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def request(
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
        again, same = insert_into(self._engine, asks).values(wish), ["walk_id", "owner"]
        if listed is None:
            again = again.on_conflict_do_nothing(index_elements=same)
        else:
            again = again.on_conflict_do_update(index_elements=same, set_={"listed": listed})
        async with transaction(self._engine) as connection:
            known = await lock_walk(connection, spec.id)
            if not known:
                await one_at_a_time(connection)
                known = await lock_walk(connection, spec.id)
            if not known:
                if door:
                    await door(connection, owner, spec.frames)
                tag = await next_tag(connection, owner)
                await connection.execute(insert_into(self._engine, walks).values({**row, "tag": tag}))
            await connection.execute(again)
            [walk] = await read_walks(connection, select(walks).where(walks.c.id == spec.id))
        return walk, not known

    async def withdraw(self, walk_id: str, owner: str) -> int:
        """Take back an owner's ask, and cancel the walk where nobody else asks and it has not ended.

        Returns how many others still ask. Raises WalkNotFound.
        """
        others = select(asks.c.walk_id).where(asks.c.walk_id == walk_id)
        async with transaction(self._engine) as connection:
            # Whoever asks for it meanwhile waits for this, or this for them.
            if not await lock_walk(connection, walk_id):
                raise WalkNotFound(NOT_FOUND)
            await connection.execute(delete(asks).where(asks.c.walk_id == walk_id, asks.c.owner == owner))
            nobody = update(walks).where(walks.c.id == walk_id, walks.c.state.in_(OPEN), ~others.exists())
            await connection.execute(nobody.values(state=State.CANCELLED, revision=walks.c.revision + 1))
            left = await connection.scalar(select(func.count()).where(asks.c.walk_id == walk_id))
        return int(left or 0)

    async def get(self, walk_id: str) -> Walk:
        """The newest snapshot. Raises WalkNotFound."""
        return await read_walk(self._engine, walk_id)

    async def read(self, walk_ids: Iterable[str]) -> dict[str, Walk]:
        """The newest snapshot of each walk that there is."""
        async with transaction(self._engine) as connection:
            found = await read_walks(connection, select(walks).where(walks.c.id.in_(list(walk_ids))))
        return {walk.id: walk for walk in found}

    async def knows(self, walk_id: str) -> bool:
        """Whether there is such a walk."""
        return bool(await self.revisions([walk_id]))

    async def revisions(self, walk_ids: Iterable[str]) -> dict[str, int]:
        """The revision of each walk that there is: what a poll for many watchers asks."""
        query = select(walks.c.id, walks.c.revision).where(walks.c.id.in_(list(walk_ids)))
        async with transaction(self._engine) as connection:
            return {row.id: row.revision for row in await connection.execute(query)}

    async def open_walks(self) -> list[Walk]:
        """Every walk that has not ended, in the order of their turns."""
        query = select(walks).where(walks.c.state.in_(OPEN)).order_by(walks.c.tag, walks.c.number)
        async with transaction(self._engine) as connection:
            return await read_walks(connection, query)

    async def every_walk(self) -> AsyncIterator[Walk]:
        """All walks, some hundred at a time."""
        last = 0
        while True:
            query = select(walks).where(walks.c.number > last).order_by(walks.c.number).limit(500)
            async with transaction(self._engine) as connection:
                found = await read_walks(connection, query)
            for walk in found:
                yield walk
            if not found:
                return
            last = found[-1].number

    async def start_again(self, walk: Walk, owner: str, *, door: Door | None = None, **changes: Any) -> bool:
        """Put a walk in line again, to be planned from what the bucket holds. Returns whether it was as it is given.

        Raises ValueError for a walk that cannot be, and what `door` raises.
        """
        if State.WAITING not in MOVES[walk.state]:
            raise ValueError(f"no walk moves from {walk.state} to {State.WAITING}")
        anew = {"state": State.WAITING, "plan": None, "plans": walks.c.plans + 1, "tries": 0, "error": None}
        same = update(walks).where(walks.c.id == walk.id, walks.c.state == walk.state, walks.c.plans == walk.plans)
        async with transaction(self._engine) as connection:
            await one_at_a_time(connection)
            if door:
                await door(connection, owner, walk.spec.frames)
            tag = await next_tag(connection, owner)
            started = await connection.execute(same.values(**anew, tag=tag, revision=walks.c.revision + 1, **changes))
        return started.rowcount == 1

    async def remove(self, walk_id: str) -> None:
        """Forget a walk, its landings and its asks."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(walks).where(walks.c.id == walk_id))
