"""Deletes walks for good: first their rows, so that nobody can read them any more, then their files.

The rows go, and the record of what is left to delete comes, in one transaction, so that a crash leaves no files that
nobody knows of: workers delete the rest. They look a second time after `LATE`, for files of workers that did not know
of the deletion yet.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, delete, func, insert, literal, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import WalkNotFound
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import asks, clips, erasures, pictures, walks
from momalisa_api.store.walk_files import WalkFiles
from momalisa_api.store.walk_rows import NOT_FOUND
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.spec import spec_from_stored
from momalisa_api.walks.walk import recipes_of

# Longer than a shard takes that began before the deletion.
LATE: Final = timedelta(minutes=15)
ERASED_AT_ONCE: Final = 20


class Erasures:
    """Walks that are being deleted. Everything raises CatalogueUnavailable; `sweep` and `purge` BucketUnavailable."""

    def __init__(self, engine: AsyncEngine, bucket: Bucket, late: timedelta = LATE) -> None:
        """late: after which time the files of a deleted walk are looked for again."""
        self._engine = engine
        self._catalogue = Catalogue(engine)
        self._files = WalkFiles(self._catalogue, bucket)
        self._late = late

    async def purge(self, walk_id: str) -> int:
        """Delete a walk, whoever requested it, and its files. Returns the number of files. Raises WalkNotFound."""
        if not await self.erase(walks.c.id == walk_id):
            raise WalkNotFound(NOT_FOUND)
        return await self.sweep(walk_id)

    async def erase(self, which: ColumnElement[bool]) -> int:
        """Delete the rows of walks, whoever requested them. Returns their number. `sweep` deletes the files."""
        async with transaction(self._engine) as connection:
            return await _erase(connection, which)

    async def erase_request(self, walk_id: str, owner: str) -> bool:
        """Withdraw an owner's request, and delete the row of the walk if it has no other. `sweep` deletes the files.

        Returns False, and changes nothing, if this owner has not requested the walk.
        """
        async with transaction(self._engine) as connection:
            return await _erase_requests(connection, owner, asks.c.walk_id == walk_id) == 1

    async def erase_owner(self, owner: str, scope: str) -> None:
        """Withdraw all requests of an owner, delete the walks that have no others, and hide the owner's uploads.

        scope: of the owner's private walks: those that the owner has withdrawn before are deleted, too.
        All of it or nothing. `sweep` and `delete_expired` of PictureStore and ClipStore delete the files.
        """
        async with transaction(self._engine) as connection:
            await _erase_requests(connection, owner, true())
            requested = select(asks.c.walk_id).where(asks.c.walk_id == walks.c.id)
            await _erase(connection, (walks.c.scope == scope) & ~requested.exists())
            for uploads in (pictures, clips):
                await connection.execute(update(uploads).where(uploads.c.owner == owner).values(deleted=True))

    async def sweep(self, walk_id: str | None = None) -> int:
        """Delete the files of deleted walks, except those that other walks use.

        walk_id: of this one, and returns the number of files. None: of those that are due, `ERASED_AT_ONCE` at most,
        and returns the number of these walks.
        """
        now = datetime.now(UTC)
        wanted = erasures.c.due_at <= now if walk_id is None else erasures.c.walk_id == walk_id
        query = select(erasures).where(wanted).order_by(erasures.c.due_at).limit(ERASED_AT_ONCE)
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        counts = [await self._sweep(row, now) for row in rows]
        return len(counts) if walk_id is None else sum(counts)

    async def _sweep(self, row: Row[Any], now: datetime) -> int:
        keys = await self._files.of_recipes(_recipes(row))
        if not await self._catalogue.knows(row.walk_id):
            keys |= await self._files.of_walk(row.walk_id)
        await self._files.delete(keys)
        # SQLite stores no time zone.
        last = row.erased_at.replace(tzinfo=UTC) + self._late
        same = erasures.c.number == row.number
        done = delete(erasures).where(same) if last <= now else update(erasures).where(same).values(due_at=last)
        async with transaction(self._engine) as connection:
            await connection.execute(done)
        return len(keys)


async def _erase_requests(connection: AsyncConnection, owner: str, which: ColumnElement[bool]) -> int:
    """Withdraw requests of an owner, and delete walks that have no others. Returns the number of requests."""
    requests = (asks.c.owner == owner) & which
    theirs = walks.c.id.in_(select(asks.c.walk_id).where(requests))
    others = select(asks.c.walk_id).where(asks.c.walk_id == walks.c.id, asks.c.owner != owner)
    # Others who request these walks wait. In one order, as two of such transactions would wait for each other.
    await connection.execute(select(walks.c.id).where(theirs).order_by(walks.c.id).with_for_update())
    count = await connection.scalar(select(func.count()).select_from(asks).where(requests))
    await _erase(connection, theirs & ~others.exists())
    await connection.execute(delete(asks).where(requests))
    return int(count or 0)


async def _erase(connection: AsyncConnection, which: ColumnElement[bool]) -> int:
    """Delete walks, and record that they have files to delete. Their requests and other rows go with them."""
    now = literal(datetime.now(UTC), erasures.c.erased_at.type)
    found = select(walks.c.id, walks.c.spec, walks.c.spec_version, now, now).where(which)
    names = ["walk_id", "spec", "spec_version", "erased_at", "due_at"]
    await connection.execute(insert(erasures).from_select(names, found))
    return (await connection.execute(delete(walks).where(which))).rowcount


def _recipes(row: Row[Any]) -> frozenset[Recipe]:
    """The recipes of a deleted walk; none if this release cannot read it: its frames are unknown, and stay."""
    try:
        return frozenset(recipes_of(spec_from_stored(row.spec, row.spec_version)))
    except ValueError:
        return frozenset()
