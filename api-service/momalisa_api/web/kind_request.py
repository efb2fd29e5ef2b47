"""Requests for walks of all kinds, as bodies. kind_spec.py turns those that are not between stops into specs."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.config import JsonDict

from momalisa_api.walks.clip import ClipId
from momalisa_api.walks.into import Motion
from momalisa_api.walks.kinds import BETWEEN, DIFFUSION, KINDS, STYLE_NET, WalkKind
from momalisa_api.walks.model_card import StyleName
from momalisa_api.walks.models import Needs
from momalisa_api.web.fields import (
    KIND_TAG,
    UNKNOWN_KIND,
    Guidance,
    Integer,
    ModelName,
    NumbersOnly,
    Positive,
    Prompt,
    Strength,
)
from momalisa_api.web.request import WalkRequest
from momalisa_api.web.stop_request import PartOfPicture

WAYS: Final = ("prompt", "style", "style_picture")
_PICTURE: Final = "5e1f" * 16
_EXAMPLE_PICTURE: Final[JsonDict] = {"picture": _PICTURE}
Threshold = Annotated[float, Field(ge=0.05, le=0.95, allow_inf_nan=False), NumbersOnly]
NoiseSeed = Annotated[int, Field(ge=0, lt=2**32), NumbersOnly]
FrameMs = Annotated[int, Field(ge=20, le=2000), NumbersOnly]
FRAMES: Final = "Frames of the whole walk, both ends included."
FRAME_MS: Final = "Display time of a frame in the films, in milliseconds; GIFs round it to 10 ms."


class KindOptions(BaseModel):
    """What requests of all kinds but walks between stops have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelName | None = Field(
        None,
        description="Name of the model: one of `GET /api/v1/models` that has this kind. Omitted: the first of those.",
    )
    size: Positive | None = Field(
        None,
        description="The longer side of a frame, in pixels; the other one follows from the shape of what the frames "
        "show. Omitted: that of the model card, and no larger than what they show, unless a diffusion model paints it.",
    )
    listed: bool = Field(
        False,
        description="Whether the gallery may show the walk. If not, only you can read it, and those to whom you give a "
        "link.",
    )


class MovingOptions(KindOptions):
    """What requests have whose number of frames is a choice."""

    gif_there_and_back: bool = Field(False, description="Whether the GIF plays back to the start.")
    mp4_there_and_back: bool = Field(False, description="Whether the MP4 plays back to the start.")


