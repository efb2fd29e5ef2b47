"""Walks into a picture: a camera moves before it, and what is near moves more (parallax). Pure."""

from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from momalisa_api.walks.common_spec import OneLegSpec
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.stops import CroppedPicture

Motion = Literal["sway", "circle", "dolly", "zoom"]


class _Camera(BaseModel):
    """What decides the pictures of a walk into a picture, beside their size."""

    kind: Literal["into"] = Field(description="The kind of the walk.")
    picture: CroppedPicture = Field(description="The picture that the camera moves before.")
    motion: Motion = Field(description="How the camera moves: all motions are loops.")
    amplitude: float = Field(description="How far the camera moves, 0.1 to 1.")

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The picture."""
        return (self.picture,)


class IntoRecipe(_Camera, Recipe):
    """The recipe of a walk into a picture. The fraction is the camera's place on its loop."""


class IntoSpec(_Camera, OneLegSpec):
    """A complete, canonical walk into a picture."""

    of_leg: ClassVar[type[Recipe]] = IntoRecipe

    @property
    def title(self) -> str:
        """The walk in words, for people."""
        return "Into a picture"
