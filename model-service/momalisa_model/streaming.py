"""The response to POST /v1/render: JSON lines, each as soon as its frame is ready; a disconnect cancels the work."""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from momalisa_model.cancellation import Cancelled, ShouldStop, never
from momalisa_model.device_queue import DeviceQueue
from momalisa_model.engines.engine import Extra, Frame, Prepared
from momalisa_model.lifecycle import LoadedModel
from momalisa_model.metrics import Metrics
from momalisa_model.packing import Finish
from momalisa_model.pictures import Pictures
from momalisa_model.problem_json import document, problem_response
from momalisa_model.problems import Problem, QueueFull
from momalisa_model.wire import ExtraLine, FrameLine, Head, ProblemLine, RenderRequest

Line = Head | ExtraLine | FrameLine


@dataclass(frozen=True)
class Shard:
    """The work of one request, for the device queue."""

    request: RenderRequest
    model: LoadedModel
    metrics: Metrics
    pictures: Pictures = field(default_factory=dict)

    def prepare(self) -> None:
        """Prepare the recipe while the device is in use, if the engine can; `render` finds what it keeps."""
        if self.model.engine.prepares_beside:
            self.model.engine.prepare(self.request, self.pictures, never)

    def render(self, should_stop: ShouldStop) -> Iterator[Finish[Line]]:
        """Prepare the recipe, then render the frames. Yields what turns them into lines beside the device."""
        engine, answer = self.model.engine, self.model.answer
        prepared = engine.prepare(self.request, self.pictures, should_stop)
        card = answer.card
        head = Head(
            model=card.model, revision=card.revision, fingerprint=answer.fingerprint, warnings=prepared.warnings
        )
        first: tuple[Head, ...] = (head,)
        if self.request.extras:
            yield partial(self._extras, head, prepared)
            first = ()
        for finish in engine.batches(self.request, prepared, self.pictures, should_stop):
            yield partial(self._lines, first, finish)
            first = ()

    def _extras(self, head: Head, prepared: Prepared) -> Iterator[Line]:
        yield head
        for extra in self.model.engine.extras(prepared):
            self.metrics.extras.labels(model=self.model.card.model).inc()
            yield _extra_line(extra)

    def _lines(self, first: tuple[Head, ...], finish: Finish[Frame]) -> Iterator[Line]:
        yield from first
        metrics, model = self.metrics, self.model.card.model
        for frame in finish():
            metrics.frames.labels(model=model).inc()
            metrics.frame_seconds.labels(model=model).observe(frame.seconds)
            metrics.marked.labels(model=model).inc(frame.marked)
            yield _line_of(frame)


def _extra_line(extra: Extra) -> ExtraLine:
    data = base64.b64encode(extra.data).decode("ascii")
    return ExtraLine(extra=extra.name, media_type=extra.media_type, data=data)


def _line_of(frame: Frame) -> FrameLine:
    png = base64.b64encode(frame.png).decode("ascii")
    return FrameLine(fraction=frame.fraction, png=png, seconds=round(frame.seconds, 6), marked=frame.marked)


class FramesResponse(Response):
    """Sends the status with the first frame or the first error, and cancels the shard when the caller disconnects.

    It uses receive and send itself, because it must notice a disconnect while there is nothing to send yet.
    send_timeout_s: how long the caller may take to read the rest once all frames are rendered.
    """

    media_type = "application/jsonl"

    def __init__(self, shard: Shard, queue: DeviceQueue, send_timeout_s: float) -> None:
        super().__init__()
        # The length is unknown until the last frame is rendered: the response is chunked.
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self._shard = shard
        self._queue = queue
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Render and send. Answers with QueueFull if the queue has no slot left."""
        try:
            # Kept until everything is sent, so that the queue's length also limits the frames that wait for a reader.
            with self._queue.slot():
                await self._respond(scope, receive, send)
        except QueueFull as problem:
            await problem_response(problem)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = False
        # Unbounded, so that a slow reader never blocks the device; the number of frames of a request is the limit.
        outbox, inbox = anyio.create_memory_object_stream[Line | Problem](math.inf)
        with inbox:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_on_disconnect, receive, tasks.cancel_scope)
                tasks.start_soon(self._render, outbox, tasks.cancel_scope)
                await self._send_all(inbox, scope, receive, send)
                sent = True
                tasks.cancel_scope.cancel()
            # Cancelled tasks are in reference cycles, which keep unsent frames alive until a full collection.
            with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
                while True:
                    inbox.receive_nowait()
        if not sent and anyio.current_time() >= tasks.cancel_scope.deadline:
            structlog.get_logger().warning(
                "caller did not read in time; response cut off", seconds=self._send_timeout_s
            )

    async def _render(self, outbox: MemoryObjectSendStream[Line | Problem], response: anyio.CancelScope) -> None:
        with outbox:
            try:
                await self._queue.run(self._shard.render, outbox.send_nowait, self._shard.prepare)
            except Cancelled:
                structlog.get_logger().info("caller disconnected; shard cancelled")
            except Problem as problem:
                outbox.send_nowait(problem)
            response.deadline = anyio.current_time() + self._send_timeout_s

    async def _send_all(
        self, inbox: MemoryObjectReceiveStream[Line | Problem], scope: Scope, receive: Receive, send: Send
    ) -> None:
        head = b""
        started = False
        async for item in inbox:
            if isinstance(item, Head):
                head = _encode(item)
                continue
            if isinstance(item, Problem) and not started:
                await problem_response(item)(scope, receive, send)
                return
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            body = _encode(item) if started else head + _encode(item)
            started = True
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def cancel_on_disconnect(receive: Receive, shard: anyio.CancelScope) -> None:
    """Cancel the shard when the caller's connection closes."""
    while (await receive())["type"] != "http.disconnect":
        pass
    shard.cancel()


def _encode(item: Line | Problem) -> bytes:
    line = ProblemLine(problem=document(item)) if isinstance(item, Problem) else item
    return line.model_dump_json().encode() + b"\n"
