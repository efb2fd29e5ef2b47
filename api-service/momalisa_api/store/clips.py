"""The clips that visitors have uploaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from momalisa_api.problems import ClipNotFound
from momalisa_api.store.tables import clip_uses, clips
from momalisa_api.store.uploads import StoredUpload, UploadStore, UploadTable

NO_CLIP: Final = "You have no clip with this id: it may have expired. Upload it again."
_FACTS: Final = ("id", "ending", "seconds", "width", "height", "frames", "has_sound")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClip(StoredUpload):
    """A clip of one owner. ending: of its file, mp4 or webm."""

    ending: str
    seconds: float
    frames: int
    has_sound: bool


CLIP_TABLE: Final = UploadTable(clips, clip_uses, "clip", StoredClip, ClipNotFound, NO_CLIP)


class ClipStore(UploadStore[StoredClip]):
    """Clips by owner and id."""

    table = CLIP_TABLE

    async def add(self, owner: str, clip: NewClip) -> StoredClip:
        """Store a clip's file. One that the owner has already is kept for longer."""
        return await self._add(owner, {name: getattr(clip, name) for name in _FACTS}, clip.file)
