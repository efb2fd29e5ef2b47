"""Takes uploads in: receives or fetches one into a bounded file, counts it, and has it read and stored.

picture_intake.py and clip_intake.py say what becomes of a file.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

from momalisa_api.pictures.download import Downloads
from momalisa_api.problems import BodyTooLarge, BucketUnavailable, Problem, QueueFull, QuotaExceeded, UploadTooSlow
from momalisa_api.settings import Settings
from momalisa_api.store.charges import limited_network
from momalisa_api.store.upload_limits import UploadCounter, UploadLimits

# What a form adds to its file.
FORM_BYTES: Final = 16_384
# An upload holds its place while it is received, so that slow ones would keep all others waiting.
MAX_PAUSE_S: Final = 10.0
MIN_BYTES_PER_S: Final = 16_000
# Those that wait are not read: each has some tens of kilobytes in memory.
UPLOADS_WAITING: Final = 200
UPLOAD_RETRY_S: Final = 10

T = TypeVar("T")
Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UploadKind:
    """What uploads of a kind are. noun: such as picture; formats: as people know them; bad: the problem of a bad one.

    max_bytes: of a file; upload_s: seconds that one may take; at_once: uploads that are received at a time.
    """

    noun: str
    formats: str
    bad: type[Problem]
    max_bytes: int
    upload_s: float
    at_once: int

    @property
    def too_large(self) -> BodyTooLarge:
        """The problem of a file that is too large."""
        return BodyTooLarge(f"A {self.noun} can have at most {self.max_bytes // 1_000_000} MB. Send a smaller one.")


class UploadIntake(ABC, Generic[T]):
    """Takes uploads of one kind in. Files are limited, so that many at a time need little memory and disk."""

    def __init__(
        self, kind: UploadKind, settings: Settings, counted: UploadCounter, downloads: Downloads, folder: Path
    ) -> None:
        """counted: counts what owners upload, of all kinds; folder: for files while they are received and read."""
        self.kind = kind
        self._limits = UploadLimits(
            settings.uploads_per_owner_per_day,
            settings.upload_mb_per_owner_per_day * 1_000_000,
            settings.owners_per_network,
        )
        self._counted = counted
        self._downloads = downloads
        self._folder = folder
        self._places = anyio.CapacityLimiter(kind.at_once)
        # One network gets half of the places. Those of a network without uploads are forgotten.
        self._places_of_networks = WeakValueDictionary[str, anyio.CapacityLimiter]()
        self._waiting = 0

    @abstractmethod
    async def _keep(self, source: Path, owner: str, boundary: str | None) -> T:
        """Read an upload and store what it is. Further files may be put beside it. Raises the kind's problem."""

    async def receive(self, chunks: AsyncIterator[bytes], owner: str, network: str, boundary: str | None = None) -> T:
        """Store the file in a request's body. boundary: of the form that contains it; network: of the caller.

        One that pauses for 10 s, or is slower than 16 kB/s after them, is refused. It counts as an upload.
        Raises the kind's problem, BodyTooLarge, UploadTooSlow, QuotaExceeded, QueueFull, Unavailable.
        """

        async def read(write: Write) -> None:
            try:
                with anyio.fail_after(self.kind.upload_s):
                    async for chunk in _brisk(chunks):
                        await write(chunk)
            except TimeoutError:
                await self._counted.admit(owner, limited_network(owner, network), 0, self._limits)
                raise UploadTooSlow(
                    f"An upload can take {self.kind.upload_s:.0f} seconds and needs {MIN_BYTES_PER_S // 1000} kB/s. "
                    "Send a smaller file, or use a faster connection."
                ) from None

        return await self._take(read, owner, network, boundary)

    async def fetch(self, url: str, owner: str, network: str) -> T:
        """Store the file behind a URL. Raises what `receive` and Downloads.fetch raise."""

        async def read(write: Write) -> None:
            await self._downloads.fetch(url, write)

        return await self._take(read, owner, network)

    async def copy(self, content: AsyncIterator[bytes], owner: str, network: str) -> T:
        """Store what this deployment has already, such as a frame, like an upload. Raises what `receive` raises."""

        async def read(write: Write) -> None:
            async for chunk in content:
                await write(chunk)

        return await self._take(read, owner, network)

    async def _take(
        self, read: Callable[[Write], Awaitable[None]], owner: str, network: str, boundary: str | None = None
    ) -> T:
        async with self._place(network):
            with TemporaryDirectory(dir=self._folder) as folder:
                source = Path(folder) / "body"
                size = await self._spool(read, source, FORM_BYTES if boundary else 0)
                if not size:
                    raise self.kind.bad(f"The body is empty. Send {self.kind.formats}.")
                await self._counted.admit(owner, limited_network(owner, network), size, self._limits)
                return await self._keep(source, owner, boundary)

    @asynccontextmanager
    async def _place(self, network: str) -> AsyncIterator[None]:
        """One of the places. Raises QueueFull and QuotaExceeded if too many uploads wait for one."""
        if self._waiting >= UPLOADS_WAITING:
            raise QueueFull(f"{self._waiting} uploads are waiting. Retry in some seconds.", UPLOAD_RETRY_S)
        places = self._places_of_networks.get(network) or anyio.CapacityLimiter(self.kind.at_once // 2)
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

    async def _spool(self, read: Callable[[Write], Awaitable[None]], target: Path, more: int) -> int:
        """Write what `read` reads into a file. Returns its bytes. more: bytes that are allowed beside the file.

        Raises BodyTooLarge, and BucketUnavailable.
        """
        size = 0
        async with await anyio.open_file(target, "wb") as file:

            async def write(chunk: bytes) -> None:
                nonlocal size
                size += len(chunk)
                if size > self.kind.max_bytes + more:
                    raise self.kind.too_large
                try:
                    await file.write(chunk)
                except OSError as error:
                    raise BucketUnavailable("No room is left for uploads. Retry in a few seconds.") from error

            await read(write)
        return size


async def _brisk(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, as long as they come at a speed. Raises TimeoutError otherwise."""
    began, size = anyio.current_time(), 0
    while True:
        with anyio.fail_after(MAX_PAUSE_S):
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        size += len(chunk)
        if size < MIN_BYTES_PER_S * (anyio.current_time() - began - MAX_PAUSE_S):
            raise TimeoutError
        yield chunk
