"""Delays between attempts: exponential, with a limit. Callers decide which errors are retried.

stamina is used where the number of attempts is limited (cli/client.py), and logs every attempt. Calls that are retried
here continue through an outage, which outages.py logs once.
"""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

Result = TypeVar("Result")


def delay_s(failures: int, first_s: float, longest_s: float, factor: float = 2.0) -> float:
    """Seconds to wait after a number of failures in a row: `first_s` after one, `factor` times more after each other.

    At most `longest_s`, which must be at least `first_s`; factor: at least 1. Works for any number of failures.
    """
    steps = max(0, failures - 1)
    # Compared as logarithms: 2.0 ** 1024 raises OverflowError.
    if steps * math.log(factor) >= math.log(longest_s / first_s):
        return longest_s
    return first_s * factor**steps


async def retry_forever(
    act: Callable[[], Awaitable[Result]], on: type[Exception], *, first_s: float, longest_s: float
) -> Result:
    """Call `act` until it returns, waiting after each `on` that it raises. Raises whatever else it raises."""
    failures = 0
    while True:
        try:
            return await act()
        except on:
            failures += 1
            await anyio.sleep(delay_s(failures, first_s, longest_s))


async def repeat_forever(
    act: Callable[[], Awaitable[object]], every_s: float, *, longest_s: float, failed: Callable[[Exception], None]
) -> None:
    """Call `act` every `every_s` seconds; after failures in a row wait longer, at most `longest_s` (or `every_s`).

    failed: receives each exception that `act` raises.
    """
    failures = 0
    while True:
        try:
            await act()
            failures = 0
        except Exception as error:
            failed(error)
            failures += 1
        await anyio.sleep(delay_s(failures, every_s, max(every_s, longest_s)))
