"""The contract of Vertex AI and KServe V1: `{"instances": [...]}` in, `{"predictions": [...]}` of equal length out.

An instance is one frame; a single instance {"models": true} stands for the models.
Source: cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Self

import anyio
from anyio import to_thread
from pydantic import Field, model_validator
from starlette.requests import Request

from momalisa_model.cancellation import Cancelled, ShouldStop
from momalisa_model.device_queue import DeviceQueue
from momalisa_model.packing import Finish
from momalisa_model.pictures import read_pictures
from momalisa_model.problems import Invalid, Problem, Stopping
from momalisa_model.recipes import Fraction, Recipe, Wire
from momalisa_model.replica import Replica
from momalisa_model.request_check import check
from momalisa_model.streaming import Line, Shard, cancel_on_disconnect
from momalisa_model.wire import PICTURE_FILES, FrameLine, ModelsAnswer, RenderRequest


class PredictInstance(Wire):
    """One requested frame."""

    recipe: Recipe = Field(description="What to render.")
    fraction: Fraction = Field(description="The position between start (0) and end (1).", examples=[0.5])
    pictures: dict[str, str] = Field(
        default={},
        description=f"{PICTURE_FILES.format('recipes name,')} It is enough if one of the instances has a picture.",
        examples=[{}],
    )


class PredictRequest(Wire):
    """A platform's request: the instances of its callers."""

    instances: list[PredictInstance] = Field(max_length=256, description="The frames to render.")
    parameters: Any = Field(default=None, description="Ignored. The platforms may add it.")
    models: bool = Field(default=False, description='Set by the single instance `{"models": true}`.')

    @model_validator(mode="before")
    @classmethod
    def read_question(cls, body: Any) -> Any:
        """Platforms pass on instances only, so the question for the models is one."""
        asks = isinstance(body, dict) and body.get("instances") == [{"models": True}]
        return {**body, "instances": [], "models": True} if asks else body

    @model_validator(mode="after")
    def is_not_empty(self) -> Self:
        """Refuse a request for nothing."""
        if not self.instances and not self.models:
            raise ValueError("instances must have at least one item")
        return self


class PredictResponse(Wire):
    """One frame for each instance, in their order."""

    predictions: tuple[FrameLine, ...] | tuple[ModelsAnswer] = Field(
        description="One frame for each instance, in the same order; or the loaded models."
    )


async def predict(body: PredictRequest, request: Request, replica: Replica) -> PredictResponse:
    """Render all frames and return them at once, because these platforms do not stream. A disconnect cancels.

    Instances may name different models of the replica. Raises WrongModel, NotReady, Invalid, QueueFull, and every
    problem of rendering: nothing is sent before the end.
    """
    if body.models:
        return PredictResponse(predictions=(ModelsAnswer(models=tuple(model.answer for model in replica.ready())),))
    shards = []
    for one in requests_of(body.instances):
        model = replica.model_for(one.recipe)
        check(one, model.answer, replica.settings.max_fractions)
        pictures = await to_thread.run_sync(read_pictures, one)
        shards.append(Shard(one, model, replica.metrics, pictures))
    frames: list[FrameLine] = []
    problem: Problem | None = Stopping("The caller disconnected.")
    with replica.queue.slot():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_on_disconnect, request.receive, tasks.cancel_scope)
            problem = await _render(replica.queue, shards, frames)
            tasks.cancel_scope.cancel()
    # Raised here, because a task group would wrap it in an exception group.
    if problem:
        raise problem
    return PredictResponse(predictions=tuple(frames))


def requests_of(instances: Sequence[PredictInstance]) -> list[RenderRequest]:
    """One request for each run of neighbours with the same recipe, with its pictures. Raises Invalid for others."""
    for place, instance in enumerate(instances):
        if instance.recipe.kind != "between":
            raise Invalid([(f"instances.{place}.recipe.kind", "must be between here; POST /v1/render has all kinds")])
    files = {key: file for instance in instances for key, file in instance.pictures.items()}
    named = {key for instance in instances for key in instance.recipe.pictures}
    if others := sorted(files.keys() - named):
        raise Invalid([(f"instances.pictures.{key}", "must be left out, because no recipe names it") for key in others])
    return [
        RenderRequest(
            recipe=recipe,
            fractions=[instance.fraction for instance in some],
            pictures={key: files[key] for key in recipe.pictures if key in files},
        )
        for recipe, some in groupby(instances, key=lambda instance: instance.recipe)
    ]


async def _render(queue: DeviceQueue, shards: Sequence[Shard], frames: list[FrameLine]) -> Problem | None:
    """Run the shards one after another in a single turn on the device. Returns the problem that ended them, if any."""

    def keep(line: Line) -> None:
        if isinstance(line, FrameLine):
            frames.append(line)

    def work(should_stop: ShouldStop) -> Iterator[Finish[Line]]:
        for shard in shards:
            yield from shard.render(should_stop)

    try:
        await queue.run(work, keep, shards[0].prepare)
    except Cancelled:
        return Stopping("The caller disconnected.")
    except Problem as problem:
        return problem
    return None
