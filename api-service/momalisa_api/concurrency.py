"""What anyio lacks for code that does several things at once: plain exceptions, and calls that are shared."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


@asynccontextmanager
async def task_group(*, finish_on: type[Exception] | tuple[()] = ()) -> AsyncIterator[TaskGroup]:
    """A task group that raises the first exception of its tasks as it is, and not in an exception group.

    finish_on: an exception of the body that does not cancel the tasks: it is raised when they are done.
    """
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except finish_on as error:
                failure = error
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
    if failure:
        raise failure


@dataclass
class _Flight(Generic[T]):
    """A call in progress. result: empty if it failed or was cancelled."""

    over: anyio.Event = field(default_factory=anyio.Event)
    result: list[T] = field(default_factory=list)
    error: Exception | None = None


class SingleFlight(Generic[T]):
    """Calls with the same key that are made at the same time are one call, and share its result or exception."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def do(self, key: str, act: Callable[[], Awaitable[T]]) -> T:
        """The result of `act`, or of the call with this key that is in progress."""
        while flight := self._flights.get(key):
            await flight.over.wait()
            if flight.error:
                raise flight.error
            if flight.result:
                return flight.result[0]
            # The task that made the call was cancelled: this one makes it, if no other does.
        flight = self._flights[key] = _Flight()
        try:
            flight.result.append(await act())
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.over.set()
        return flight.result[0]

    async def do_next(self, key: str, act: Callable[[], Awaitable[T]]) -> T:
        """The result of a call that begins after this one, shared by all who come while the call before it runs."""
        if flight := self._flights.get(key):
            await flight.over.wait()
        return await self.do(key, act)
