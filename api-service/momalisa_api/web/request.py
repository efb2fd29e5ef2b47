"""From what a visitor asks to a walk's spec: validated, completed from the model card, canonical."""

import re
import unicodedata
from typing import Annotated, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from momalisa_api.problems import Invalid
from momalisa_api.settings import Settings
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import AUTO, Spacing, WalkSpec

MAX_WAIT_S = 25
MAX_WORDS_SHOWN = 12
T = TypeVar("T")


def _numbers_only(value: object) -> object:
    """A JSON true is not the number one."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _text_only(value: str) -> str:
    """JSON can smuggle in halves of characters that no UTF-8 holds, and a character that ends strings elsewhere."""
    if "\0" in value or value.encode("utf-8", "ignore").decode() != value:
        raise ValueError("must be Unicode text, without the character NUL or lone surrogates")
    return value


Prompt = Annotated[str, AfterValidator(_text_only)]
Integer = Annotated[int, BeforeValidator(_numbers_only)]
# + 0.0: minus zero is zero, or the same wish would be two walks.
Number = Annotated[float, BeforeValidator(_numbers_only), AfterValidator(lambda number: number + 0.0)]


def _auto_or(value: object, number: ValidatorFunctionWrapHandler) -> object:
    return AUTO if value == AUTO else number(value)


# No union: that would tell whoever mistypes a number what is wrong with it as a word.
Seed = Annotated[
    Integer,
    Field(ge=0, lt=2**32),
    WrapValidator(_auto_or),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, {"const": AUTO}]}),
]


class WalkOptions(BaseModel):
    """Everything about a walk but its stops. What is left out comes from the model card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: Integer = Field(25, ge=2, description="Frames of the whole walk, both ends included.", examples=[25])
    spacing: Spacing = Field(
        "even",
        description="How frames are spaced between two stops: even to the eye, uniform, or ease, slow at the stops.",
    )
    seed: Seed = Field(
        0, description="The noise that every frame starts from; auto looks for one that walks evenly.", examples=[7]
    )
    negative_prompt: Prompt | None = Field(None, description="What the pictures should keep away from.")
    width: Integer | None = Field(None, gt=0, description="Pixels.")
    height: Integer | None = Field(None, gt=0, description="Pixels.")
    steps: Integer | None = Field(None, ge=1, description="Denoising steps a frame.")
    guidance_scale: Number | None = Field(
        None,
        ge=0,
        le=50,
        allow_inf_nan=False,
        description="How closely a frame follows its prompt; up to 1 switches guidance off.",
    )
    scheduler: str | None = Field(None, description="One of the model card's schedulers.")
    frame_ms: Integer = Field(
        80, ge=20, le=2000, description="Milliseconds a frame stands in the films; GIFs round to ten."
    )
    gif_there_and_back: bool = Field(True, description="Whether the GIF walks back to its start.")
    mp4_there_and_back: bool = Field(False, description="Whether the MP4 walks back to its start.")


class WalkQuery(WalkOptions):
    """A walk asked for in a URL."""

    start: Prompt = Field(description="The prompt that the walk leaves from.", examples=["a giraffe"])
    end: Prompt = Field(description="The prompt that the walk arrives at.", examples=["a battleship"])
    wait: float = Field(
        0,
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="Seconds to hold the line for a walk that is not done yet.",
    )

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.start, self.end)


