"""The pictures that visitors have uploaded: their rows in the catalogue, and their files in the bucket.

A row exists before its file, and is deleted after it, so that a crash leaves no file without a row.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from momalisa_api.problems import PictureNotFound, QuotaExceeded
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import picture_uses, pictures, uploads

_DAY: Final = timedelta(days=1)
DELETED_AT_ONCE: Final = 100
NO_PICTURE: Final = "You have no picture with this id: it may have expired. Upload it again."


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How much one owner may upload in 24 hours, and how many times as much all owners of a network together."""

    count: int
    size: int
    owners_per_network: int


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture of one owner. id: the SHA-256 of the PNG file; key: where it is in the bucket."""

    id: str
    key: str
    width: int
    height: int
    created_at: datetime
    expires_at: datetime


class PictureStore:
    """Pictures by owner and id. Everything raises CatalogueUnavailable, and what touches files BucketUnavailable."""

    def __init__(self, engine: AsyncEngine, bucket: Bucket, kept: timedelta) -> None:
        """kept: how long after its upload a picture is deleted, unless a walk uses it."""
        self._engine = engine
        self._bucket = bucket
        self._kept = kept

    async def admit(self, owner: str, network: str | None, size: int, limits: UploadLimits) -> None:
        """Count an upload of some bytes against the daily limits. Raises QuotaExceeded, and counts nothing.

        network: whose limits apply beside the owner's, if there is one.
        """
        now = datetime.now(UTC)
        of_all = [(uploads.c.owner == owner, 1)]
        if network:
            of_all.append((uploads.c.network == network, limits.owners_per_network))
        async with transaction(self._engine) as connection:
            if network:
                await one_upload_at_a_time(connection, f"network {network}")
            await one_upload_at_a_time(connection, owner)
            row = {"owner": owner, "network": network, "size": size, "uploaded_at": now}
            await connection.execute(insert(uploads).values(row))
            for which, owners in of_all:
                await _check_load(connection, which, owners, limits, now)

    async def add(self, owner: str, identity: str, width: int, height: int, file: Path) -> StoredPicture:
        """Store a picture's file. One that the owner has already is kept for longer."""
        now = datetime.now(UTC)
        row = {
            "key": uuid4().hex,
            "id": identity,
            "owner": owner,
            "width": width,
            "height": height,
            "created_at": now,
            "expires_at": now + self._kept,
            "deleted": False,
        }
        async with transaction(self._engine) as connection:
            await one_upload_at_a_time(connection, owner)
            again = update(pictures).where(_is(owner, identity)).values(expires_at=row["expires_at"])
            if not (await connection.execute(again)).rowcount:
                await connection.execute(insert(pictures).values(row))
            found = read_picture((await connection.execute(select(pictures).where(_is(owner, identity)))).one())
        await self._bucket.put_file(found.key, file)
        return found

    async def get(self, owner: str, identity: str) -> StoredPicture:
        """An owner's picture. Raises PictureNotFound, also for one that has expired or belongs to others."""
        query = select(pictures).where(is_visible(owner, identity, datetime.now(UTC)))
        async with transaction(self._engine) as connection:
            row = (await connection.execute(query)).first()
        if not row:
            raise PictureNotFound(NO_PICTURE)
        return read_picture(row)

    async def sizes(self, owner: str, ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """Width and height of those of these pictures that an owner has, by id."""
        if not ids:
            return {}
        mine = (pictures.c.owner == owner) & pictures.c.id.in_(list(ids)) & is_kept(datetime.now(UTC))
        async with transaction(self._engine) as connection:
            rows = await connection.execute(select(pictures.c.id, pictures.c.width, pictures.c.height).where(mine))
        return {row.id: (row.width, row.height) for row in rows}

    async def delete(self, owner: str, identity: str) -> None:
        """Delete an owner's picture. A walk that uses it keeps the file. Raises PictureNotFound."""
        found = await self.get(owner, identity)
        await self._hide(pictures.c.key == _name(found.key))
        await self._erase([_name(found.key)])

    async def delete_expired(self) -> int:
        """Delete pictures that have expired or that a crash left half deleted, and old records of uploads.

        Returns the number of pictures, at most `DELETED_AT_ONCE`.
        """
        now = datetime.now(UTC)
        ended = (pictures.c.expires_at <= now) & ~pictures.c.deleted & ~_used()
        due = select(pictures.c.key).where(pictures.c.deleted, ~_used()).limit(DELETED_AT_ONCE)
        await self._hide(ended)
        async with transaction(self._engine) as connection:
            await connection.execute(delete(uploads).where(uploads.c.uploaded_at <= now - _DAY))
            keys = list((await connection.scalars(due)).all())
        await self._erase(keys)
        return len(keys)

    async def _hide(self, which: ColumnElement[bool]) -> None:
        """Mark pictures as deleted. A hidden one is never shown again, so that its file can go."""
        async with transaction(self._engine) as connection:
            await connection.execute(update(pictures).where(which).values(deleted=True))

    async def _erase(self, names: list[str]) -> None:
        """Delete the files of hidden pictures, and then their rows."""
        for name in names:
            unused = (pictures.c.key == name) & pictures.c.deleted & ~_used()
            async with transaction(self._engine) as connection:
                found = await connection.scalar(select(pictures.c.key).where(unused))
            if found:
                await self._bucket.delete(bucket_key(name))
                async with transaction(self._engine) as connection:
                    await connection.execute(delete(pictures).where(unused))


def is_visible(owner: str, identity: str, now: datetime) -> ColumnElement[bool]:
    """Whether a row is an owner's picture that was not deleted and has not expired."""
    return (pictures.c.owner == owner) & (pictures.c.id == identity) & is_kept(now)


def bucket_key(name: str) -> str:
    """Key of a picture's file in the bucket. name: the key of its row."""
    return f"uploads/{name}.png"


def is_kept(now: datetime) -> ColumnElement[bool]:
    """Whether a picture was not deleted and has not expired."""
    return ~pictures.c.deleted & ((pictures.c.expires_at > now) | _used())


def _is(owner: str, identity: str) -> ColumnElement[bool]:
    return (pictures.c.owner == owner) & (pictures.c.id == identity) & ~pictures.c.deleted


def _used() -> ColumnElement[bool]:
    return select(picture_uses.c.walk_id).where(picture_uses.c.picture == pictures.c.key).exists()


def _name(key: str) -> str:
    return key.removeprefix("uploads/").removesuffix(".png")


def read_picture(row: Row[Any]) -> StoredPicture:
    """The picture of a row."""
    # SQLite stores no time zone.
    created_at, expires_at = row.created_at.replace(tzinfo=UTC), row.expires_at.replace(tzinfo=UTC)
    return StoredPicture(row.id, bucket_key(row.key), row.width, row.height, created_at, expires_at)


async def one_upload_at_a_time(connection: AsyncConnection, owner: str) -> None:
    """Lock out other uploads of an owner, or a network, until the transaction ends: limits count the current ones."""
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(hashtext('momalisa uploads'), hashtext(:owner))")
        await connection.execute(lock, {"owner": owner})


async def _check_load(
    connection: AsyncConnection, which: ColumnElement[bool], owners: int, limits: UploadLimits, now: datetime
) -> None:
    """Check the uploads of as many owners. The exception takes the newest back."""
    load = select(func.count(), func.coalesce(func.sum(uploads.c.size), 0), func.min(uploads.c.uploaded_at))
    count, size = owners * limits.count, owners * limits.size
    found, total, first = (await connection.execute(load.where(which, uploads.c.uploaded_at > now - _DAY))).one()
    if found <= count and total <= size:
        return
    opens = first.replace(tzinfo=UTC) + _DAY
    whose = "" if owners == 1 else " from your network address"
    raise QuotaExceeded(
        f"Daily limit of {count:,} uploads or {size // 1_000_000:,} MB{whose} reached. "
        f"It resets at {opens:%Y-%m-%d %H:%M} UTC.",
        max(1, round((opens - now).total_seconds())),
    )
