"""The stops of a request: prompts, and pictures that the caller has uploaded. Turns them into stops of a spec."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator

from momalisa_api.walks.stops import Crop, PictureId, PictureStop, Stop, prompt_of
from momalisa_api.web.field_errors import Errors
from momalisa_api.web.fields import NotNegative, Positive, Prompt

NO_SUCH_PICTURE: Final = (
    "is not one of your pictures: it may have expired or been deleted; upload it with POST /api/v1/pictures first"
)
# Width and height of each of the caller's pictures, by its id.
Sizes = Mapping[str, tuple[int, int]]


class CropRequest(BaseModel):
    """A part of a picture, in pixels of the stored picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    x: NotNegative = Field(description="Left edge, in pixels.")
    y: NotNegative = Field(description="Upper edge, in pixels.")
    width: Positive = Field(description="Width, in pixels.")
    height: Positive = Field(description="Height, in pixels.")

    def is_inside(self, width: int, height: int) -> bool:
        """Whether it is a part of a picture of this size."""
        return self.x + self.width <= width and self.y + self.height <= height


class PartOfPicture(BaseModel):
    """A picture of yours, or a part of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    picture: PictureId = Field(description="The id that `POST /api/v1/pictures` returned.")
    crop: CropRequest | None = Field(
        None,
        description="The part of the picture to use; the frames show its middle, in their own shape. Omitted: all.",
    )


class PictureRequest(PartOfPicture):
    """A stop that is a picture of yours."""

    prompt: Prompt = Field("", description="What the frames near the picture show; may be empty.")


_PROMPT: Final[TypeAdapter[str]] = TypeAdapter(Prompt)


def _prompt_or_picture(value: object, _: ValidatorFunctionWrapHandler) -> str | PictureRequest:
    """Not the union's own validator: its errors would name both alternatives for each mistake."""
    if isinstance(value, dict | PictureRequest):
        return PictureRequest.model_validate(value)
    if not isinstance(value, str):
        raise ValueError("must be a prompt, or an object with the id of a picture as `picture`")
    return _PROMPT.validate_python(value)


StopRequest = Annotated[Prompt | PictureRequest, WrapValidator(_prompt_or_picture)]


def canonical_prompt(prompt: str) -> str:
    """Normalise a prompt, so that prompts that look alike are equal: Unicode NFC, no surrounding white space."""
    return unicodedata.normalize("NFC", prompt).strip()


def canonical_stops(
    stops: Sequence[str | PictureRequest], frame: tuple[int, int], sizes: Sizes
) -> tuple[tuple[Stop, ...], Errors]:
    """The stops of a spec, and what is wrong with them by field. frame: width and height of the walk's frames."""
    errors: Errors = []
    found = tuple(_canonical(stop, f"stops.{index}", frame, sizes, errors) for index, stop in enumerate(stops))
    return found, errors


def pictures_in(stops: Sequence[str | PictureRequest]) -> set[str]:
    """The ids of the pictures among stops."""
    return {stop.picture for stop in stops if isinstance(stop, PictureRequest)}


def stop_errors(stops: Sequence[Stop], most_stops: int, most_chars: int) -> Errors:
    """What is wrong with the number of stops, and the length of their prompts. Only pictures need none."""
    errors: Errors = []
    if not 2 <= len(stops) <= most_stops:
        errors.append(("stops", f"must be 2 to {most_stops} prompts or pictures, not {len(stops)}"))
    for index, stop in enumerate(stops):
        chars, picture = len(prompt_of(stop)), isinstance(stop, PictureStop)
        if not (0 if picture else 1) <= chars <= most_chars:
            field = f"stops.{index}.prompt" if picture else f"stops.{index}"
            errors.append((field, f"must have {'at most' if picture else '1 to'} {most_chars} characters, not {chars}"))
    return errors


def _canonical(stop: str | PictureRequest, field: str, frame: tuple[int, int], sizes: Sizes, errors: Errors) -> Stop:
    if isinstance(stop, str):
        return canonical_prompt(stop)
    crop = part_of(stop, field, sizes, frame, errors)
    return PictureStop(picture=stop.picture, prompt=canonical_prompt(stop.prompt), crop=crop.cut_to(*frame))


def part_of(used: PartOfPicture, field: str, sizes: Sizes, frame: tuple[int, int], errors: Errors) -> Crop:
    """The part of a picture that a request uses: all of it, unless it has a crop. Adds to errors what is wrong with it.

    frame: a size for a picture that the caller has not.
    """
    width, height = sizes.get(used.picture, frame)
    if used.picture not in sizes:
        errors.append((f"{field}.picture", NO_SUCH_PICTURE))
    elif used.crop and used.crop.is_inside(width, height):
        return Crop(**used.crop.model_dump())
    elif used.crop:
        errors.append((f"{field}.crop", f"must be inside of the picture, which has {width} x {height} pixels"))
    return Crop(x=0, y=0, width=width, height=height)
