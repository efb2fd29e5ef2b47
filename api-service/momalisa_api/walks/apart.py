"""Walks that take a picture apart: one instance after another appears, with its mask, box and label. Pure."""

from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from momalisa_api.walks.common_spec import OneLegSpec
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.stops import CroppedPicture


class _Instances(BaseModel):
    """What decides the pictures of a walk that takes a picture apart, beside their size."""

    kind: Literal["apart"] = Field(description="The kind of the walk.")
    picture: CroppedPicture = Field(description="The picture that is taken apart.")
    threshold: float = Field(description="The lowest score of an instance that is shown, 0.05 to 0.95.")
    most: int = Field(description="How many instances are shown at most, the best first; 1 to 50.")

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The picture."""
        return (self.picture,)


class ApartRecipe(_Instances, Recipe):
    """The recipe of a walk that takes a picture apart. The fraction is the share of instances that are shown."""


class ApartSpec(_Instances, OneLegSpec):
    """A complete, canonical walk that takes a picture apart."""

    of_leg: ClassVar[type[Recipe]] = ApartRecipe

    @property
    def title(self) -> str:
        """The walk in words, for people."""
        return "A picture taken apart"
