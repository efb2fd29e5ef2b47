"""The bucket that stores frames and films: what folder.py and gcs.py both implement.

Keys are made of hashes by this service; no visitor's text is ever part of one.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

import anyio

NO_ANSWER: Final = "Image storage is not responding. Retry in a few seconds."


class NotInBucket(KeyError):
    """There is no object with that key."""


class Bucket(Protocol):
    """An object store in which the first object written under a key stays.

    Everything but `aclose` raises BucketUnavailable if the store does not respond.
    """

    async def put(self, key: str, content: bytes) -> bool:
        """Store an object. Returns False, and changes nothing, if the key exists already."""

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
        """Delete an object, if it exists."""

    async def aclose(self) -> None:
        """Close connections."""


@asynccontextmanager
async def copied_aside(bucket: Bucket, keys: Iterable[str]) -> AsyncIterator[list[Path]]:
    """Temporary local copies of objects, in the given order, deleted afterwards. Raises NotInBucket."""
    with TemporaryDirectory(prefix="momalisa-") as folder:
        copies = []
        for number, key in enumerate(keys):
            copy = anyio.Path(folder) / f"{number:03}{Path(key).suffix}"
            await copy.write_bytes(await bucket.get(key))
            copies.append(Path(copy))
        yield copies