class IntoRequest(MovingOptions):
    """A walk into a picture of yours: a camera moves before it, and what is near moves more."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "into", "picture": _EXAMPLE_PICTURE, "motion": "circle"}]}
    )

    kind: Literal["into"] = Field(description="The kind of the walk.")
    picture: PartOfPicture = Field(description="The picture.")
    motion: Motion = Field("sway", description="How the camera moves. All motions are loops.")
    amplitude: Strength = Field(0.5, description="How far the camera moves: 0.1 is a little, 1 is far.")
    frames: Integer = Field(49, ge=2, description=FRAMES)
    frame_ms: FrameMs = Field(40, description=FRAME_MS)

    @property
    def needs(self) -> Needs:
        """What it needs of its model."""
        return Needs(self.kind)


class StyleOptions(KindOptions):
    """How a picture or a clip is restyled: in a style of the model, in that of a picture, or by a prompt."""

    style: StyleName | None = Field(
        None, description="The name of a style: one of those in the model card.", examples=["stained-glass"]
    )
    style_picture: PartOfPicture | None = Field(None, description="A picture of yours whose style is used.")
    prompt: Prompt | None = Field(
        None, description="What is drawn, by a diffusion model.", examples=["a portrait in stained glass"]
    )
    strength: Strength | None = Field(
        None,
        description="How much is drawn again, by a diffusion model: nearly nothing, to nothing is left of the "
        "original. Omitted: that of the style, or 0.6.",
    )
    seed: NoiseSeed | None = Field(None, description="Seed of the noise, for a diffusion model. Omitted: 0.")
    negative_prompt: Prompt | None = Field(
        None, description="What the pictures should not show, for a diffusion model. Omitted: that of the model card."
    )
    steps: Positive | None = Field(
        None, description="Denoising steps per frame, for a diffusion model. Omitted: those of the model card."
    )
    guidance_scale: Guidance | None = Field(
        None,
        description="How closely a frame follows its prompt, for a diffusion model. Omitted: as in the model card.",
    )

    @model_validator(mode="after")
    def _is_restyled_in_one_way(self) -> Self:
        if sum(getattr(self, way) is not None for way in WAYS) != 1:
            raise ValueError("exactly one of style, style_picture and prompt is required")
        return self

    def needs_of(self, kind: WalkKind) -> Needs:
        """What it needs of its model."""
        engine = DIFFUSION if self.prompt is not None else STYLE_NET if self.style_picture else None
        return Needs(kind, self.style, engine)


class RestyleRequest(StyleOptions, MovingOptions):
    """A walk from a picture of yours to the same picture in a style."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "restyle", "picture": _EXAMPLE_PICTURE, "style": "stained-glass"}]}
    )

    kind: Literal["restyle"] = Field(description="The kind of the walk.")
    picture: PartOfPicture = Field(description="The picture that is restyled.")
    frames: Integer = Field(9, ge=2, description=FRAMES)
    frame_ms: FrameMs = Field(120, description=FRAME_MS)
    gif_there_and_back: bool = Field(True, description="Whether the GIF plays back to the start.")

    @property
    def needs(self) -> Needs:
        """What it needs of its model."""
        return self.needs_of(self.kind)


class ClipRequest(StyleOptions):
    """A clip of yours, each of whose frames is restyled. It keeps its length and its sound."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "clip", "clip": _PICTURE, "style": "stained-glass", "size": 480}]}
    )

    kind: Literal["clip"] = Field(description="The kind of the walk.")
    clip: ClipId = Field(description="The id that `POST /api/v1/clips` returned.")

    @property
    def needs(self) -> Needs:
        """What it needs of its model."""
        return self.needs_of(self.kind)


class ApartRequest(MovingOptions):
    """A walk that takes a picture of yours apart: one instance after another appears, with its mask and label."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"kind": "apart", "picture": _EXAMPLE_PICTURE}]})

    kind: Literal["apart"] = Field(description="The kind of the walk.")
    picture: PartOfPicture = Field(description="The picture.")
    threshold: Threshold = Field(0.5, description="The lowest score of an instance that is shown.")
    most: Integer = Field(20, ge=1, le=50, description="How many instances are shown at most, the best first.")
    frames: Integer = Field(13, ge=2, description=FRAMES)
    frame_ms: FrameMs = Field(200, description=FRAME_MS)

    @property
    def needs(self) -> Needs:
        """What it needs of its model."""
        return Needs(self.kind)


KindRequest = IntoRequest | RestyleRequest | ClipRequest | ApartRequest


def _tag_of(body: Any) -> str | None:
    """Which request a body is: its errors are those of this one alone. What is no object is told so by the first."""
    kind = body.get("kind", BETWEEN) if isinstance(body, dict) else getattr(body, "kind", BETWEEN)
    return f"{KIND_TAG}{kind}" if kind in KINDS else None


WalkBody = Annotated[
    Annotated[WalkRequest, Tag("kind between")]
    | Annotated[IntoRequest, Tag("kind into")]
    | Annotated[RestyleRequest, Tag("kind restyle")]
    | Annotated[ClipRequest, Tag("kind clip")]
    | Annotated[ApartRequest, Tag("kind apart")],
    Discriminator(_tag_of, custom_error_type=UNKNOWN_KIND, custom_error_message=f"must be one of {', '.join(KINDS)}"),
]
