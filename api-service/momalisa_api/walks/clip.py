"""Walks along a clip: each of its frames is restyled. Pure."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.restyle import OneStyleSpec, Restyling
from momalisa_api.walks.stops import CroppedPicture

ClipId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _RestyledClip(Restyling):
    """What decides the pictures of a walk along a clip, beside their size."""

    kind: Literal["clip"] = Field(description="The kind of the walk.")
    clip: ClipId = Field(description="The clip's id: the SHA-256 of its file.")
    every: int = Field(description="Of how many frames of the clip the walk has one; 1: it has all.")
    frames: int = Field(description="Frames of the whole walk.")

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The picture of the style, if it is one."""
        return (self.style_picture,) if self.style_picture else ()

    @property
    def clips(self) -> tuple[str, ...]:
        """The clip."""
        return (self.clip,)


class ClipRecipe(_RestyledClip, Recipe):
    """The recipe of all frames of a walk along a clip. The fraction is the place in the clip's time.

    It has the number of frames, because that decides which of the clip's frames a fraction is.
    """


class ClipSpec(_RestyledClip, OneStyleSpec):
    """A complete, canonical walk along a clip. Frame i is the clip's frame i * every, counted from 0."""

    of_leg: ClassVar[type[Recipe]] = ClipRecipe

    @property
    def title(self) -> str:
        """The walk in words, for people."""
        return f"A clip: {super().title}"
