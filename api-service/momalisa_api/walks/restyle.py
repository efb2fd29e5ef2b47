"""Walks that restyle a picture, and what they share with restyled clips. Pure."""

from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from momalisa_api.walks.common_spec import OneLegSpec
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.stops import CroppedPicture

# What people read in place of a style that is a picture.
LIKE_A_PICTURE = "In the style of a picture"


class Restyling(BaseModel):
    """How pictures are restyled: by a prompt, in a style of the model, or in that of a picture.

    The fields of diffusion are null unless there is a prompt.
    """

    prompt: str | None = Field(None, description="The prompt that the pictures are drawn by again; null: by a style.")
    negative_prompt: str | None = Field(None, description="What the pictures should not show; null without a prompt.")
    strength: float | None = Field(
        None, description="How much is drawn again at the end, 0.1 to 1; null without a prompt."
    )
    seed: int | None = Field(None, description="Seed of the noise; null without a prompt.")
    steps: int | None = Field(None, description="Denoising steps per frame; null without a prompt.")
    guidance_scale: float | None = Field(
        None, description="How closely a frame follows its prompt; 1 or less: no guidance. Null without a prompt."
    )
    scheduler: str | None = Field(None, description="The scheduler's name; null without a prompt.")
    style: str | None = Field(None, description="The name of a style of the model; null: by a prompt or a picture.")
    style_picture: CroppedPicture | None = Field(
        None, description="The picture whose style the pictures get; null: by a prompt, or in a style of the model."
    )


class OneStyleSpec(Restyling, OneLegSpec):
    """What restyled pictures and restyled clips have in common."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of the noise; zero stands for that of a walk without noise."""
        return (self.seed or 0,)

    @property
    def has_noise(self) -> bool:
        """Whether a seed decides its pictures."""
        return self.prompt is not None

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt, if there is one."""
        return () if self.prompt is None else (self.prompt,)

    @property
    def title(self) -> str:
        """The style in words, for people."""
        if self.style is not None:
            return self.style.replace("-", " ").capitalize()
        return self.prompt or LIKE_A_PICTURE

    def check(self) -> None:
        """Raise ValueError for a stored spec whose fields do not fit together."""
        super().check()
        ways = (self.prompt, self.style, self.style_picture)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("a picture is restyled by a prompt, in a style, or in that of a picture")
        of_prompt = (self.negative_prompt, self.strength, self.seed, self.steps, self.guidance_scale, self.scheduler)
        if any((field is None) is (self.prompt is not None) for field in of_prompt):
            raise ValueError("only walks with a prompt have settings of diffusion, and they have all of them")


class _Restyled(Restyling):
    """What decides the pictures of a walk that restyles a picture, beside their size."""

    kind: Literal["restyle"] = Field(description="The kind of the walk.")
    picture: CroppedPicture = Field(description="The picture that is restyled.")

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The different pictures: the one that is restyled, and the one of the style."""
        found = [self.picture, self.style_picture]
        return tuple(dict.fromkeys(picture for picture in found if picture))


class RestyleRecipe(_Restyled, Recipe):
    """The recipe of a walk that restyles a picture. The fraction is how much of the style there is."""


class RestyleSpec(_Restyled, OneStyleSpec):
    """A complete, canonical walk from a picture to the same picture in a style."""

    of_leg: ClassVar[type[Recipe]] = RestyleRecipe
