"""Keeps the last things that an engine has computed for recipes, in any thread. Computes nothing itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The last things by their keys. Only one is computed at a time, and none twice while it is kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing with this key, computed by `make` unless it is kept. Raises what `make` raises; keeps nothing then.

        key: a recipe, for example, which is hashable.
        """
        with self._lock:
            if key not in self._things:
                # Before the new one is there: at most so many are in memory.
                while len(self._things) >= self._most:
                    self._things.popitem(last=False)
                self._things[key] = make()
            self._things.move_to_end(key)
            return self._things[key]
