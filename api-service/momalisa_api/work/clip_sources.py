"""The clips that walks go along, as files for replicas: decoded once for all shards of a walk, and kept on the disk.

A bounded cache of a pure function of the stored clip. What a killed worker leaves goes with its folder.
"""

import shutil
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog

from momalisa_api.concurrency import SingleFlight
from momalisa_api.films.films import FilmTimes
from momalisa_api.pictures.decoders import ClipDecoders
from momalisa_api.problems import BadClip, QueueFull, Unavailable, WalkFailed
from momalisa_api.store.bucket import Bucket, NotInBucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.clip import ClipRecipe

CLIP_LOST: Final = "The clip of this walk is no longer stored. Upload it again, and request the walk again."
# A worker's container has room on its disk for these beside the largest films (films/films.py) and one stored clip.
CLIP_BYTES: Final = 64 * 1024 * 1024
MAX_CLIPS_BYTES: Final = 3 * CLIP_BYTES
# Longer than a shard waits for a replica. A visitor's clip must not stay on a disk when its walk was deleted.
KEPT_CLIP_S: Final = 600.0
NO_DISK: Final = "The worker's disk is full or broken."

log = structlog.get_logger()


@dataclass(slots=True)
class _DecodedClip:
    """A folder with the pictures of a clip. count: how many there are; size: in bytes; used_at: of the clock."""

    folder: Path
    count: int
    size: int
    used_at: float


class ClipSources:
    """A worker's decoded clips. Everything raises WalkFailed for a clip that is lost or damaged, and Unavailable.

    Unavailable: also for a disk that is full.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        bucket: Bucket,
        folder: Path | None = None,
        decoders: ClipDecoders | None = None,
        *,
        max_bytes: int = MAX_CLIPS_BYTES,
    ) -> None:
        """folder: for decoded clips; None: that of the system."""
        self._catalogue = catalogue
        self._bucket = bucket
        self._folder = folder
        self._decoders = decoders or ClipDecoders()
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, _DecodedClip] = OrderedDict()
        self._decoding: SingleFlight[_DecodedClip] = SingleFlight()

    async def prepare(self, walk_id: str, recipe: ClipRecipe) -> None:
        """Decode the clip of a recipe, so that no replica waits for that."""
        await self._clip(walk_id, recipe)

    async def of(self, walk_id: str, recipe: ClipRecipe, fractions: Iterable[float]) -> dict[float, bytes]:
        """The frames of the clip at some fractions, as JPEG files of the recipe's size."""
        numbers = {fraction: round(fraction * (recipe.frames - 1)) for fraction in fractions}
        while True:
            clip = await self._clip(walk_id, recipe)
            try:
                return await anyio.to_thread.run_sync(partial(_read, clip, numbers))
            except FileNotFoundError:
                # Others needed the room in between.
                self._drop(recipe.id, clip)

    async def drop_unused(self, kept_s: float = KEPT_CLIP_S) -> None:
        """Remove the decoded clips that were not used for so many seconds."""
        for key, clip in list(self._kept.items()):
            if anyio.current_time() - clip.used_at >= kept_s:
                self._drop(key, clip)

    async def times(self, walk_id: str, recipe: ClipRecipe, folder: Path) -> FilmTimes:
        """When the frames of a walk are shown in its film. folder: for a file with the clip's sound."""
        with _disk_in_use():
            found = await self._decode(walk_id, recipe, folder, {"every": recipe.every, "count": recipe.frames})
        return FilmTimes(tuple(found["times"]), found["end"], folder / "sound.mp4" if found["sound"] else None)

    async def _clip(self, walk_id: str, recipe: ClipRecipe) -> _DecodedClip:
        if found := self._kept.get(recipe.id):
            self._kept.move_to_end(recipe.id)
            found.used_at = anyio.current_time()
            return found
        with _disk_in_use():
            return await self._decoding.do(recipe.id, partial(self._add, walk_id, recipe))

    async def _add(self, walk_id: str, recipe: ClipRecipe) -> _DecodedClip:
        """Decode a clip and keep it. Its room is made before."""
        while self._kept and sum(clip.size for clip in self._kept.values()) + CLIP_BYTES > self._max_bytes:
            self._drop(*next(iter(self._kept.items())))
        folder = Path(mkdtemp(prefix="clip-", dir=self._folder))
        wanted = {
            "every": recipe.every,
            "count": recipe.frames,
            "size": (recipe.width, recipe.height),
            "picture_bytes": CLIP_BYTES // recipe.frames,
        }
        try:
            found = await self._decode(walk_id, recipe, folder, wanted)
            size = await anyio.to_thread.run_sync(_size_of, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        clip = self._kept[recipe.id] = _DecodedClip(folder, len(found["times"]), size, anyio.current_time())
        return clip

    async def _decode(
        self, walk_id: str, recipe: ClipRecipe, folder: Path, wanted: dict[str, object]
    ) -> dict[str, Any]:
        with TemporaryDirectory(prefix="clip-", dir=self._folder) as place:
            source = Path(place) / "clip"
            await self._fetch(walk_id, recipe, source)
            try:
                return await self._decoders.decode(source, folder, wanted)
            except BadClip as bad:
                raise WalkFailed(str(bad)) from bad
            except QueueFull as full:
                raise Unavailable(str(full)) from full

    async def _fetch(self, walk_id: str, recipe: ClipRecipe, target: Path) -> None:
        keys = await self._catalogue.keys_of_clips(walk_id)
        try:
            found = await self._bucket.look(keys[recipe.clip])
            async with await anyio.open_file(target, "wb") as file:
                async for chunk in self._bucket.stream(found, 0, found.size - 1):
                    await file.write(chunk)
        except (KeyError, NotInBucket) as gone:
            raise WalkFailed(CLIP_LOST) from gone

    def _drop(self, key: str, clip: _DecodedClip) -> None:
        if self._kept.get(key) is clip:
            del self._kept[key]
            shutil.rmtree(clip.folder, ignore_errors=True)


@contextmanager
def _disk_in_use() -> Iterator[None]:
    """Raises Unavailable for a disk that is full or broken: neither the clip nor a replica is to blame."""
    try:
        yield
    except OSError as error:
        log.warning("clip cannot be decoded", reason=str(error))
        raise Unavailable(NO_DISK) from error


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _read(clip: _DecodedClip, numbers: dict[float, int]) -> dict[float, bytes]:
    """The files of frames by their fractions. The last frames of a few clips are counted, and never shown."""
    last = clip.count - 1
    return {at: (clip.folder / f"{min(number, last)}.jpg").read_bytes() for at, number in numbers.items()}
