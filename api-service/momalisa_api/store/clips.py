"""The clips that visitors have uploaded: their rows in the catalogue, and their files in the bucket.

Like pictures.py: a row exists before its file, and is deleted after it. No walk uses a clip yet.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.problems import ClipNotFound
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.engine import transaction
from momalisa_api.store.pictures import DELETED_AT_ONCE, one_upload_at_a_time
from momalisa_api.store.tables import clips

NO_CLIP: Final = "You have no clip with this id: it may have expired. Upload it again."


class NewClip(Protocol):
    """A file with one video, and what it is. id: the SHA-256 of its bytes; ending: mp4 or webm."""

    @property
    def file(self) -> Path: ...
    @property
    def id(self) -> str: ...
    @property
    def ending(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def has_sound(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip of one owner. id: the SHA-256 of its file; key: where it is in the bucket; width, height: as shown."""

    id: str
    key: str
    ending: str
    seconds: float
    width: int
    height: int
    frames: int
    has_sound: bool
    created_at: datetime
    expires_at: datetime


class ClipStore:
    """Clips by owner and id. Everything raises CatalogueUnavailable, and what touches files BucketUnavailable."""

    def __init__(self, engine: AsyncEngine, bucket: Bucket, kept: timedelta) -> None:
        """kept: how long after its upload a clip is deleted."""
        self._engine = engine
        self._bucket = bucket
        self._kept = kept

    async def add(self, owner: str, clip: NewClip) -> StoredClip:
        """Store a clip's file. One that the owner has already is kept for longer."""
        now = datetime.now(UTC)
        facts = {name: getattr(clip, name) for name in ("id", "ending", "seconds", "width", "height", "frames")}
        row = {
            **facts,
            "has_sound": clip.has_sound,
            "key": uuid4().hex,
            "owner": owner,
            "created_at": now,
            "expires_at": now + self._kept,
            "deleted": False,
        }
        async with transaction(self._engine) as connection:
            await one_upload_at_a_time(connection, owner)
            again = update(clips).where(_is(owner, clip.id)).values(expires_at=row["expires_at"])
            if not (await connection.execute(again)).rowcount:
                await connection.execute(insert(clips).values(row))
            found = _read((await connection.execute(select(clips).where(_is(owner, clip.id)))).one())
        await self._bucket.put_file(found.key, clip.file)
        return found

    async def get(self, owner: str, identity: str) -> StoredClip:
        """An owner's clip. Raises ClipNotFound, also for one that has expired or belongs to others."""
        query = select(clips).where(_is(owner, identity), clips.c.expires_at > datetime.now(UTC))
        async with transaction(self._engine) as connection:
            row = (await connection.execute(query)).first()
        if not row:
            raise ClipNotFound(NO_CLIP)
        return _read(row)

    async def delete(self, owner: str, identity: str) -> None:
        """Delete an owner's clip. Raises ClipNotFound."""
        await self.get(owner, identity)
        await self._erase(_is(owner, identity))

    async def of_owner(self, owner: str) -> list[StoredClip]:
        """An owner's clips, the oldest first."""
        now = datetime.now(UTC)
        query = select(clips).where(clips.c.owner == owner, ~clips.c.deleted, clips.c.expires_at > now)
        async with transaction(self._engine) as connection:
            return list(map(_read, await connection.execute(query.order_by(clips.c.created_at))))

    async def delete_expired(self) -> int:
        """Delete clips that have expired, or that a crash left half deleted. Returns how many, at most some."""
        return await self._erase((clips.c.expires_at <= datetime.now(UTC)) | clips.c.deleted)

    async def _erase(self, which: ColumnElement[bool]) -> int:
        """Hide clips, so that nobody sees them again; then delete their files, and then their rows."""
        query = select(clips).where(which).limit(DELETED_AT_ONCE)
        async with transaction(self._engine) as connection:
            found = list(map(_read, await connection.execute(query)))
            keys = [_name(clip) for clip in found]
            await connection.execute(update(clips).where(clips.c.key.in_(keys)).values(deleted=True))
        for clip in found:
            await self._bucket.delete(clip.key)
            async with transaction(self._engine) as connection:
                await connection.execute(delete(clips).where(clips.c.key == _name(clip)))
        return len(found)


def _is(owner: str, identity: str) -> ColumnElement[bool]:
    return (clips.c.owner == owner) & (clips.c.id == identity) & ~clips.c.deleted


def _name(clip: StoredClip) -> str:
    return clip.key.removeprefix("uploads/").partition(".")[0]


def _read(row: Row[Any]) -> StoredClip:
    facts = {name: getattr(row, name) for name in ("id", "ending", "seconds", "width", "height", "frames", "has_sound")}
    # SQLite stores no time zone.
    times = {name: getattr(row, name).replace(tzinfo=UTC) for name in ("created_at", "expires_at")}
    return StoredClip(key=f"uploads/{row.key}.{row.ending}", **facts, **times)
