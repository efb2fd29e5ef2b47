"""How rendering is told to stop early. Plain Python, no tensors."""

from __future__ import annotations

from collections.abc import Callable

ShouldStop = Callable[[], bool]


def never() -> bool:
    """A ShouldStop that never cancels."""
    return False


class Cancelled(Exception):
    """Rendering ended early because should_stop() was true."""
