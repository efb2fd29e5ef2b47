"""What happens beside the device: PNGs, order, limits, errors, and the preparation of the next shard."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator

import anyio
import numpy as np
import pytest
from PIL import Image

from momalisa_model.cancellation import Cancelled
from momalisa_model.device_queue import DeviceQueue
from momalisa_model.metrics import Metrics
from momalisa_model.packing import THREADS
from momalisa_model.png import encode_png
from momalisa_model.problems import NotANumber
from tests.support.model_server import wait_until

pytestmark = pytest.mark.anyio
LIMIT_S = 20


@pytest.fixture
def tests() -> list[None]:
    """One item for each self-test of `queue`."""
    return []


@pytest.fixture
def queue(tests) -> DeviceQueue:
    return DeviceQueue(4, Metrics(), lambda: tests.append(None))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (64, 40)])
@pytest.mark.parametrize("contrast", [0, 255])
def test_a_picture_decodes_to_equal_pixels(height, width, contrast):
    """The encoder is our own; differences between rows are computed modulo 256."""
    noise = np.random.default_rng(0).integers(0, contrast + 1, (height, width, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(noise))) as decoded:
        assert (decoded.mode, decoded.size) == ("RGB", (width, height))
        np.testing.assert_array_equal(np.asarray(decoded), noise)


async def test_the_next_shard_renders_while_the_last_one_is_packed(queue):
    """Otherwise a GPU would be idle for as long as PNGs are compressed."""
    rendering, delivered = threading.Event(), []

    def packed_late() -> Iterator[str]:
        assert rendering.wait(LIMIT_S)
        yield "first"

    def second(_: Callable[[], bool]) -> Iterator[Callable[[], list[str]]]:
        rendering.set()
        yield lambda: ["second"]

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.run, lambda _: iter([packed_late]), delivered.append)
            tasks.start_soon(queue.run, second, delivered.append)
    assert sorted(delivered) == ["first", "second"]


async def test_frames_arrive_in_order_although_a_later_batch_is_packed_first(queue):
    """The caller requested an order."""
    later_done, delivered = threading.Event(), []

    def slow() -> Iterator[int]:
        assert later_done.wait(LIMIT_S)
        yield from (0, 1)

    def fast() -> Iterator[int]:
        later_done.set()
        yield from (2, 3)

    await queue.run(lambda _: iter([slow, fast]), delivered.append)
    assert delivered == [0, 1, 2, 3]


async def test_the_device_waits_for_packing_that_is_slower(queue):
    """Otherwise finished pictures would fill the memory."""
    held, unfinished, most = threading.Event(), [], []

    def pack() -> list[int]:
        assert held.wait(LIMIT_S)
        unfinished.pop()
        return [0]

    def work(_: Callable[[], bool]) -> Iterator[Callable[[], list[int]]]:
        for _batch in range(3 * THREADS):
            unfinished.append(None)
            most.append(len(unfinished))
            if len(unfinished) == THREADS + 1:
                held.set()
            yield pack

    await queue.run(work, lambda _: None)
    assert max(most) == THREADS + 1, "one batch on the device, and one in each thread"


@pytest.mark.parametrize("rendering_goes_on", [True, False])
async def test_an_error_while_packing_fails_the_shard_and_tests_the_device(queue, tests, rendering_goes_on):
    """Invalid numbers are noticed there. The shard must not use the device for frames that nobody will get."""
    delivered = []

    def fail() -> list[int]:
        raise NotANumber("overflow")

    def work(should_stop: Callable[[], bool]) -> Iterator[Callable[[], list[int]]]:
        yield lambda: [0]
        yield fail
        if rendering_goes_on:
            wait_until(should_stop)
            raise Cancelled

    with pytest.raises(NotANumber):
        await queue.run(work, delivered.append)
    assert delivered == [0]
    assert len(tests) == 1


async def test_a_shard_is_prepared_while_another_is_on_the_device(queue):
    """The prompts of the next shard are encoded by the time the device is free. An error there is work's to report."""
    begun, prepared, order = threading.Event(), threading.Event(), []

    def prepare() -> None:
        order.append("prepared")
        prepared.set()
        raise RuntimeError("the shard would meet the same error on the device")

    def first(_: Callable[[], bool]) -> Iterator[Callable[[], list[str]]]:
        begun.set()
        assert prepared.wait(LIMIT_S)
        yield lambda: ["first"]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run, first, order.append)
        assert await anyio.to_thread.run_sync(begun.wait, LIMIT_S)
        tasks.start_soon(queue.run, lambda _: iter([lambda: ["second"]]), order.append, prepare)
    assert order == ["prepared", "first", "second"]


def test_the_embeddings_of_recent_prompts_are_kept(server):
    """The shards of one leg have the same three prompts."""
    encoder, runs = server.ready.engine.sampler.weights.pipeline.text_encoder, []
    hook = encoder.register_forward_pre_hook(lambda *_: runs.append(None))
    try:
        for _ in range(2):
            assert server.render([0.5], start="never rendered before", end="nor this").status_code == 200
    finally:
        hook.remove()
    assert len(runs) == 2, "the empty negative prompt was encoded by the warm-up"
