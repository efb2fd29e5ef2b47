"""Accepts pictures: receives or fetches one into a bounded file, counts it, has it decoded, and stores it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from weakref import WeakValueDictionary

import anyio

from momalisa_api.pictures.decoders import Decoders
from momalisa_api.pictures.download import Downloads
from momalisa_api.problems import (
    BadPicture,
    BodyTooLarge,
    BucketUnavailable,
    QueueFull,
    QuotaExceeded,
    UploadTooSlow,
)
from momalisa_api.settings import Settings
from momalisa_api.store.charges import limited_network
from momalisa_api.store.pictures import PictureStore, StoredPicture, UploadLimits

MAX_UPLOAD_BYTES: Final = 20_000_000
# What a form adds to its file.
FORM_BYTES: Final = 16_384
UPLOAD_S: Final = 120.0
UPLOADS_AT_ONCE: Final = 16
# Those that wait are not read: each has some tens of kilobytes in memory.
UPLOADS_WAITING: Final = 200
UPLOAD_RETRY_S: Final = 10
UPLOAD_TOO_LARGE: Final = f"A picture can have at most {MAX_UPLOAD_BYTES // 1_000_000} MB. Send a smaller one."

Write = Callable[[bytes], Awaitable[None]]


class PictureIntake:
    """Takes pictures in. Files and decoders are limited, so that many uploads at a time need little memory and disk."""

    def __init__(self, settings: Settings, store: PictureStore, decoders: Decoders, downloads: Downloads) -> None:
        self._limits = UploadLimits(
            settings.uploads_per_owner_per_day,
            settings.upload_mb_per_owner_per_day * 1_000_000,
            settings.owners_per_network,
        )
        self._store = store
        self._decoders = decoders
        self._downloads = downloads
        self._places = anyio.CapacityLimiter(UPLOADS_AT_ONCE)
        # One network gets half of the places. Those of a network without uploads are forgotten.
        self._places_of_networks = WeakValueDictionary[str, anyio.CapacityLimiter]()
        self._waiting = 0

    async def receive(
        self, chunks: AsyncIterator[bytes], owner: str, network: str, boundary: str | None = None
    ) -> StoredPicture:
        """Store the picture in a request's body. boundary: of the form that contains it; network: of the caller.

        Raises BadPicture, BodyTooLarge, UploadTooSlow, QuotaExceeded, QueueFull, Unavailable.
        """

        async def read(write: Write) -> None:
            try:
                with anyio.fail_after(UPLOAD_S):
                    async for chunk in chunks:
                        await write(chunk)
            except TimeoutError:
                raise UploadTooSlow(f"An upload can take {UPLOAD_S:.0f} seconds. Send a smaller picture.") from None

        return await self._take(read, owner, network, boundary)

    async def fetch(self, url: str, owner: str, network: str) -> StoredPicture:
        """Store the picture behind a URL. Raises what `receive` and Downloads.fetch raise."""

        async def read(write: Write) -> None:
            await self._downloads.fetch(url, write)

        return await self._take(read, owner, network)

    async def _take(
        self, read: Callable[[Write], Awaitable[None]], owner: str, network: str, boundary: str | None = None
    ) -> StoredPicture:
        limit = MAX_UPLOAD_BYTES + (FORM_BYTES if boundary else 0)
        async with self._place(network):
            with TemporaryDirectory(prefix="momalisa-upload-") as folder:
                source = Path(folder) / "body"
                size = await _spool(read, source, limit)
                if not size:
                    raise BadPicture("The body is empty. Send a JPEG, PNG, WebP, AVIF or GIF.")
                await self._store.admit(owner, limited_network(owner, network), size, self._limits)
                found = await self._decoders.decode(source, Path(folder) / "picture.png", boundary)
                return await self._store.add(owner, found.id, found.width, found.height, found.file)

    @asynccontextmanager
    async def _place(self, network: str) -> AsyncIterator[None]:
        """One of the places. Raises QueueFull and QuotaExceeded if too many uploads wait for one."""
        if self._waiting >= UPLOADS_WAITING:
            raise QueueFull(f"{self._waiting} uploads are waiting. Retry in some seconds.", UPLOAD_RETRY_S)
        places = self._places_of_networks.get(network) or anyio.CapacityLimiter(UPLOADS_AT_ONCE // 2)
        self._places_of_networks[network] = places
        if (waiting := places.statistics().tasks_waiting) >= UPLOADS_WAITING // 2:
            raise QuotaExceeded(
                f"{waiting} uploads from your network address are waiting. Retry in some seconds.", UPLOAD_RETRY_S
            )
        async with AsyncExitStack() as held:
            self._waiting += 1
            try:
                await held.enter_async_context(places)
                await held.enter_async_context(self._places)
            finally:
                self._waiting -= 1
            yield


async def _spool(read: Callable[[Write], Awaitable[None]], target: Path, limit: int) -> int:
    """Write what `read` reads into a file. Returns its bytes. Raises BodyTooLarge, and BucketUnavailable."""
    size = 0
    async with await anyio.open_file(target, "wb") as file:

        async def write(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(UPLOAD_TOO_LARGE)
            try:
                await file.write(chunk)
            except OSError as error:
                raise BucketUnavailable("No room is left for uploads. Retry in a few seconds.") from error

        await read(write)
    return size
