"""Turns a request into a walk's spec: validated, completed from the model card, canonical."""

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from momalisa_api.settings import Settings
from momalisa_api.walks.between import AUTO, BetweenSpec
from momalisa_api.walks.common_spec import Effort, Spacing
from momalisa_api.walks.kinds import BETWEEN
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import WalkSpec
from momalisa_api.web.field_errors import refuse
from momalisa_api.web.fields import Guidance, Integer, ModelName, Positive, Prompt, Strength
from momalisa_api.web.stop_request import (
    PictureRequest,
    Sizes,
    StopRequest,
    canonical_prompt,
    canonical_stops,
    stop_errors,
)

MAX_WAIT_S = 25
MAX_WORDS_SHOWN = 12
# The widest limits of the model contract: those of a model are in its card.
MIN_SIDE_PX: Final = 8
MAX_SIDE_PX: Final = 8192
MOST_STEPS: Final = 1000
MAX_SCHEDULER_CHARS: Final = 100
# What a prompt must have, as JSON Schema: no NUL; and something that is not white space.
NOT_BLANK: Final = r"^[^\u0000]*[^\s\u0000-\u001f\u0085][^\u0000]*$"
# How far a walk leaves its pictures, unless the request says it.
DEFAULT_STRENGTH: Final = 0.8
NO_SIZES: Final[Sizes] = MappingProxyType({})
T = TypeVar("T")
S = TypeVar("S")


def _auto_or(value: object, number: ValidatorFunctionWrapHandler) -> object:
    return AUTO if value == AUTO else number(value)


# Not a union: its errors would also say how a mistyped number is not the word "auto".
Seed = Annotated[
    Integer,
    Field(ge=0, lt=2**32),
    WrapValidator(_auto_or),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, {"type": "string", "enum": [AUTO]}]}
    ),
]


class WalkOptions(BaseModel):
    """Everything about a walk but its list of stops. Omitted fields come from the model card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: Integer = Field(25, ge=2, description="Frames of the whole walk, both ends included.", examples=[25])
    spacing: Spacing = Field(
        "even",
        description="Spacing of frames between two stops: even to the eye; uniform; or ease, slower near the stops.",
    )
    effort: Effort | None = Field(
        None,
        description="How much is rendered to make an even walk more even: fast, balanced or best; ignored for other "
        "spacings. Omitted: the deployment's default.",
    )
    model: ModelName | None = Field(
        None,
        description="Name of the model: one of `GET /api/v1/models`. Omitted: the deployment's default.",
        examples=["atelier"],
    )
    seed: Seed = Field(
        0,
        description="Seed of the noise that every frame starts from; auto chooses one whose walk is even and sharp.",
        examples=[7],
    )
    negative_prompt: Prompt | None = Field(None, description="What the pictures should not show.")
    width: Positive | None = Field(None, description="Width of a frame, in pixels.")
    height: Positive | None = Field(None, description="Height of a frame, in pixels.")
    steps: Positive | None = Field(None, description="Denoising steps per frame.")
    guidance_scale: Guidance | None = Field(
        None, description="How closely a frame follows its prompt; 1 or less switches guidance off."
    )
    scheduler: str | None = Field(None, description="Scheduler: one of those in the model card.")
    frame_ms: Integer = Field(
        80, ge=20, le=2000, description="Display time of a frame in the films, in milliseconds; GIFs round it to 10 ms."
    )
    gif_there_and_back: bool = Field(True, description="Whether the GIF plays back to the start.")
    mp4_there_and_back: bool = Field(False, description="Whether the MP4 plays back to the start.")


def _named(start: S | None, end: S | None, stops: tuple[S, ...] | None, name: str) -> tuple[S, ...]:
    """The stops, named in one of the two ways. Raises ValueError for both or none."""
    if not stops:
        if start is None or end is None:
            raise ValueError(f"start and end are both required, or {name}")
        return (start, end)
    if (start, end) != (None, None):
        raise ValueError(f"use either {name}, or start and end")
    return stops


class WalkQuery(WalkOptions):
    """A request in a URL's query: `start` and `end`, or `stop` repeated for more than two prompts."""

    start: Prompt | None = Field(None, description="The first prompt.", examples=["a giraffe"])
    end: Prompt | None = Field(None, description="The last prompt.", examples=["a battleship"])
    stop: tuple[Prompt, ...] | None = Field(
        None, description="A prompt of the walk: repeat it for all prompts in order, in place of start and end."
    )
    listed: bool | None = Field(
        None,
        description="Whether the gallery may show the walk. Omitted: yes for a new request, else as it was.",
    )
    wait: float = Field(
        0,
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="How long to wait for a walk that is not finished, in seconds (long poll).",
    )

    @model_validator(mode="after")
    def _one_way_of_naming_stops(self) -> Self:
        _named(self.start, self.end, self.stop, "stop")
        return self

    @property
    def named_stops(self) -> tuple[str, ...]:
        return _named(self.start, self.end, self.stop, "stop")