class WalkRequest(WalkOptions):
    """A walk asked for in a body: `start` and `end`, or `stops` for more than two."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"start": "a giraffe", "end": "a battleship", "frames": 25, "seed": 7}]}
    )

    start: Prompt | None = Field(None, description="The prompt that the walk leaves from.")
    end: Prompt | None = Field(None, description="The prompt that the walk arrives at.")
    listed: bool = Field(True, description="Whether the walk may hang in the gallery; its url works either way.")
    stops: tuple[Prompt, ...] = Field((), description="All prompts of the walk in order, instead of start and end.")

    @model_validator(mode="after")
    def _one_way_of_naming_stops(self) -> Self:
        pair = (self.start, self.end)
        if self.stops and pair != (None, None):
            raise ValueError("name either stops, or start and end")
        if not self.stops and None in pair:
            raise ValueError("name both start and end, or stops")
        return self

    @property
    def named_stops(self) -> tuple[str, ...]:
        return self.stops or (self.start or "", self.end or "")


def complete(options: WalkOptions, stops: tuple[str, ...], card: ModelCard, settings: Settings) -> WalkSpec:
    """The canonical spec of a wish on this deployment. Raises Invalid, which names every field that does not fit."""
    spec = WalkSpec(
        stops=tuple(_canonical(stop) for stop in stops),
        frames=options.frames,
        spacing=options.spacing,
        seed=options.seed,
        negative_prompt=_canonical(_given(options.negative_prompt, card.negative_prompt)),
        width=_given(options.width, card.width),
        height=_given(options.height, card.height),
        steps=_given(options.steps, card.num_inference_steps),
        guidance_scale=_given(options.guidance_scale, card.guidance_scale),
        scheduler=_given(options.scheduler, card.scheduler),
        model=card.model,
        revision=card.revision,
        frame_ms=options.frame_ms,
        gif_there_and_back=options.gif_there_and_back,
        mp4_there_and_back=options.mp4_there_and_back,
    )
    errors = [*_stop_errors(spec, settings), *_number_errors(spec, card, settings)]
    if errors:
        said = "; ".join(f"{field} {detail}" for field, detail in errors)
        raise Invalid(f"{said}.", [{"field": field, "detail": detail} for field, detail in errors])
    return spec


def unknown_words(spec: WalkSpec, card: ModelCard) -> tuple[str, ...]:
    """What the visitor should know of stops that hold words the model has never met: at most one sentence."""
    if not card.about.words:
        return ()
    said = re.findall(r"[^\W\d_]+", " ".join(spec.stops).casefold())
    unknown = sorted(set(said) - set(card.about.words))
    if not unknown:
        return ()
    shown = ", ".join(unknown[:MAX_WORDS_SHOWN]) + (" and more" if len(unknown) > MAX_WORDS_SHOWN else "")
    return (f"{card.about.title or card.model} knows only words of its own, and not: {shown}.",)


def _given(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _canonical(prompt: str) -> str:
    """Prompts that look alike are one prompt: composed as Unicode's NFC says, no white space around."""
    return unicodedata.normalize("NFC", prompt).strip()


def _stop_errors(spec: WalkSpec, settings: Settings) -> list[tuple[str, str]]:
    errors = []
    if not 2 <= len(spec.stops) <= settings.max_stops:
        errors.append(("stops", f"must be 2 to {settings.max_stops} prompts, not {len(spec.stops)}"))
    for index, stop in enumerate(spec.stops):
        if not 1 <= len(stop) <= settings.max_prompt_chars:
            errors.append((f"stops.{index}", f"must have 1 to {settings.max_prompt_chars} characters, not {len(stop)}"))
    if len(spec.negative_prompt) > settings.max_prompt_chars:
        errors.append(("negative_prompt", f"must have at most {settings.max_prompt_chars} characters"))
    return errors


def _number_errors(spec: WalkSpec, card: ModelCard, settings: Settings) -> list[tuple[str, str]]:
    errors = []
    if not max(2, len(spec.stops)) <= spec.frames <= settings.max_frames:
        least = max(2, len(spec.stops))
        errors.append(("frames", f"must be {least} to {settings.max_frames}: at least one a stop, not {spec.frames}"))
    for side in ("width", "height"):
        size = getattr(spec, side)
        if not card.min_size <= size <= card.max_size or size % card.size_multiple:
            allowed = f"{card.min_size} to {card.max_size} in steps of {card.size_multiple}"
            errors.append((side, f"must be {allowed} pixels, not {size}"))
    if spec.steps > card.max_steps:
        errors.append(("steps", f"must be 1 to {card.max_steps}, not {spec.steps}"))
    if spec.scheduler not in card.schedulers:
        errors.append(("scheduler", f"must be one of {', '.join(card.schedulers)}"))
    return errors
