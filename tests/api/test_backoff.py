"""Delays between attempts stay finite after any number of failures, in the helper and where it is used."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momalisa_api.backoff import delay_s, repeat_forever, retry_forever
from momalisa_api.fleet.dispatch import ReplicaSlot, ShardTask
from momalisa_api.fleet.fleet import LONGEST_LOSS_PAUSE_S, Fleet
from momalisa_api.fleet.replica import ReplicaLost
from momalisa_api.metrics import Metrics
from momalisa_api.store.queue import Job, Kind
from momalisa_api.work.worker import LONGEST_TROUBLE_PAUSE_S, Worker
from tests.support.factories import spec

pytestmark = pytest.mark.anyio
MANY = 5000


@given(
    failures=st.integers(0, 10**9),
    first_s=st.floats(1e-3, 10),
    ratio=st.floats(1, 1e6),
    factor=st.floats(1, 10),
)
def test_a_delay_is_between_the_first_and_the_longest_and_never_shrinks(failures, first_s, ratio, factor):
    """After any number of failures: 2.0 ** 1024 raises OverflowError, and a worker must survive an outage of days."""
    longest_s = first_s * ratio
    delay = delay_s(failures, first_s, longest_s, factor)
    assert first_s <= delay <= longest_s
    assert delay <= delay_s(failures + 1, first_s, longest_s, factor)


def test_delays_double_from_the_first_to_the_longest():
    """The first failure waits the shortest time."""
    assert [delay_s(failures, 0.25, 3.0) for failures in range(7)] == [0.25, 0.25, 0.5, 1.0, 2.0, 3.0, 3.0]


async def test_a_call_is_retried_through_thousands_of_failures():
    """A claim on a job is released however long the catalogue is unavailable."""
    calls = 0

    async def fail() -> int:
        nonlocal calls
        calls += 1
        if calls <= MANY:
            raise OSError("no route")
        return calls

    assert await retry_forever(fail, OSError, first_s=1e-9, longest_s=1e-6) == MANY + 1


async def test_an_error_that_is_not_retried_is_raised():
    """A bug must not be retried for ever."""

    async def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await retry_forever(fail, OSError, first_s=0.01, longest_s=1)


async def test_a_periodic_task_survives_thousands_of_failures_and_reports_each():
    """The reconciler of a worker must run for as long as the worker does."""
    failures: list[Exception] = []
    over = anyio.Event()

    async def fail() -> None:
        if len(failures) == MANY:
            over.set()
            await anyio.sleep_forever()
        raise RuntimeError("broken")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(repeat_forever, fail, 1e-9, longest_s=1e-6, failed=failures.append))
            await over.wait()
            tasks.cancel_scope.cancel()
    assert len(failures) == MANY


async def test_a_replica_that_loses_thousands_of_shards_pauses_no_longer_than_the_limit(fleet):
    """Loss 1,025 in a row once raised OverflowError, which ended the worker."""
    slot = ReplicaSlot(SimpleNamespace(url="http://replica-1"))  # type: ignore[arg-type]
    send, receive = anyio.create_memory_object_stream[Any](0)
    async with fleet.client() as client:
        options: dict[str, Any] = {"refresh_s": 1, "shard_tries": MANY + 1, "backups": False}
        dispatcher = Fleet("http://replica-1", client, SimpleNamespace(), Metrics(), **options)  # type: ignore[arg-type]
        task = ShardTask(spec().recipes(0)[0], {0.0}, send)
        pauses_s = [dispatcher._lose(slot, task, ReplicaLost("out of memory")) for _ in range(MANY)]
    receive.close()
    send.close()
    assert pauses_s[:3] == [0.25, 0.5, 1.0]
    assert pauses_s[-1] == max(pauses_s) == LONGEST_LOSS_PAUSE_S


async def test_a_walk_that_meets_thousands_of_troubles_is_retried_within_the_limit():
    """Trouble 1,752, after some 45 minutes without the bucket, once ended the job silently."""
    worker = Worker(*[SimpleNamespace()] * 9, max_shards_in_flight=2, reconcile_s=1, poll_s=1)  # type: ignore[arg-type]
    pauses_s = [worker._pause_s(Job(Kind.RENDER, "5" * 32, 1)) for _ in range(MANY)]
    assert pauses_s[:3] == [1.0, 1.5, 2.25]
    assert pauses_s[-1] == max(pauses_s) == LONGEST_TROUBLE_PAUSE_S
