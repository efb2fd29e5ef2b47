"""The stops of a walk: a prompt, or a picture of a visitor with a prompt for its surroundings. Pure."""

from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field

# What people read in place of a picture without a prompt.
A_PICTURE: Final = "a picture"
PictureId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Crop(BaseModel):
    """A part of a picture, in its pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: int = Field(ge=0, description="Left edge, in pixels.")
    y: int = Field(ge=0, description="Upper edge, in pixels.")
    width: int = Field(ge=1, description="Width, in pixels.")
    height: int = Field(ge=1, description="Height, in pixels.")

    def cut_to(self, width: int, height: int) -> Self:
        """The largest part in the middle that has the shape of a frame, as nearly as whole pixels allow.

        width, height: of the frame. A part that has this shape stays as it is.
        """
        fitting_width = max(1, round(self.height * width / height))
        fitting_height = max(1, round(self.width * height / width))
        if self.width == fitting_width or self.height == fitting_height:
            return self
        wide, high = min(self.width, fitting_width), min(self.height, fitting_height)
        x, y = self.x + (self.width - wide) // 2, self.y + (self.height - high) // 2
        return self.model_copy(update={"x": x, "y": y, "width": wide, "height": high})

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge, as Pillow has them."""
        return self.x, self.y, self.x + self.width, self.y + self.height


class CroppedPicture(BaseModel):
    """What a frame shows of a stored picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: PictureId = Field(description="The picture's id: the SHA-256 of its file.")
    crop: Crop = Field(description="The part of the picture, with the shape of a frame.")


class PictureStop(CroppedPicture):
    """A stop that is a picture of a visitor."""

    prompt: str = Field("", description="What the frames near the picture show; may be empty.")

    @property
    def cropped(self) -> CroppedPicture:
        """The stop without its prompt."""
        return CroppedPicture(picture=self.picture, crop=self.crop)


Stop = str | PictureStop


def prompt_of(stop: Stop) -> str:
    """The prompt of a stop; empty for a picture without one."""
    return stop.prompt if isinstance(stop, PictureStop) else stop


def title_of(stop: Stop) -> str:
    """A stop in words, for people: never empty."""
    return prompt_of(stop) or A_PICTURE
