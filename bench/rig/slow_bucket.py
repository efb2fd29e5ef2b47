"""A bucket in a folder whose calls take as long as those of an object store, and are counted."""

from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import anyio

from momalisa_api.store.bucket import StoredObject
from momalisa_api.store.folder import FolderBucket

T = TypeVar("T")
# As many calls at a time as store/gcs.py makes.
CALLS_AT_A_TIME = 32


class SlowBucket(FolderBucket):
    """call_s: what each call takes longer than with a folder. calls: their number, by kind."""

    def __init__(self, root: Path, call_s: float) -> None:
        super().__init__(root)
        self._call_s = call_s
        self._calls = anyio.CapacityLimiter(CALLS_AT_A_TIME)
        self.calls: Counter[str] = Counter()

    async def put(self, key: str, content: bytes) -> bool:
        return await self._slowly("put", super().put(key, content))

    async def put_file(self, key: str, source: Path) -> bool:
        return await self._slowly("put", super().put_file(key, source))

    async def get(self, key: str) -> bytes:
        return await self._slowly("get", super().get(key))

    async def present(self, prefix: str) -> frozenset[str]:
        return await self._slowly("list", super().present(prefix))

    async def listed(self, prefix: str) -> dict[str, StoredObject]:
        return await self._slowly("list", super().listed(prefix))

    async def _slowly(self, kind: str, call: Awaitable[T]) -> T:
        self.calls[kind] += 1
        async with self._calls:
            await anyio.sleep(self._call_s)
            return await call
