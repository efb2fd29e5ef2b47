"""Requests for walks between stops, as bodies and as queries. between_spec.py turns them into specs."""

from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from momalisa_api.walks.between import AUTO
from momalisa_api.walks.common_spec import Effort, Spacing
from momalisa_api.walks.kinds import BETWEEN
from momalisa_api.web.fields import Guidance, Integer, ModelName, Positive, Prompt, Strength
from momalisa_api.web.stop_request import (
    PictureRequest,
    StopRequest,
)

MAX_WAIT_S = 25
# How far a walk leaves its pictures, unless the request says it.
DEFAULT_STRENGTH: Final = 0.8
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
