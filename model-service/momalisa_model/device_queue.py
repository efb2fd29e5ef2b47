"""One shard at a time on the device, and a queue of limited length before it. Independent of what a shard does.

A shard that fails is followed by a self-test. If that fails too, the device is the cause, and nothing is rendered any
more: `failed` becomes true, and the server ends the process.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic, perf_counter
from typing import TypeVar

import anyio
import structlog
from anyio import from_thread, to_thread
from anyio.lowlevel import current_token

from momalisa_model.cancellation import Cancelled, ShouldStop
from momalisa_model.device_errors import free_memory, is_lost, ran_out_of_memory
from momalisa_model.metrics import Metrics
from momalisa_model.packing import Finish, Packers, Packing
from momalisa_model.problems import DeviceFailed, OutOfMemory, Problem, QueueFull, Stopping

T = TypeVar("T")

FIRST_ESTIMATE_S = 2.0
WEIGHT_OF_NEWEST = 0.3


class DeviceQueue:
    """Gives the device to one shard after another, in the order of their arrival."""

    def __init__(self, length: int, metrics: Metrics, self_test: Callable[[], None]) -> None:
        """length: number of shards that may wait while one is on the device.

        self_test: renders something that has worked before; raises anything if it does not work any more. Called on the
        device after each shard that failed.
        """
        self._length = length
        self._metrics = metrics
        self._self_test = self_test
        self.failed = False
        self._device = anyio.CapacityLimiter(1)
        self._preparing = anyio.CapacityLimiter(1)
        self._packers = Packers(metrics)
        self._taken = 0
        self._estimate_s = FIRST_ESTIMATE_S
        self._closes_at = inf

    def close(self, grace_s: float) -> None:
        """Stop all shards after grace_s seconds; unfinished ones raise Stopping. Safe to call in a signal handler."""
        self._closes_at = min(self._closes_at, monotonic() + grace_s)

    def _closed(self) -> bool:
        return monotonic() >= self._closes_at

    async def run(
        self,
        work: Callable[[ShouldStop], Iterator[Finish[T]]],
        deliver: Callable[[T], None],
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait for the device, run work in a thread, and deliver the items of what it yields on the event loop.

        work yields what is left to do beside the device: a packing thread calls it, in order, and its items are
        delivered. prepare: called in a thread if the device is in use; work finds what it has prepared, and meets its
        errors again. Call this within `slot`. If the surrounding scope is cancelled, should_stop() becomes true for
        work, and this returns when work does. Raises Cancelled or a Problem: OutOfMemory, Stopping, those of work,
        DeviceFailed if the self-test fails too, and a plain one for all other errors of work, which are logged.
        """
        if self._device.borrowed_tokens:
            with suppress(Exception):
                await to_thread.run_sync(prepare, limiter=self._preparing)
        loop = current_token()
        packing = Packing[T](self._packers, lambda item: from_thread.run_sync(deliver, item, token=loop))
        problem = await to_thread.run_sync(self._render, work, packing, limiter=self._device)
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(packing.wait)
            if packing.error and not problem:
                problem = await to_thread.run_sync(self._failure, packing.error, limiter=self._device)
        if problem:
            raise problem
        self._count("done")

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place on the device or in the queue during the block. Raises QueueFull if all are taken."""
        if self._taken > self._length:
            self._metrics.turned_away.inc()
            wait_s = self._estimate_s * self._taken
            raise QueueFull(f"All {self._taken} places for shards are taken. Retry in {wait_s:.0f} s.", wait_s)
        self._taken += 1
        self._metrics.queue_depth.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._metrics.queue_depth.set(self._taken)

    def _render(
        self, work: Callable[[ShouldStop], Iterator[Finish[T]]], packing: Packing[T]
    ) -> Problem | Cancelled | None:
        """In the device's thread: run one shard to its end. Returns what stopped it, if anything."""
        began, done = perf_counter(), False

        def should_stop() -> bool:
            return _task_cancelled() or self._closed() or packing.error is not None

        try:
            for finish in work(should_stop):
                packing.add(finish, should_stop)
            done = True
            return None
        except Cancelled:
            if packing.error is None:
                return self._stopped()
            failure: Exception = packing.error
        except Exception as error:
            failure = error.with_traceback(None) if isinstance(error, Problem) else error
        finally:
            self._record(perf_counter() - began, done)
        return self._failure(failure)

    def _stopped(self) -> Problem | Cancelled:
        if self._closed():
            self._count("stopped")
            return Stopping("This replica is shutting down. Send the request to another one.")
        self._count("cancelled")
        self._metrics.cancelled.inc()
        return Cancelled()

    def _failure(self, error: Exception) -> Problem:
        """The problem of a shard that has failed, or DeviceFailed. Holds the device meanwhile."""
        if out_of_memory := ran_out_of_memory(error):
            self._metrics.out_of_memory.inc()
        self._count("out of memory" if out_of_memory else "failed")
        problem = _problem_for(error)
        # The traceback refers to tensors.
        error.__traceback__ = None
        free_memory()
        if is_lost(error):
            return self.give_up(problem)
        return self._test_device() or problem

    def _test_device(self) -> DeviceFailed | None:
        """DeviceFailed if the device, and not the shard, is the cause of a failure."""
        try:
            self._self_test()
        except Exception as error:
            failure = error
        else:
            return None
        return self.give_up(failure)

    def give_up(self, error: Exception) -> DeviceFailed:
        """Render nothing any more, and let the server end the process. Safe to call in any thread."""
        structlog.get_logger().error("the device has failed; this process ends", exc_info=error)
        self.failed = True
        self._metrics.ready.set(0)
        self.close(0)
        error.__traceback__ = None
        free_memory()
        return DeviceFailed("The device of this replica has failed. Send the request to another one.")

    def _record(self, seconds: float, done: bool) -> None:
        self._metrics.shard_seconds.observe(seconds)
        if done:
            self._estimate_s += WEIGHT_OF_NEWEST * (seconds - self._estimate_s)

    def _count(self, outcome: str) -> None:
        self._metrics.shards.labels(outcome=outcome).inc()


def _task_cancelled() -> bool:
    """Whether the task that waits for this thread was cancelled."""
    try:
        from_thread.check_cancelled()
    except CancelledError:
        return True
    return False


def _problem_for(error: Exception) -> Problem:
    if ran_out_of_memory(error):
        return OutOfMemory(
            "The device has too little memory for this request. Request fewer pixels, or set a smaller micro_batch in "
            "the model card of the api and all replicas."
        )
    if isinstance(error, Problem):
        return error.with_traceback(None)
    structlog.get_logger().error("shard failed", exc_info=error)
    return Problem("Rendering failed; the replica's log has the details. Retry.")
