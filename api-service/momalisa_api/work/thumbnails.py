"""Thumbnails of frames, from which the spacing is computed: no frame is fetched again for one that was made before.

A thumbnail is made when a replica sends the frame, and kept in memory. A worker that has not got it finds it on a sheet
beside the walk's films if the spacing was computed from it before, and fetches the frame otherwise.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
import structlog

from momalisa_api.concurrency import SingleFlight, task_group
from momalisa_api.problems import BucketUnavailable
from momalisa_api.store.bucket import Bucket, NotInBucket
from momalisa_api.walks.smoothness import Thumbnail
from momalisa_api.walks.spec import Frame
from momalisa_api.work import contact_sheet

log = structlog.get_logger()

# Memory for thumbnails, of the order of a thousand.
MAX_BYTES: Final = 64 * 1024 * 1024
RGB_BYTES_PER_PIXEL: Final = 4  # as Pillow stores RGB
# Walks whose sheets are known. What is forgotten is only stored twice.
MAX_WALKS: Final = 256
# Each thread competes with the event loop for Python's lock.
DECODERS: Final = 2
FETCHES: Final = 16
# Increase the number with any change of what a thumbnail is: a spacing must not depend on who computes it.
SHEET: Final = "thumbnails-1-"


class Thumbnails:
    """A worker's thumbnails, by key of the frame: a bounded cache of a pure function of the stored frame."""

    def __init__(self, bucket: Bucket, *, max_bytes: int = MAX_BYTES) -> None:
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Thumbnail] = OrderedDict()
        self._on_sheets: OrderedDict[str, set[str]] = OrderedDict()
        self._threads = anyio.CapacityLimiter(DECODERS)
        self._fetches = anyio.CapacityLimiter(FETCHES)
        self._fetching: SingleFlight[Thumbnail] = SingleFlight()

    async def take(self, key: str, png: bytes) -> None:
        """Keep the thumbnail of a frame that is being stored."""
        self._keep(key, await self._make(png))

    def forget(self, key: str) -> None:
        """Drop a thumbnail: another picture than the one it shows is stored under the key."""
        if thumbnail := self._kept.pop(key, None):
            self._bytes -= _size(thumbnail)

    async def of(self, walk_id: str, frames: Sequence[Frame]) -> dict[str, Thumbnail]:
        """The thumbnails of a walk's stored frames, by their keys.

        Raises BucketUnavailable for a frame that was just lost: the job is retried.
        """
        keys = list(dict.fromkeys(frame.key for frame in frames))
        found = {key: thumbnail for key in keys if (thumbnail := self._cached(key))}
        if len(found) < len(keys):
            recipe = frames[0].recipe
            sheets = await self._sheets(walk_id, Thumbnail.size_of(recipe.width, recipe.height))
            found |= {key: sheets[key] for key in keys if key in sheets and key not in found}

        async def fetch(key: str) -> None:
            found[key] = await self._fetching.do(key, partial(self._fetch, key))

        async with task_group() as tasks:
            for key in keys:
                if key not in found:
                    tasks.start_soon(fetch, key)
        return found

    async def store(self, walk_id: str, thumbnails: Mapping[str, Thumbnail]) -> None:
        """Store the thumbnails that are on no sheet of a walk yet on one, for the next round and for other workers.

        The walk does not need it, so an outage of the bucket is only logged.
        """
        known = self._known(walk_id)
        if new := {key: thumbnail for key, thumbnail in thumbnails.items() if key not in known}:
            name = hashlib.sha256("\n".join(new).encode()).hexdigest()[:32]
            sheet = await anyio.to_thread.run_sync(contact_sheet.pack, new, limiter=self._threads)
            try:
                await self._bucket.put(f"{_prefix(walk_id)}{name}.png", sheet)
            except BucketUnavailable as unavailable:
                log.warning("thumbnails not stored", walk=walk_id, reason=str(unavailable))
                return
            known.update(new)

    async def _sheets(self, walk_id: str, size: tuple[int, int]) -> dict[str, Thumbnail]:
        """The thumbnails on all sheets of a walk. One that cannot be read is logged: the frames are fetched instead."""
        found: dict[str, Thumbnail] = {}

        async def read(key: str) -> None:
            async with self._fetches:
                content = await self._bucket.get(key)
            try:
                found.update(await anyio.to_thread.run_sync(contact_sheet.unpack, content, size, limiter=self._threads))
            except ValueError as error:
                log.warning("stored thumbnails cannot be read", key=key, reason=str(error))

        names = [key for key in await self._bucket.present(f"walks/{walk_id}/") if key.startswith(_prefix(walk_id))]
        async with task_group() as tasks:
            for name in names:
                tasks.start_soon(read, name)
        self._known(walk_id).update(found)
        return found

    async def _fetch(self, key: str) -> Thumbnail:
        # Another walk may have fetched it while this one looked for its sheets.
        if kept := self._cached(key):
            return kept
        try:
            async with self._fetches:
                thumbnail = await self._make(await self._bucket.get(key))
        except NotInBucket as gone:
            raise BucketUnavailable(f"{gone} was just lost") from gone
        self._keep(key, thumbnail)
        return thumbnail

    async def _make(self, png: bytes) -> Thumbnail:
        return await anyio.to_thread.run_sync(Thumbnail.of, png, limiter=self._threads)

    def _cached(self, key: str) -> Thumbnail | None:
        if thumbnail := self._kept.get(key):
            self._kept.move_to_end(key)
        return thumbnail

    def _keep(self, key: str, thumbnail: Thumbnail) -> None:
        self.forget(key)
        self._kept[key] = thumbnail
        self._bytes += _size(thumbnail)
        while self._bytes > self._max_bytes:
            self.forget(next(iter(self._kept)))

    def _known(self, walk_id: str) -> set[str]:
        """The keys on the sheets of a walk, as far as this worker knows."""
        known = self._on_sheets.setdefault(walk_id, set())
        self._on_sheets.move_to_end(walk_id)
        if len(self._on_sheets) > MAX_WALKS:
            self._on_sheets.popitem(last=False)
        return known


def _prefix(walk_id: str) -> str:
    """Prefix of a walk's sheets: in its folder, so that purging the walk deletes them."""
    return f"walks/{walk_id}/{SHEET}"


def _size(thumbnail: Thumbnail) -> int:
    width, height = thumbnail.small.size
    return width * height * RGB_BYTES_PER_PIXEL
