"""The bucket that stores frames, films and uploads: what folder.py and gcs.py both implement.

Keys are made of hashes by this service; no visitor's text is ever part of one.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

NOT_WRITABLE: Final = (
    "Image storage cannot be written ({}), so no walk can be rendered. The operator has to give the API's user "
    "write access to the bucket folder."
)
NO_ANSWER: Final = "Image storage is not responding. Retry in a few seconds."
# The first part of every key.
TOP_FOLDERS: Final = ("frames", "walks", "uploads")


class NotInBucket(KeyError):
    """There is no object with that key."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is now. size: in bytes; version: every write has another one; modified: None if unknown."""

    key: str
    size: int
    version: str
    modified: datetime | None


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

    async def look(self, key: str) -> StoredObject:
        """What is stored under a key. Raises NotInBucket."""

    def stream(self, found: StoredObject, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, both included, in chunks; none beyond the end.

        Raises NotInBucket if the object was deleted, or replaced by another one.
        """

    async def present(self, prefix: str) -> frozenset[str]:
        """The keys right under a prefix, which ends with a slash."""

    async def listed(self, prefix: str) -> dict[str, StoredObject]:
        """The objects right under a prefix, by key."""

    async def delete(self, key: str) -> None:
        """Delete an object, if it exists."""

    async def check_writable(self) -> None:
        """Raises BucketUnavailable, with what to do, if an operator has to act before anything can be stored."""

    async def aclose(self) -> None:
        """Close connections."""
