"""The worker registry: which worker has claimed which job, and how many replicas the workers see."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import fmean

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkNotFound
from momalisa_api.store.engine import insert_into, reading, transaction
from momalisa_api.store.tables import claims, losses, walks, workers
from momalisa_api.store.walk_rows import NOT_FOUND

# A worker that has not reported for so long is gone. The next report of any worker removes its row.
GONE_AFTER = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The replicas of a model as workers see them: how many are awake, and the seconds a shard takes.

    shard_s: None before the first shard.
    """

    awake: int = 0
    shard_s: float | None = None


@dataclass(frozen=True, slots=True)
class FleetStatuses:
    """The replicas of all models. awake: how many there are, those that hold several models counted once."""

    awake: int = 0
    models: Mapping[str, FleetStatus] = field(default_factory=dict)
    # What workers of the last release see, while there are no others: they serve one model, and do not name it.
    unnamed: FleetStatus = FleetStatus()

    def of(self, model: str) -> FleetStatus:
        """The replicas of one model."""
        return self.models.get(model, self.unnamed)


class WorkerRegistry:
    """Workers and their claims on jobs. Counts per walk how many workers were lost. Raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, job: str, walk_id: str, worker: str) -> bool:
        """Record that a worker does a job. Returns whether it takes the job over from a lost worker.

        Raises WalkNotFound for a walk that was deleted meanwhile.
        """
        row = {"job": job, "walk_id": walk_id, "worker": worker}
        try:
            async with transaction(self._engine) as connection:
                before: str | None = await connection.scalar(select(claims.c.worker).where(claims.c.job == job))
                taken_over = before not in (None, worker)
                if before and taken_over:
                    await self._lose(connection, walk_id, before)
                claim = insert_into(self._engine, claims).values(row)
                await connection.execute(claim.on_conflict_do_update(index_elements=["job"], set_={"worker": worker}))
        except IntegrityError as error:
            raise WalkNotFound(NOT_FOUND) from error
        return taken_over

    async def _lose(self, connection: AsyncConnection, walk_id: str, worker: str) -> None:
        """Count a lost worker as one try at a walk, however many shards of it the worker had.

        A worker that is only slow claims more shards while others take over its first ones; it still counts once.
        """
        await connection.execute(delete(claims).where(claims.c.walk_id == walk_id, claims.c.worker == worker))
        loss = insert_into(self._engine, losses).values(walk_id=walk_id, worker=worker).on_conflict_do_nothing()
        if (await connection.execute(loss)).rowcount:
            tried = update(walks).where(walks.c.id == walk_id)
            await connection.execute(tried.values(tries=walks.c.tries + 1, revision=walks.c.revision + 1))

    async def release(self, job: str, worker: str) -> None:
        """Record that a worker has finished a job or returned it. A claim of another worker stays."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(claims).where(claims.c.job == job, claims.c.worker == worker))

    async def report(self, worker: str, awake: int, models: Mapping[str, FleetStatus]) -> None:
        """Record that a worker is alive, and the replicas that it sees. awake: of all models."""
        now = datetime.now(UTC)
        speeds = [status.shard_s for status in models.values() if status.shard_s is not None]
        row = {
            "replicas_awake": awake,
            # For processes of the last release.
            "shard_s": fmean(speeds) if speeds else None,
            "models": {name: asdict(status) for name, status in models.items()},
            "seen_at": now,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.seen_at < now - GONE_AFTER))
            seen = insert_into(self._engine, workers).values({"id": worker, **row})
            await connection.execute(seen.on_conflict_do_update(index_elements=["id"], set_=row))
            await self._take_back_losses(connection, worker)

    async def _take_back_losses(self, connection: AsyncConnection, worker: str) -> None:
        """A worker that reports was silent, not lost: frozen, or without the catalogue. That is no try at a walk."""
        found = await connection.scalars(delete(losses).where(losses.c.worker == worker).returning(losses.c.walk_id))
        if walk_ids := found.all():
            tried = update(walks).where(walks.c.id.in_(walk_ids), walks.c.tries > 0)
            await connection.execute(tried.values(tries=walks.c.tries - 1, revision=walks.c.revision + 1))

    async def leave(self, worker: str) -> None:
        """Record that a worker has stopped."""
        async with transaction(self._engine) as connection:
            await connection.execute(delete(workers).where(workers.c.id == worker))

    async def fleet_status(self) -> FleetStatuses:
        """The replicas as the living workers see them. Each worker sees all replicas."""
        query = select(workers).where(workers.c.seen_at >= datetime.now(UTC) - GONE_AFTER)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        reports = [{name: FleetStatus(**status) for name, status in row.models.items()} for row in rows if row.models]
        named = {
            name: _together([report[name] for report in reports if name in report]) for name in set().union(*reports)
        }
        old = [FleetStatus(row.replicas_awake, row.shard_s) for row in rows if row.models is None]
        unnamed = FleetStatus() if len(old) < len(rows) else _together(old)
        return FleetStatuses(max((row.replicas_awake for row in rows), default=0), named, unnamed)


def _together(seen: Sequence[FleetStatus]) -> FleetStatus:
    """What several workers see: the most replicas, and their mean time for a shard."""
    speeds = [status.shard_s for status in seen if status.shard_s is not None]
    return FleetStatus(max((status.awake for status in seen), default=0), fmean(speeds) if speeds else None)
