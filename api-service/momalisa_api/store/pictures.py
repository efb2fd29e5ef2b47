"""The pictures that visitors have uploaded."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import select

from momalisa_api.problems import PictureNotFound
from momalisa_api.store.engine import transaction
from momalisa_api.store.tables import picture_uses, pictures
from momalisa_api.store.uploads import StoredUpload, UploadStore, UploadTable

NO_PICTURE: Final = "You have no picture with this id: it may have expired. Upload it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPicture(StoredUpload):
    """A picture of one owner, as PNG."""


PICTURE_TABLE: Final = UploadTable(
    pictures, picture_uses, "picture", StoredPicture, PictureNotFound, NO_PICTURE, ending="png"
)


class PictureStore(UploadStore[StoredPicture]):
    """Pictures by owner and id."""

    table = PICTURE_TABLE

    async def add(self, owner: str, identity: str, width: int, height: int, file: Path) -> StoredPicture:
        """Store a picture's file. One that the owner has already is kept for longer."""
        return await self._add(owner, {"id": identity, "width": width, "height": height}, file)

    async def sizes(self, owner: str, ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """Width and height of those of these pictures that an owner has, by id."""
        if not ids:
            return {}
        mine = (pictures.c.owner == owner) & pictures.c.id.in_(list(ids)) & PICTURE_TABLE.is_kept(datetime.now(UTC))
        async with transaction(self._engine) as connection:
            rows = await connection.execute(select(pictures.c.id, pictures.c.width, pictures.c.height).where(mine))
        return {row.id: (row.width, row.height) for row in rows}
