"""The model's half of the contract: what comes in, what goes out, and what a card allows. Plain data, no tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from momalisa_model.problems import WrongModel, invalid

Prompt = Annotated[str, Field(min_length=1, max_length=1000)]
Pixels = Annotated[int, Field(ge=8, le=8192, description="pixels")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Guidance = Annotated[float, Field(ge=0, le=50, description="1 or less: no classifier-free guidance")]


class Wire(BaseModel):
    """Strict, frozen, without NaN or infinity, without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


class Recipe(Wire):
    """Everything but the fraction that decides a frame's pixels. Complete: a replica fills nothing in."""

    start: Prompt
    end: Prompt
    negative_prompt: Annotated[str, Field(max_length=1000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    width: Pixels
    height: Pixels
    num_inference_steps: Steps
    guidance_scale: Guidance
    scheduler: Annotated[str, Field(min_length=1, max_length=100)]
    model: Annotated[str, Field(min_length=1, max_length=500)]
    revision: Annotated[str, Field(min_length=1, max_length=100)]


class RenderRequest(Wire):
    """One shard: a recipe, and the fractions to render in this order."""

    recipe: Recipe
    fractions: Annotated[list[Fraction], Field(min_length=1, max_length=256)]


class Truncated(Wire):
    """The part of a prompt beyond the text encoder's limit."""

    prompt: str = Field(description="start, end or negative_prompt")
    truncated: str = Field(description="the words that had no effect on the picture")
    detail: str


class Head(Wire):
    """The first line of an answer."""

    model: str
    revision: str
    fingerprint: str
    warnings: tuple[Truncated, ...]


class FrameLine(Wire):
    """One frame: PNG bytes in base64, the device's seconds that it took, what the model's safety checker says of it."""

    fraction: float
    png: str
    seconds: float
    marked: bool = Field(default=False, description="the safety checker objects; false where there is none")


class ProblemLine(Wire):
    """The last line of an answer that broke after its first."""

    problem: dict[str, Any]


class About(Wire):
    """What a person wants to know of a model."""

    title: str = ""
    summary: str = ""
    license: str = ""
    examples: Annotated[tuple[tuple[str, str], ...], Field(strict=False, description="walks that go well")] = ()
    limits: str = ""
    words: Annotated[
        tuple[str, ...], Field(strict=False, description="the only words the model knows; none: no such limit")
    ] = ()


class ModelCard(Wire):
    """What a deployment renders with: one file that api and model are both given."""

    model: str
    revision: str
    micro_batch: Annotated[int, Field(ge=1, le=64, description="frames")]
    width: Pixels
    height: Pixels
    size_multiple: Annotated[int, Field(ge=1, description="pixels")]
    min_size: Pixels
    max_size: Pixels
    num_inference_steps: Steps
    max_steps: Steps
    guidance_scale: Guidance
    negative_prompt: Annotated[str, Field(max_length=1000)]
    scheduler: str
    schedulers: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    token_limit: Annotated[int, Field(ge=1, description="tokens, begin and end included")]
    about: About = About()

    @model_validator(mode="after")
    def defaults_are_allowed(self) -> ModelCard:
        """A card whose own defaults would be refused is a mistake better found at start."""
        wrong = [*self.refused_sizes(self.width, self.height), *self.refused_ways(self)]
        if wrong:
            raise ValueError(f"the card's own defaults are not allowed by it: {wrong[0][0]}: {wrong[0][1]}")
        return self

    def refused_sizes(self, width: int, height: int) -> Iterator[tuple[str, str]]:
        """(field, what is allowed) for each side that the model cannot paint."""
        for side, pixels in (("width", width), ("height", height)):
            if not self.min_size <= pixels <= self.max_size or pixels % self.size_multiple:
                yield side, f"must be a multiple of {self.size_multiple} from {self.min_size} to {self.max_size} pixels"

    def refused_ways(self, asked: Recipe | ModelCard) -> Iterator[tuple[str, str]]:
        """(field, what is allowed) for steps and scheduler."""
        if asked.num_inference_steps > self.max_steps:
            yield "num_inference_steps", f"must be from 1 to {self.max_steps}"
        if asked.scheduler not in self.schedulers:
            yield "scheduler", f"must be one of {', '.join(self.schedulers)}"


class ModelAnswer(Wire):
    """GET /v1/model: the card, and what decides pixels beside the recipe."""

    card: ModelCard
    fingerprint: str = Field(description="16 hexadecimal digits; replicas with the same give the same bytes")
    made_of: dict[str, str | int]


def check(request: RenderRequest, card: ModelCard, max_fractions: int) -> None:
    """Hold a well-formed request against what is loaded.

    Raises WrongModel where the recipe is for other weights, Invalid with every field the card does not allow.
    """
    recipe = request.recipe
    if (recipe.model, recipe.revision) != (card.model, card.revision):
        raise WrongModel(
            f"Loaded is {card.model} at {card.revision}; ask for that, or ask a replica that has the other.",
            model=card.model,
            revision=card.revision,
        )
    wrong = [*card.refused_sizes(recipe.width, recipe.height), *card.refused_ways(recipe)]
    errors = [{"loc": ("body", "recipe", field), "msg": allowed} for field, allowed in wrong]
    if len(request.fractions) > max_fractions:
        errors.append({"loc": ("body", "fractions"), "msg": f"must be 1 to {max_fractions} fractions"})
    if errors:
        raise invalid(errors)
