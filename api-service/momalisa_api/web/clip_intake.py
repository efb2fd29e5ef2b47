"""Accepts clips: each is remuxed into a plain file with its video and sound, which is stored."""

from pathlib import Path
from typing import Final

from momalisa_api.pictures.decoders import Remuxers
from momalisa_api.pictures.download import Downloads
from momalisa_api.problems import BadClip
from momalisa_api.settings import Settings
from momalisa_api.store.clips import ClipStore, StoredClip
from momalisa_api.store.upload_limits import UploadCounter
from momalisa_api.web.upload_intake import UploadIntake, UploadKind

CLIP_UPLOADS: Final = UploadKind(
    "clip", "an MP4, MOV or WebM", BadClip, max_bytes=100_000_000, upload_s=300.0, at_once=4
)


class ClipIntake(UploadIntake[StoredClip]):
    """Takes clips in. They count against the same daily limits as pictures."""

    def __init__(
        self,
        settings: Settings,
        store: ClipStore,
        counted: UploadCounter,
        remuxers: Remuxers,
        downloads: Downloads,
        folder: Path,
    ) -> None:
        super().__init__(CLIP_UPLOADS, settings, counted, downloads, folder)
        self._store = store
        self._remuxers = remuxers

    async def _keep(self, source: Path, owner: str, boundary: str | None) -> StoredClip:
        return await self._store.add(owner, await self._remuxers.remux(source, source.with_name("clip"), boundary))
