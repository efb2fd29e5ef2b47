"""One shard at a time on the device, and a bounded line before it. Knows nothing of what a shard is."""

from __future__ import annotations

import gc
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic, perf_counter
from typing import TypeVar

import anyio
import torch
from anyio import from_thread, to_thread

from momalisa_model.metrics import Metrics
from momalisa_model.problems import OutOfMemory, QueueFull, Stopping
from momalisa_model.sampler import Cancelled, ShouldStop

T = TypeVar("T")

FIRST_GUESS_S = 2.0
WEIGHT_OF_THE_NEWEST = 0.3
# What is said where torch has no exception type of its own: by its CPU allocator, Apple's, oneDNN, cuBLAS and cuDNN.
NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "could not create a memory object",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Unable to find a valid cuDNN algorithm",
)


class DeviceQueue:
    """Hands the device to one shard after another, in the order they came."""

    def __init__(self, length: int, metrics: Metrics) -> None:
        """length: shards that may wait while one is on the device."""
        self._length = length
        self._metrics = metrics
        self._device = anyio.CapacityLimiter(1)
        self._inside = 0
        self._usual_s = FIRST_GUESS_S
        self._closes_at = inf

    def close(self, grace_s: float) -> None:
        """Let shards go on for so many seconds; what is not done by then ends as Stopping. Fit for a signal handler."""
        self._closes_at = min(self._closes_at, monotonic() + grace_s)

    def _closed(self) -> bool:
        return monotonic() >= self._closes_at

    async def run(self, work: Callable[[ShouldStop], Iterator[T]], deliver: Callable[[T], None]) -> None:
        """Wait for the device, work in a thread, and hand over each piece (on the event loop) as it is ready.

        To be called from a place in line. Where the surrounding scope is cancelled, work hears it from its
        should_stop, and this returns when work has. Raises OutOfMemory, Stopping, Cancelled, and whatever else work
        raises.
        """
        await to_thread.run_sync(self._work, work, deliver, limiter=self._device)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A place on the device or in line, for as long as the block lasts. Raises QueueFull where all are taken."""
        if self._inside > self._length:
            self._metrics.turned_away.inc()
            waiting_s = self._usual_s * self._inside
            raise QueueFull(f"{self._inside} shards are here already; come back in {waiting_s:.0f} s.", waiting_s)
        self._inside += 1
        self._metrics.queue_depth.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.queue_depth.set(self._inside)

    def _work(self, work: Callable[[ShouldStop], Iterator[T]], deliver: Callable[[T], None]) -> None:
        """In the worker thread: drive one shard to its end, and write down how it ended."""
        began, outcome = perf_counter(), "failed"
        try:
            for piece in work(lambda: _hung_up() or self._closed()):
                from_thread.run_sync(deliver, piece)
            outcome = "done"
        except Cancelled:
            if self._closed():
                outcome = "stopped"
                raise Stopping("This replica is shutting down; ask another one.") from None
            outcome = "cancelled"
            self._metrics.cancelled.inc()
            raise
        except (MemoryError, RuntimeError) as error:
            if not _ran_out_of_memory(error):
                raise
            outcome = "out of memory"
            self._metrics.out_of_memory.inc()
        finally:
            self._write_down(perf_counter() - began, outcome)
        if outcome == "out of memory":
            # Out here the failed tensors are nobody's any more: the traceback that held them is gone.
            _give_memory_back()
            raise OutOfMemory(
                "Ask for fewer pixels, or put a smaller micro_batch into the model card that the api and all replicas "
                "are given. The replica goes on."
            )

    def _write_down(self, seconds: float, outcome: str) -> None:
        self._metrics.shards.labels(outcome=outcome).inc()
        self._metrics.shard_seconds.observe(seconds)
        if outcome == "done":
            self._usual_s += WEIGHT_OF_THE_NEWEST * (seconds - self._usual_s)


def _hung_up() -> bool:
    """Whether the task that waits for this thread has been cancelled."""
    try:
        from_thread.check_cancelled()
    except CancelledError:
        return True
    return False


def _ran_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in NO_MEMORY)


def _give_memory_back() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
