"""The workers of a deployment: which of them has which job, and what they see of the replicas."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import claims, losses, walks, workers

# A worker that was not seen for so long is gone; its row goes with the next report.
GONE_AFTER = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workers see of the replicas. shard_s: seconds that a shard takes of late; None before the first."""

    awake: int
    shard_s: float | None


class Roster:
    """Who works on what. It counts, per walk, the workers that were lost over it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._insert = postgres_insert if engine.dialect.name == "postgresql" else sqlite_insert

    async def claim(self, job: str, walk_id: str, worker: str) -> bool:
        """Note that a worker has a job. Returns whether it takes over from one that was lost."""
        mine = {"job": job, "walk_id": walk_id, "worker": worker}
        async with transaction(self._engine) as connection:
            before: str | None = await connection.scalar(select(claims.c.worker).where(claims.c.job == job))
            taken_over = before not in (None, worker)
            if before and taken_over:
                await self._lose(connection, walk_id, before)
            claim = self._insert(claims).values(mine)
            await connection.execute(claim.on_conflict_do_update(index_elements=["job"], set_={"worker": worker}))
        return taken_over

    async def _lose(self, connection: AsyncConnection, walk_id: str, worker: str) -> None:
        """Count a lost worker as one try at a walk, once: however many shards of it the worker had.

        One that is only slow claims more of them while others take them over, and is still one worker.
        """
        await connection.execute(delete(claims).where(claims.c.walk_id == walk_id, claims.c.worker == worker))
        loss = self._insert(losses).values(walk_id=walk_id, worker=worker).on_conflict_do_nothing()
        if (await connection.execute(loss)).rowcount:
            tried = update(walks).where(walks.c.id == walk_id)
            await connection.execute(tried.values(tries=walks.c.tries + 1, revision=walks.c.revision + 1))

    async def release(self, job: str, worker: str) -> None:
        """Note that a worker is through with a job, or gives it back. Another's claim stays."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(claims).where(claims.c.job == job, claims.c.worker == worker))

    async def report(self, worker: str, fleet: Fleet) -> None:
        """Note that a worker is there, and what it sees."""
        now = datetime.now(UTC)
        row = {"replicas_awake": fleet.awake, "shard_s": fleet.shard_s, "seen_at": now}
        async with transaction(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.seen_at < now - GONE_AFTER))
            seen = self._insert(workers).values({"id": worker, **row})
            await connection.execute(seen.on_conflict_do_update(index_elements=["id"], set_=row))
            await self._take_back_losses(connection, worker)

    async def _take_back_losses(self, connection: AsyncConnection, worker: str) -> None:
        """Who reports was not lost but silent: frozen, or cut off from the catalogue. That is no try at a walk."""
        found = await connection.scalars(delete(losses).where(losses.c.worker == worker).returning(losses.c.walk_id))
        if over := found.all():
            tried = update(walks).where(walks.c.id.in_(over), walks.c.tries > 0)
            await connection.execute(tried.values(tries=walks.c.tries - 1, revision=walks.c.revision + 1))

    async def leave(self, worker: str) -> None:
        """Note that a worker has gone home."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.id == worker))

    async def fleet(self) -> Fleet:
        """What the workers that are there see of the replicas. Each sees all of them."""
        seen = workers.c.seen_at >= datetime.now(UTC) - GONE_AFTER
        query = select(func.coalesce(func.max(workers.c.replicas_awake), 0), func.avg(workers.c.shard_s)).where(seen)
        async with transaction(self._engine) as connection:
            awake, shard_s = (await connection.execute(query)).one()
        return Fleet(int(awake), None if shard_s is None else float(shard_s))
