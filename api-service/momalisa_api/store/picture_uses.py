"""Which walks use which pictures: a walk keeps the files of its pictures for as long as it exists."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from momalisa_api.problems import Invalid
from momalisa_api.store.engine import insert_into
from momalisa_api.store.pictures import bucket_key, is_visible
from momalisa_api.store.tables import picture_uses, pictures

NOT_YOURS: Final = "A picture of this walk has expired or was deleted. Upload it again, and request the walk again."
# A picture that is about to expire must not do so before its use is seen.
_SPARE: Final = timedelta(minutes=10)


async def use_pictures(connection: AsyncConnection, walk_id: str, owner: str, ids: Collection[str]) -> None:
    """Record that a walk uses pictures of an owner, in the transaction that accepts the walk.

    Their rows are locked until it ends, so that none of them expires or is deleted meanwhile. Raises Invalid if one is
    not there.
    """
    now = datetime.now(UTC)
    later = case((pictures.c.expires_at < now + _SPARE, now + _SPARE), else_=pictures.c.expires_at)
    for identity in sorted(ids):
        locked = update(pictures).where(is_visible(owner, identity, now)).values(expires_at=later)
        key = (await connection.scalars(locked.returning(pictures.c.key))).first()
        if key is None:
            raise Invalid(NOT_YOURS)
        used = insert_into(connection.engine, picture_uses).values(picture=key, walk_id=walk_id)
        await connection.execute(used.on_conflict_do_nothing())


async def keys_of_pictures(connection: AsyncConnection, walk_id: str) -> dict[str, str]:
    """The key in the bucket of each picture that a walk uses, by the picture's id."""
    used = select(pictures.c.id, pictures.c.key).join(picture_uses, picture_uses.c.picture == pictures.c.key)
    rows = await connection.execute(used.where(picture_uses.c.walk_id == walk_id).order_by(pictures.c.created_at))
    return {row.id: bucket_key(row.key) for row in rows}
