"""Threads that finish micro-batches beside the device: check, PNG, base64. Independent of what finishing is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from time import perf_counter
from typing import Generic, TypeVar

from momalisa_model.metrics import Metrics

T = TypeVar("T")
Finish = Callable[[], Iterable[T]]

THREADS = 2
# While a shard waits for a thread.
CHECK_S = 0.05


class Packers:
    """The packing threads of a replica. No more micro-batches than threads are unfinished, which bounds memory."""

    def __init__(self, metrics: Metrics) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="packing")
        self._free = Semaphore(THREADS)
        self._metrics = metrics

    def submit(self, work: Callable[[], None], should_stop: Callable[[], bool]) -> Future[None] | None:
        """Run work in a thread. Waits until one is free; returns None if should_stop() becomes true before."""
        began = perf_counter()
        while not self._free.acquire(timeout=CHECK_S):
            if should_stop():
                return None
        self._metrics.packing_wait_seconds.inc(perf_counter() - began)
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._free.release())
        return future


class Packing(Generic[T]):
    """Finishes the micro-batches of one shard, and delivers their items in order, until one raises an error.

    error: what was raised, if anything.
    """

    def __init__(self, packers: Packers, deliver: Callable[[T], object]) -> None:
        """deliver: called in a packing thread for each item."""
        self._packers = packers
        self._deliver = deliver
        self._last: Future[None] | None = None
        self.error: Exception | None = None

    def add(self, finish: Finish[T], should_stop: Callable[[], bool]) -> None:
        """Finish a micro-batch after the earlier ones. Waits for a free thread, or until should_stop()."""
        earlier = self._last
        self._last = self._packers.submit(lambda: self._run(finish, earlier), should_stop) or earlier

    def wait(self) -> None:
        """Wait until everything is delivered, or until `error` is set."""
        if self._last:
            self._last.result()

    def _run(self, finish: Finish[T], earlier: Future[None] | None) -> None:
        try:
            for item in finish():
                if earlier:
                    earlier.result()
                if self.error:
                    return
                self._deliver(item)
        except Exception as error:
            self.error = self.error or error
