"""The contract of Vertex AI and KServe's V1: `{"instances": [...]}` in, `{"predictions": [...]}` of equal length out.

An instance is one frame. Source: cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any

import anyio
import anyio.lowlevel
from pydantic import Field
from starlette.requests import Request

from momalisa_model.answer import cancel_when_gone, shard_of
from momalisa_model.problems import Stopping
from momalisa_model.replica import Ready, Replica
from momalisa_model.sampler import Cancelled, ShouldStop
from momalisa_model.wire import Fraction, FrameLine, Recipe, RenderRequest, Wire, check


class Instance(Wire):
    """One frame that is asked for."""

    recipe: Recipe
    fraction: Fraction


class PredictRequest(Wire):
    """What a platform passes on: its callers' instances, perhaps with parameters, which mean nothing here."""

    instances: Annotated[list[Instance], Field(min_length=1, max_length=256)]
    parameters: Any = None


class PredictAnswer(Wire):
    """One frame an instance, in the order asked for."""

    predictions: tuple[FrameLine, ...]


async def predict(body: PredictRequest, request: Request, replica: Replica, ready: Ready) -> PredictAnswer:
    """All frames, once all are rendered: such platforms know no streams. Hanging up cancels.

    Raises what rendering raises, before or after it began: nothing has been sent by then.
    """
    shards = _shards(body.instances)
    for shard in shards:
        check(shard, ready.answer.card, replica.settings.max_fractions)
    frames: list[FrameLine] = []

    def keep(line: object) -> None:
        if isinstance(line, FrameLine):
            frames.append(line)

    with replica.lane.place():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_gone, request.receive, tasks.cancel_scope)
            for shard in shards:
                await _render(replica, shard_of(shard, ready.sampler, ready.answer, replica.metrics), keep)
            tasks.cancel_scope.cancel()
    if len(frames) < len(body.instances):
        raise Stopping("Whoever asked has gone.")
    return PredictAnswer(predictions=tuple(frames))


def _shards(instances: Sequence[Instance]) -> list[RenderRequest]:
    """Neighbours of one recipe are rendered together."""
    grouped = groupby(instances, key=lambda instance: instance.recipe)
    return [
        RenderRequest(recipe=recipe, fractions=[instance.fraction for instance in some]) for recipe, some in grouped
    ]


async def _render(
    replica: Replica, shard: Callable[[ShouldStop], Iterator[object]], keep: Callable[[object], None]
) -> None:
    try:
        await replica.lane.run(shard, keep)
    except Cancelled:
        await anyio.lowlevel.checkpoint()  # where the caller is gone, this is where the scope's own cancel arrives
