"""Reads objects one after the other while the next ones are already on their way. Knows nothing of walks."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

T = TypeVar("T")
Read = Callable[[int], Awaitable[bytes]]


async def read_ahead(read: Callable[[int], Awaitable[T]], numbers: Iterable[int], ahead: int) -> AsyncGenerator[T]:
    """What `read` returns for each number, in their order; `ahead` calls at a time. Close it with `aclosing`.

    Raises what `read` raises, when it is that number's turn. No call is left behind.
    """

    async def content(number: int) -> T:
        return await read(number)

    # Not a task group: it would cancel whoever iterates, in the middle of something else.
    calls: deque[asyncio.Task[T]] = deque()
    try:
        for number in numbers:
            calls.append(asyncio.create_task(content(number)))
            if len(calls) == ahead:
                yield await calls[0]
                calls.popleft()
        while calls:
            yield await calls[0]
            calls.popleft()
    finally:
        for call in calls:
            call.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*calls, return_exceptions=True)
