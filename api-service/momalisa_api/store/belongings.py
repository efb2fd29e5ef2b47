"""What an owner has: walks that this owner requested, and how many uploads."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.store.catalogue import BATCH, Catalogue
from momalisa_api.store.clips import CLIP_TABLE
from momalisa_api.store.engine import transaction
from momalisa_api.store.pictures import PICTURE_TABLE
from momalisa_api.store.tables import asks, clips, pictures
from momalisa_api.walks.walk import Walk


@dataclass(frozen=True, slots=True)
class Count:
    """How much an owner has."""

    walks: int
    pictures: int
    clips: int


class Belongings:
    """Queries by owner. Everything raises CatalogueUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._catalogue = Catalogue(engine)

    async def count(self, owner: str) -> Count:
        """How much an owner has."""
        now = datetime.now(UTC)
        of_owner = (
            (asks, asks.c.owner == owner),
            (pictures, (pictures.c.owner == owner) & PICTURE_TABLE.is_kept(now)),
            (clips, (clips.c.owner == owner) & CLIP_TABLE.is_kept(now)),
        )
        async with transaction(self._engine) as connection:
            walks, kept, moving = [
                await connection.scalar(select(func.count()).select_from(table).where(mine)) or 0
                for table, mine in of_owner
            ]
        return Count(walks, kept, moving)

    async def walks(self, owner: str) -> AsyncIterator[tuple[Walk, bool]]:
        """The owner's walks, oldest first, and whether the owner lists each; read in batches."""
        query = select(asks.c.walk_id, asks.c.listed).where(asks.c.owner == owner).order_by(asks.c.asked_at)
        async with transaction(self._engine) as connection:
            listed = {row.walk_id: row.listed for row in await connection.execute(query)}
        ids = list(listed)
        for first in range(0, len(ids), BATCH):
            found = await self._catalogue.read(ids[first : first + BATCH])
            for walk_id in ids[first : first + BATCH]:
                if walk_id in found:
                    yield found[walk_id], listed[walk_id]
