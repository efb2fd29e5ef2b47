"""Where frames and films lie. Keys are ours alone, made of hashes; no visitor's text is ever a part of one.

What every bucket promises, and the one in a folder; Google's is in gcs.py.
"""

import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final, Protocol, TypeVar

import anyio
import anyio.to_thread

from momalisa_api.outages import Outage
from momalisa_api.problems import BucketUnavailable

CHUNK_BYTES = 256 * 1024
NO_ANSWER: Final = "The bucket of frames and films does not answer. Ask again soon."

T = TypeVar("T")


class NotInBucket(KeyError):
    """No object lies under that key."""


class Bucket(Protocol):
    """An object store in which the first object written under a key stays.

    Everything but `aclose` raises BucketUnavailable where the store does not answer.
    """

    async def put(self, key: str, content: bytes) -> bool:
        """Store an object. Returns False, and changes nothing, where one lies there already."""

    async def put_file(self, key: str, source: Path) -> bool:
        """Store a file's content like `put`."""

    async def get(self, key: str) -> bytes:
        """An object's content. Raises NotInBucket."""

    async def size(self, key: str) -> int:
        """An object's length in bytes. Raises NotInBucket."""

    def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, both included, in chunks; none beyond the end. Raises NotInBucket."""

    async def present(self, prefix: str) -> frozenset[str]:
        """The keys right under a prefix, which ends with a slash."""

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens where none lies."""

    async def aclose(self) -> None:
        """Let go of what the bucket holds open."""


class FolderBucket:
    """A bucket in a folder. Objects appear whole or not at all: written aside, then linked into place."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._outage = Outage("bucket")

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            raise ValueError(f"key {key!r} leads out of the bucket")
        return path

    async def put(self, key: str, content: bytes) -> bool:
        return await self._call(partial(self._write, key, io.BytesIO(content)))

    async def put_file(self, key: str, source: Path) -> bool:
        async with await anyio.open_file(source, "rb") as content:
            return await self._call(partial(self._write, key, content.wrapped))

    def _write(self, key: str, content: IO[bytes]) -> bool:
        """Write aside, then link: a hard link is the one rename that refuses a name already taken."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(content, file)
            # Whoever serves the folder may be another user than who fills it.
            os.chmod(aside, 0o644)  # noqa: PTH101
            return _name(aside, target)
        finally:
            Path(aside).unlink(missing_ok=True)

    async def get(self, key: str) -> bytes:
        return await self._call(partial(_found, key, self._path(key).read_bytes))

    async def size(self, key: str) -> int:
        return (await self._call(partial(_found, key, self._path(key).stat))).st_size

    async def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        path = self._path(key)
        with await self._call(partial(_found, key, lambda: path.open("rb"))) as file:
            file.seek(first)
            while first <= last:
                chunk = await self._call(partial(file.read, min(CHUNK_BYTES, last - first + 1)))
                if not chunk:
                    return
                first += len(chunk)
                yield chunk

    async def present(self, prefix: str) -> frozenset[str]:
        def scan() -> frozenset[str]:
            folder = self._path(prefix)
            if not folder.is_dir():
                return frozenset()
            with os.scandir(folder) as entries:
                return frozenset(prefix + at.name for at in entries if at.is_file() and not at.name.startswith("."))

        return await self._call(scan)

    async def delete(self, key: str) -> None:
        await self._call(partial(self._path(key).unlink, missing_ok=True))

    async def aclose(self) -> None:
        """A folder is held open by nobody."""

    async def _call(self, call: Callable[[], T]) -> T:
        """Make a call in a thread. Raises BucketUnavailable where the disk refuses it: full, broken, read-only."""
        try:
            answer = await anyio.to_thread.run_sync(call)
        except OSError as error:
            self._outage.missed(error)
            raise BucketUnavailable(NO_ANSWER) from error
        self._outage.answered()
        return answer


def _found(key: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except FileNotFoundError:
        raise NotInBucket(key) from None


def _name(aside: str, target: Path) -> bool:
    """Give a finished file its name. Returns False where the name is taken."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except OSError:
        # Some mounts know no hard links. A rename is atomic too, but of two at once the last one stays.
        if target.exists():
            return False
        Path(aside).replace(target)
    return True


@asynccontextmanager
async def copied_aside(bucket: Bucket, keys: Iterable[str]) -> AsyncIterator[list[Path]]:
    """Local copies of objects, in their order, for as long as the block lasts. Raises NotInBucket."""
    with TemporaryDirectory(prefix="momalisa-") as folder:
        copies = []
        for number, key in enumerate(keys):
            copy = anyio.Path(folder) / f"{number:03}{Path(key).suffix}"
            await copy.write_bytes(await bucket.get(key))
            copies.append(Path(copy))
        yield copies
