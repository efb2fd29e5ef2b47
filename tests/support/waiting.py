"""Waiting for a condition in asynchronous tests; processes.wait_until is for the others."""

import inspect
from collections.abc import Callable
from typing import Any

import anyio

LONGEST_WAIT_S = 20


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition, which may be asynchronous, is true; fails after some seconds."""
    with anyio.fail_after(LONGEST_WAIT_S):
        while not await _result(condition()):
            await anyio.sleep(0.01)


async def _result(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found
