"""Accepts pictures: each is decoded into a plain PNG, which is stored."""

from pathlib import Path
from typing import Final

from momalisa_api.pictures.decoders import Decoders
from momalisa_api.pictures.download import Downloads
from momalisa_api.problems import BadPicture
from momalisa_api.settings import Settings
from momalisa_api.store.pictures import PictureStore, StoredPicture
from momalisa_api.store.upload_limits import UploadCounter
from momalisa_api.web.upload_intake import UploadIntake, UploadKind

PICTURE_UPLOADS: Final = UploadKind(
    "picture", "a JPEG, PNG, WebP, AVIF or GIF", BadPicture, max_bytes=20_000_000, upload_s=120.0, at_once=16
)


class PictureIntake(UploadIntake[StoredPicture]):
    """Takes pictures in."""

    def __init__(
        self,
        settings: Settings,
        store: PictureStore,
        counted: UploadCounter,
        decoders: Decoders,
        downloads: Downloads,
        folder: Path,
        kind: UploadKind = PICTURE_UPLOADS,
    ) -> None:
        super().__init__(kind, settings, counted, downloads, folder)
        self._store = store
        self._decoders = decoders

    async def _keep(self, source: Path, owner: str, boundary: str | None) -> StoredPicture:
        found = await self._decoders.decode(source, source.with_name("picture.png"), boundary)
        return await self._store.add(owner, found.id, found.width, found.height, found.file)
