"""Which walks use which pictures and clips: a walk keeps the files of both for as long as it exists."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import Invalid
from momalisa_api.store.clips import CLIP_TABLE
from momalisa_api.store.engine import insert_into
from momalisa_api.store.pictures import PICTURE_TABLE
from momalisa_api.store.uploads import UploadTable

NOT_YOURS: Final = "A {} of this walk has expired or was deleted. Upload it again, and request the walk again."
# An upload that is about to expire must not do so before its use is seen.
_SPARE: Final = timedelta(minutes=10)


async def use_uploads(
    connection: AsyncConnection, walk_id: str, owner: str, *, pictures: Collection[str], clips: Collection[str]
) -> None:
    """Record that a walk uses pictures and clips of an owner, in the transaction that accepts the walk.

    pictures, clips: their ids. Their rows are locked until it ends, so that none of them expires or is deleted
    meanwhile. Raises Invalid if one is not there.
    """
    await _use(connection, walk_id, owner, PICTURE_TABLE, pictures)
    await _use(connection, walk_id, owner, CLIP_TABLE, clips)


async def keys_of_pictures(connection: AsyncConnection, walk_id: str) -> dict[str, str]:
    """The key in the bucket of each picture that a walk uses, by the picture's id."""
    return await _keys(connection, walk_id, PICTURE_TABLE)


async def keys_of_clips(connection: AsyncConnection, walk_id: str) -> dict[str, str]:
    """The key in the bucket of each clip that a walk uses, by the clip's id."""
    return await _keys(connection, walk_id, CLIP_TABLE)


async def _use(
    connection: AsyncConnection, walk_id: str, owner: str, table: UploadTable[Any], ids: Collection[str]
) -> None:
    now, rows = datetime.now(UTC), table.rows
    later = case((rows.c.expires_at < now + _SPARE, now + _SPARE), else_=rows.c.expires_at)
    for identity in sorted(ids):
        locked = update(rows).where(table.is_visible(owner, identity, now)).values(expires_at=later)
        key = (await connection.scalars(locked.returning(rows.c.key))).first()
        if key is None:
            raise Invalid(NOT_YOURS.format(table.used))
        used = insert_into(connection.engine, table.uses).values({table.used: key, "walk_id": walk_id})
        await connection.execute(used.on_conflict_do_nothing())


async def _keys(connection: AsyncConnection, walk_id: str, table: UploadTable[Any]) -> dict[str, str]:
    rows, uses = table.rows, table.uses
    used = select(rows).join(uses, uses.c[table.used] == rows.c.key).where(uses.c.walk_id == walk_id)
    return {row.id: table.key_of(row) for row in await connection.execute(used.order_by(rows.c.created_at))}
