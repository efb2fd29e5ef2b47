"""Lists folders of the bucket, and marks them, once for all shards that begin together."""

from functools import partial
from typing import Final

import anyio

from momalisa_api.concurrency import SingleFlight
from momalisa_api.store.bucket import Bucket

# Shards of one round begin together. Shorter than any lease: a shard that was taken over gets a new listing.
RECENT_S: Final = 0.5


class Listings:
    """Shared listings. What was stored meanwhile is missing, so its frames may be rendered a second time."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._calls: SingleFlight[frozenset[str]] = SingleFlight()
        self._recent: dict[str, tuple[float, frozenset[str]]] = {}

    async def recent(self, folder: str) -> frozenset[str]:
        """The keys right under a prefix, at most RECENT_S ago."""
        self._drop_old()
        return self._recent[folder][1] if folder in self._recent else await self.present(folder)

    async def present(self, folder: str) -> frozenset[str]:
        """The keys right under a prefix, listed now."""
        return await self._calls.do(folder, partial(self._list, folder))

    async def mark(self, key: str) -> None:
        """Store an empty object, unless this was done at most RECENT_S ago."""
        self._drop_old()
        if key not in self._recent:
            await self._calls.do(key, partial(self._put, key))

    async def _list(self, folder: str) -> frozenset[str]:
        began_at = anyio.current_time()
        keys = await self._bucket.present(folder)
        self._recent[folder] = began_at, keys
        return keys

    async def _put(self, key: str) -> frozenset[str]:
        await self._bucket.put(key, b"")
        self._recent[key] = anyio.current_time(), frozenset({key})
        return frozenset({key})

    def _drop_old(self) -> None:
        self._recent = {key: kept for key, kept in self._recent.items() if anyio.current_time() - kept[0] < RECENT_S}
