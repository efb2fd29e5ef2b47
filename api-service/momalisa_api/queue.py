"""The line of shards between the walks that want them and the worker that has them rendered."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import anyio
from anyio.abc import TaskGroup

from momalisa_api.walk import Shard


class Queue:
    """Shards in the order they came, some of them in hand. It lives in this process."""

    def __init__(self, in_hand: int) -> None:
        """in_hand: how many shards are handled at a time."""
        self._in_hand = in_hand
        self._line: deque[Shard] = deque()
        self._arrived = anyio.Event()
        self._scopes: dict[str, set[anyio.CancelScope]] = {}

    async def enqueue(self, shards: Iterable[Shard]) -> None:
        """Put shards at the end of the line."""
        self._line.extend(shards)
        self._arrived.set()

    async def run(self, handle: Callable[[Shard], Awaitable[None]]) -> None:
        """Hand out shards for ever, several at a time. `handle` must not raise."""
        places = anyio.Semaphore(self._in_hand)
        async with anyio.create_task_group() as tasks:
            while True:
                await places.acquire()
                shard = await self._next()
                self._hand_out(tasks, places, shard, handle)

    async def cancel(self, walk_id: str) -> None:
        """Forget a walk's shards: those in line, and those in hand, which are cancelled."""
        self._line = deque(shard for shard in self._line if shard.walk_id != walk_id)
        for scope in self._scopes.get(walk_id, ()):
            scope.cancel()

    async def _next(self) -> Shard:
        while not self._line:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._line.popleft()

    def _hand_out(
        self,
        tasks: TaskGroup,
        places: anyio.Semaphore,
        shard: Shard,
        handle: Callable[[Shard], Awaitable[None]],
    ) -> None:
        scope = anyio.CancelScope()
        # Entered before the task first runs: a cancel that comes in between must find the shard.
        self._scopes.setdefault(shard.walk_id, set()).add(scope)

        async def work() -> None:
            try:
                with scope:
                    await handle(shard)
            finally:
                self._scopes[shard.walk_id].discard(scope)
                if not self._scopes[shard.walk_id]:
                    del self._scopes[shard.walk_id]
                places.release()

        tasks.start_soon(work)
