"""Requests take turns: a few are worked on at a time, the others wait in line, or are told when to come back.

If a process worked on a thousand requests at once, each step of one would wait for a step of all others, until the
database's time limits end them half done. Walks, which the same process may render, would wait as long.
"""

import secrets as dice
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from momalisa_api.problems import Busy

# They keep a core busy, and leave connections to the catalogue for uploads and for rendering.
TURNS: Final = 8
LONGEST_TURN_WAIT_S: Final = 5.0
REQUESTS_WAITING: Final = 1000
# All who are refused at the same time must not come back at the same time, and leave nothing to do until then.
BUSY_RETRY_S: Final = range(3, 13)


class Turn:
    """One request's turn. It ends with the request, or before, when the request only waits for something."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._ended = False

    def end(self) -> None:
        """Let the next request begin. Ending it again changes nothing."""
        if not self._ended:
            self._ended = True
            self._release()


class Turns:
    """The turns of one process, in the order in which requests came."""

    def __init__(self, at_once: int = TURNS, wait_s: float = LONGEST_TURN_WAIT_S, line: int = REQUESTS_WAITING) -> None:
        """at_once: requests that are worked on; wait_s: how long one may wait; line: how many may wait."""
        self._free = anyio.Semaphore(at_once)
        self._wait_s = wait_s
        self._line = line

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        """Wait for a turn. Raises Busy if that takes too long, and at once if too many wait."""
        if self._free.statistics().tasks_waiting >= self._line:
            raise _busy()
        with anyio.move_on_after(self._wait_s) as waited:
            await self._free.acquire()
        if waited.cancelled_caught:
            raise _busy()
        turn = Turn(self._free.release)
        try:
            yield turn
        finally:
            turn.end()


def _busy() -> Busy:
    return Busy(dice.choice(BUSY_RETRY_S))
