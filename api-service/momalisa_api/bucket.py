"""Where frames and films lie. Keys are ours alone, made of hashes; no visitor's text is ever a part of one.

What every bucket promises, and the one in a folder; Google's is in gcs.py.
"""

import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Protocol

import anyio
import anyio.to_thread

CHUNK_BYTES = 256 * 1024


class NotInBucket(KeyError):
    """No object lies under that key."""


class Bucket(Protocol):
    """An object store in which the first object written under a key stays."""

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

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            raise ValueError(f"key {key!r} leads out of the bucket")
        return path

    async def put(self, key: str, content: bytes) -> bool:
        return await anyio.to_thread.run_sync(self._write, key, io.BytesIO(content))

    async def put_file(self, key: str, source: Path) -> bool:
        def copy() -> bool:
            with source.open("rb") as content:
                return self._write(key, content)

        return await anyio.to_thread.run_sync(copy)

    def _write(self, key: str, content: BinaryIO) -> bool:
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
        try:
            return await anyio.Path(self._path(key)).read_bytes()
        except FileNotFoundError:
            raise NotInBucket(key) from None

    async def size(self, key: str) -> int:
        try:
            return (await anyio.Path(self._path(key)).stat()).st_size
        except FileNotFoundError:
            raise NotInBucket(key) from None

    async def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        try:
            opened = await anyio.open_file(self._path(key), "rb")
        except FileNotFoundError:
            raise NotInBucket(key) from None
        async with opened as file:
            await file.seek(first)
            while first <= last:
                chunk = await file.read(min(CHUNK_BYTES, last - first + 1))
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

        return await anyio.to_thread.run_sync(scan)

    async def delete(self, key: str) -> None:
        await anyio.Path(self._path(key)).unlink(missing_ok=True)

    async def aclose(self) -> None:
        """A folder is held open by nobody."""


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
