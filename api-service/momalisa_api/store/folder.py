"""A bucket in a folder on disk."""

import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeVar

import anyio
import anyio.to_thread

from momalisa_api.outages import Outage
from momalisa_api.problems import BucketUnavailable
from momalisa_api.store.bucket import NO_ANSWER, NOT_WRITABLE, TOP_FOLDERS, NotInBucket, StoredObject

CHUNK_BYTES: Final = 256 * 1024

T = TypeVar("T")


class FolderBucket:
    """A bucket in a folder. Objects appear complete or not at all: a file without a name is linked into place.

    A process that is killed while it writes leaves nothing. Where the system has no files without names (Linux has, on
    most file systems), it leaves a hidden one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._outage = Outage("bucket")
        # A thread of its own: a process whose threads are all busy is not one that cannot write.
        self._probes = anyio.CapacityLimiter(1)

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            raise ValueError(f"key {key!r} points outside the bucket")
        return path

    async def put(self, key: str, content: bytes) -> bool:
        return await self._call(partial(self._write, key, io.BytesIO(content)))

    async def put_file(self, key: str, source: Path) -> bool:
        async with await anyio.open_file(source, "rb") as content:
            return await self._call(partial(self._write, key, content.wrapped))

    def _write(self, key: str, content: IO[bytes]) -> bool:
        """Write a file aside, then link it: a hard link is the one rename that fails if the name exists."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123
                _fill(file, content)
                # With a descriptor, the call follows the symbolic link; for a complete path, it has no other meaning.
                os.link(f"/proc/self/fd/{file.fileno()}", target, src_dir_fd=file.fileno())
        except FileExistsError:
            return False
        except (AttributeError, OSError):
            content.seek(0)
            return _write_named(target, content)
        return True

    async def get(self, key: str) -> bytes:
        return await self._call(partial(_found, key, self._path(key).read_bytes))

    async def look(self, key: str) -> StoredObject:
        return _object(key, await self._call(partial(_found, key, self._path(key).stat)))

    async def stream(self, found: StoredObject, first: int, last: int) -> AsyncIterator[bytes]:
        path = self._path(found.key)
        with await self._call(partial(_found, found.key, lambda: path.open("rb"))) as file:
            if _object(found.key, os.fstat(file.fileno())) != found:
                raise NotInBucket(found.key)
            file.seek(first)
            while first <= last:
                chunk = await self._call(partial(file.read, min(CHUNK_BYTES, last - first + 1)))
                if not chunk:
                    return
                first += len(chunk)
                yield chunk

    async def present(self, prefix: str) -> frozenset[str]:
        return await self._call(lambda: frozenset(prefix + at.name for at in self._scan(prefix)))

    async def listed(self, prefix: str) -> dict[str, StoredObject]:
        def scan() -> dict[str, StoredObject]:
            return {prefix + at.name: _object(prefix + at.name, at.stat()) for at in self._scan(prefix)}

        return await self._call(scan)

    def _scan(self, prefix: str) -> Iterator[os.DirEntry[str]]:
        """The files of a folder, without those that are being written."""
        folder = self._path(prefix)
        if folder.is_dir():
            with os.scandir(folder) as entries:
                yield from (at for at in entries if at.is_file() and not at.name.startswith("."))

    async def delete(self, key: str) -> None:
        await self._call(partial(self._path(key).unlink, missing_ok=True))

    async def check_writable(self) -> None:
        def probe() -> None:
            self._root.mkdir(parents=True, exist_ok=True)
            # A folder in it can belong to another user, for example after a command that ran as root.
            there = (folder for name in TOP_FOLDERS if (folder := self._root / name).is_dir())
            for folder in (self._root, *there):
                with tempfile.TemporaryFile(dir=folder):
                    pass

        try:
            await anyio.to_thread.run_sync(probe, limiter=self._probes)
        except OSError as error:
            self._outage.missed(error)
            raise BucketUnavailable(NOT_WRITABLE.format(error.strerror)) from error

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _call(self, call: Callable[[], T]) -> T:
        """Run a call in a thread. Raises BucketUnavailable if the disk fails: full, broken, read-only."""
        try:
            answer = await anyio.to_thread.run_sync(call)
        except OSError as error:
            self._outage.missed(error)
            raise BucketUnavailable(NO_ANSWER) from error
        self._outage.answered()
        return answer


def _object(key: str, status: os.stat_result) -> StoredObject:
    """A file as an object. Files are never changed in place, so a rewritten one has another time."""
    modified = datetime.fromtimestamp(status.st_mtime_ns // 1_000_000_000, UTC)
    return StoredObject(key, status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", modified)


def _found(key: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except FileNotFoundError:
        raise NotInBucket(key) from None


def _fill(file: IO[bytes], content: IO[bytes]) -> None:
    shutil.copyfileobj(content, file)
    file.flush()
    # The user that serves the folder may be another than the one that writes it.
    os.fchmod(file.fileno(), 0o644)


def _write_named(target: Path, content: IO[bytes]) -> bool:
    """Write a hidden file, then name it. Returns False if the name exists."""
    descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _fill(file, content)
        return _name(aside, target)
    finally:
        Path(aside).unlink(missing_ok=True)


def _name(aside: str, target: Path) -> bool:
    """Give a complete file its name. Returns False if the name exists."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except OSError:
        # Some file systems have no hard links. A rename is atomic too, but of two at once the last one wins.
        if target.exists():
            return False
        Path(aside).replace(target)
    return True
