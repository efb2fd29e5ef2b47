"""Files that visitors have uploaded, of one kind: their rows in the catalogue, and their files in the bucket.

A row exists before its file, and is deleted after it, so that a crash leaves no file without a row. pictures.py and
clips.py say what the rows are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.problems import Problem
from momalisa_api.store.bucket import Bucket
from momalisa_api.store.engine import reading, transaction
from momalisa_api.store.upload_limits import one_upload_at_a_time

DELETED_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUpload:
    """A file of one owner. id: the SHA-256 of its bytes; key: where it is in the bucket; width, height: as shown."""

    id: str
    key: str
    width: int
    height: int
    created_at: datetime
    expires_at: datetime


T = TypeVar("T", bound=StoredUpload)


@dataclass(frozen=True)
class UploadTable(Generic[T]):
    """A kind of uploads. rows: its table; uses: the table of walks that use them, by the column `used`.

    stored: the class of an upload, whose fields are columns; problem, missing: of one that is not there; ending: of its
    key in the bucket, None if a column has it.
    """

    rows: Table
    uses: Table
    used: str
    stored: type[T]
    problem: type[Problem]
    missing: str
    ending: str | None = None

    def is_kept(self, now: datetime) -> ColumnElement[bool]:
        """Whether an upload was not deleted and has not expired."""
        return ~self.rows.c.deleted & ((self.rows.c.expires_at > now) | self.is_used)

    def is_visible(self, owner: str, identity: str, now: datetime) -> ColumnElement[bool]:
        """Whether a row is an owner's upload that was not deleted and has not expired."""
        return (self.rows.c.owner == owner) & (self.rows.c.id == identity) & self.is_kept(now)

    @property
    def is_used(self) -> ColumnElement[bool]:
        """Whether a walk uses an upload."""
        return select(self.uses.c.walk_id).where(self.uses.c[self.used] == self.rows.c.key).exists()

    def key_of(self, row: Row[Any]) -> str:
        """Key of an upload's file in the bucket."""
        return f"uploads/{row.key}.{self.ending or row.ending}"

    def read(self, row: Row[Any]) -> T:
        """The upload of a row."""
        values = {name: getattr(row, name) for name in self.stored.__dataclass_fields__}
        # SQLite stores no time zone.
        times = {name: values[name].replace(tzinfo=UTC) for name in ("created_at", "expires_at")}
        return self.stored(**{**values, **times, "key": self.key_of(row)})


class UploadStore(Generic[T]):
    """Uploads by owner and id. Everything raises CatalogueUnavailable, and what touches files BucketUnavailable."""

    table: ClassVar[UploadTable[Any]]

    def __init__(self, engine: AsyncEngine, bucket: Bucket, kept: timedelta) -> None:
        """kept: how long after its upload one is deleted, unless a walk uses it."""
        self._engine = engine
        self._bucket = bucket
        self._kept = kept

    async def get(self, owner: str, identity: str) -> T:
        """An owner's upload. Raises the kind's problem, also for one that has expired or belongs to others."""
        query = select(self.table.rows).where(self.table.is_visible(owner, identity, datetime.now(UTC)))
        async with reading(self._engine) as connection:
            row = (await connection.execute(query)).first()
        if not row:
            raise self.table.problem(self.table.missing)
        return self._read(row)

    async def of_owner(self, owner: str) -> list[T]:
        """An owner's uploads, the oldest first."""
        rows = self.table.rows
        query = select(rows).where(rows.c.owner == owner, self.table.is_kept(datetime.now(UTC)))
        async with transaction(self._engine) as connection:
            return list(map(self._read, await connection.execute(query.order_by(rows.c.created_at))))

    async def delete(self, owner: str, identity: str) -> None:
        """Delete an owner's upload. A walk that uses it keeps the file. Raises the kind's problem."""
        rows, now = self.table.rows, datetime.now(UTC)
        await self.get(owner, identity)
        async with transaction(self._engine) as connection:
            hidden = update(rows).where(self.table.is_visible(owner, identity, now)).values(deleted=True)
            keys = list((await connection.scalars(hidden.returning(rows.c.key))).all())
        await self._erase(keys)

    async def delete_expired(self) -> int:
        """Delete uploads that have expired or that a crash left half deleted.

        Returns their number, at most `DELETED_AT_ONCE`.
        """
        rows = self.table.rows
        ended = (rows.c.expires_at <= datetime.now(UTC)) & ~rows.c.deleted & ~self.table.is_used
        due = select(rows.c.key).where(rows.c.deleted, ~self.table.is_used).limit(DELETED_AT_ONCE)
        async with transaction(self._engine) as connection:
            # A hidden one is never shown again, so that its file can go.
            await connection.execute(update(rows).where(ended).values(deleted=True))
        async with transaction(self._engine) as connection:
            keys = list((await connection.scalars(due)).all())
        await self._erase(keys)
        return len(keys)

    async def _add(self, owner: str, facts: Mapping[str, Any], file: Path) -> T:
        """Store a file. One that the owner has already is kept for longer. facts: the columns of its kind."""
        now, rows = datetime.now(UTC), self.table.rows
        until = now + self._kept
        row = {"key": uuid4().hex, "owner": owner, "created_at": now, "expires_at": until, "deleted": False, **facts}
        same = (rows.c.owner == owner) & (rows.c.id == facts["id"]) & ~rows.c.deleted
        async with transaction(self._engine) as connection:
            await one_upload_at_a_time(connection, owner)
            again = update(rows).where(same).values(expires_at=until)
            if not (await connection.execute(again)).rowcount:
                await connection.execute(insert(rows).values(row))
            found = self._read((await connection.execute(select(rows).where(same))).one())
        await self._bucket.put_file(found.key, file)
        return found

    async def _erase(self, keys: list[str]) -> None:
        """Delete the files of hidden uploads, and then their rows."""
        rows = self.table.rows
        for key in keys:
            unused = (rows.c.key == key) & rows.c.deleted & ~self.table.is_used
            async with transaction(self._engine) as connection:
                found = (await connection.execute(select(rows).where(unused))).first()
            if found:
                await self._bucket.delete(self.table.key_of(found))
                async with transaction(self._engine) as connection:
                    await connection.execute(delete(rows).where(unused))

    def _read(self, row: Row[Any]) -> T:
        found: T = self.table.read(row)
        return found