class WalkRequest(WalkOptions):
    """A walk between stops: `start` and `end`, or `stops` for more than two. Each is a prompt or a picture of yours."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"start": "a giraffe", "end": "a battleship", "frames": 25, "seed": 7}]}
    )

    kind: Literal["between"] = Field(BETWEEN, description="The kind of the walk; omitted, it is this one.")
    start: StopRequest | None = Field(None, description="The first prompt, or a picture.", examples=["a giraffe"])
    end: StopRequest | None = Field(None, description="The last prompt, or a picture.", examples=["a battleship"])
    strength: Strength | None = Field(
        None,
        description="How far the walk leaves its pictures between two stops: nearly not at all, to nothing is left of "
        f"them. Only for walks with a picture. Omitted: {DEFAULT_STRENGTH}.",
    )
    listed: bool | None = Field(
        None,
        description="Whether the gallery may show the walk. If not, the walk is private: only you can read it, and "
        "those to whom you give a link. Omitted: yes, but not for a walk with a picture, which is always private.",
    )
    stops: tuple[StopRequest, ...] | None = Field(
        None, description="All prompts and pictures of the walk in order, in place of start and end."
    )

    @model_validator(mode="after")
    def _one_way_of_naming_stops(self) -> Self:
        _named(self.start, self.end, self.stops, "stops")
        return self

    @property
    def named_stops(self) -> tuple[str | PictureRequest, ...]:
        return _named(self.start, self.end, self.stops, "stops")


def complete(
    options: WalkOptions,
    stops: Sequence[str | PictureRequest],
    card: ModelCard,
    settings: Settings,
    sizes: Sizes = NO_SIZES,
) -> BetweenSpec:
    """The canonical spec of a request, for the model of a card. sizes: of the caller's pictures among the stops.

    Raises Invalid, which names every invalid field.
    """
    width, height = _given(options.width, card.width), _given(options.height, card.height)
    canonical, errors = canonical_stops(stops, (width, height), sizes)
    strength = options.strength if isinstance(options, WalkRequest) else None
    pictures = any(isinstance(stop, PictureRequest) for stop in stops)
    if strength is not None and not pictures:
        errors.append(("strength", "must be omitted, because no stop is a picture"))
    spec = BetweenSpec(
        stops=canonical,
        strength=_given(strength, DEFAULT_STRENGTH) if pictures else None,
        frames=options.frames,
        spacing=options.spacing,
        # Equal walks are one walk: the effort only concerns even ones.
        effort=_given(options.effort, settings.effort) if options.spacing == "even" else "balanced",
        seed=options.seed,
        negative_prompt=canonical_prompt(_given(options.negative_prompt, card.negative_prompt)),
        width=width,
        height=height,
        steps=_given(options.steps, card.num_inference_steps),
        guidance_scale=_given(options.guidance_scale, card.guidance_scale),
        scheduler=_given(options.scheduler, card.scheduler),
        model=card.model,
        revision=card.revision,
        guidance_interval=card.guidance_interval,
        frame_ms=options.frame_ms,
        gif_there_and_back=options.gif_there_and_back,
        mp4_there_and_back=options.mp4_there_and_back,
    )
    errors += stop_errors(spec.stops, settings.max_stops, settings.max_prompt_chars)
    if len(spec.negative_prompt) > settings.max_prompt_chars:
        errors.append(("negative_prompt", f"must have at most {settings.max_prompt_chars} characters"))
    errors += _number_errors(spec, card, settings)
    refuse(errors)
    return spec


def limits(settings: Settings) -> dict[str, dict[str, Any]]:
    """The limits of a request's fields on this deployment, by field, as keywords of JSON Schema.

    Each model has its own sizes, steps and schedulers, so that those here are the widest of the model contract. What
    JSON Schema cannot say is missing: a walk has at least one frame for each stop.
    """
    prompt = {"pattern": NOT_BLANK, "maxLength": settings.max_prompt_chars}
    stops = {"minItems": 2, "maxItems": settings.max_stops, "items": prompt}
    side = {"minimum": MIN_SIDE_PX, "maximum": MAX_SIDE_PX}
    return {
        "start": prompt,
        "end": prompt,
        "stop": stops,
        "stops": stops,
        "prompt": {"maxLength": settings.max_prompt_chars},
        "negative_prompt": {"maxLength": settings.max_prompt_chars},
        "frames": {"maximum": settings.max_frames},
        "size": side,
        "width": side,
        "height": side,
        "steps": {"maximum": MOST_STEPS},
        "scheduler": {"minLength": 1, "maxLength": MAX_SCHEDULER_CHARS},
    }


def unknown_words(spec: WalkSpec, card: ModelCard) -> tuple[str, ...]:
    """A warning if the stops contain words that the model does not know: at most one sentence."""
    if not card.about.words:
        return ()
    words = re.findall(r"[^\W\d_]+", " ".join(spec.prompts).casefold())
    unknown = sorted(set(words) - set(card.about.words))
    if not unknown:
        return ()
    shown = ", ".join(unknown[:MAX_WORDS_SHOWN]) + (" and more" if len(unknown) > MAX_WORDS_SHOWN else "")
    name = card.about.title or card.model
    return (f"{name} does not know: {shown}. Its pictures may not show what these words mean.",)


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _number_errors(spec: BetweenSpec, card: ModelCard, settings: Settings) -> list[tuple[str, str]]:
    errors = []
    if not max(2, len(spec.stops)) <= spec.frames <= settings.max_frames:
        least = max(2, len(spec.stops))
        errors.append(
            ("frames", f"must be {least} to {settings.max_frames}: at least one for each stop, not {spec.frames}")
        )
    for side in ("width", "height"):
        size = getattr(spec, side)
        if not card.min_size <= size <= card.max_size or size % card.size_multiple:
            allowed = f"{card.min_size} to {card.max_size} in steps of {card.size_multiple}"
            errors.append((side, f"must be {allowed} pixels with {card.model}, not {size}"))
    if spec.steps > card.max_steps:
        errors.append(("steps", f"must be 1 to {card.max_steps} with {card.model}, not {spec.steps}"))
    if spec.scheduler not in card.schedulers:
        errors.append(("scheduler", f"must be one of {', '.join(card.schedulers)} with {card.model}"))
    return errors
