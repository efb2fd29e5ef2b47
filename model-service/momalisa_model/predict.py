"""The contract of Vertex AI and KServe's V1: `{"instances": [...]}` in, `{"predictions": [...]}` of equal length out.

An instance is one frame. Source: cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import anyio
import anyio.lowlevel
from pydantic import Field
from starlette.requests import Request

from momalisa_model.device_queue import DeviceQueue
from momalisa_model.lifecycle import LoadedModel, Replica
from momalisa_model.problems import Problem, Stopping
from momalisa_model.sampler import Cancelled, ShouldStop
from momalisa_model.streaming import Line, Shard, cancel_when_gone, shard_for
from momalisa_model.wire import Fraction, FrameLine, Recipe, RenderRequest, Wire, check


class Instance(Wire):
    """One frame that is asked for."""

    recipe: Recipe = Field(description="What to render.")
    fraction: Fraction = Field(description="The position between start (0) and end (1).", examples=[0.5])


class PredictRequest(Wire):
    """What a platform passes on: its callers' instances, perhaps with parameters, which mean nothing here."""

    instances: list[Instance] = Field(min_length=1, max_length=256, description="The frames to render.")
    parameters: Any = Field(default=None, description="Ignored. The platforms may add it.")


class PredictAnswer(Wire):
    """One frame an instance, in the order asked for."""

    predictions: tuple[FrameLine, ...] = Field(description="One frame for each instance, in the same order.")


async def predict(body: PredictRequest, request: Request, replica: Replica, ready: LoadedModel) -> PredictAnswer:
    """All frames, once all are rendered: such platforms know no streams. Hanging up cancels.

    Raises what rendering raises, before or after it began: nothing has been sent by then.
    """
    requests = _shards(body.instances)
    for one in requests:
        check(one, ready.answer.card, replica.settings.max_fractions)
    shards = [shard_for(one, ready.sampler, ready.answer, replica.metrics) for one in requests]
    frames: list[FrameLine] = []
    problem: Problem | None = Stopping("Whoever asked has gone.")
    with replica.queue.slot():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_gone, request.receive, tasks.cancel_scope)
            problem = await _render(replica.queue, shards, frames)
            tasks.cancel_scope.cancel()
    # Out here, since a task group would wrap it.
    if problem:
        raise problem
    return PredictAnswer(predictions=tuple(frames))


def _shards(instances: Sequence[Instance]) -> list[RenderRequest]:
    """Neighbours of one recipe are rendered together."""
    grouped = groupby(instances, key=lambda instance: instance.recipe)
    return [
        RenderRequest(recipe=recipe, fractions=[instance.fraction for instance in some]) for recipe, some in grouped
    ]


async def _render(queue: DeviceQueue, shards: Sequence[Shard], frames: list[FrameLine]) -> Problem | None:
    """One shard after another in one turn on the device. Returns what went wrong."""

    def keep(line: Line) -> None:
        if isinstance(line, FrameLine):
            frames.append(line)

    def work(should_stop: ShouldStop) -> Iterator[Line]:
        for shard in shards:
            yield from shard(should_stop)

    try:
        await queue.run(work, keep)
    except Cancelled:
        return Stopping("Whoever asked has gone.")
    except Problem as problem:
        return problem
    return None
