"""What the specs of all kinds of walks share, and what those of one leg do. Pure."""

from functools import cached_property
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field

from momalisa_api.walks.kinds import WalkKind
from momalisa_api.walks.recipe import Recipe, Rendered, digest
from momalisa_api.walks.stops import CroppedPicture

Spacing = Literal["even", "uniform", "ease"]
Effort = Literal["fast", "balanced", "best"]
# The version of stored specs that brought other kinds than walks between stops.
KINDS_VERSION: Final = 6


class CommonSpec(Rendered):
    """A complete, canonical walk of any kind. Equal specs are one walk."""

    kind: WalkKind = Field(description="The kind of the walk.")
    frames: int = Field(description="Frames of the whole walk, both ends included.")
    frame_ms: int = Field(description="Display time of a frame in the films, in milliseconds.")
    gif_there_and_back: bool = Field(description="Whether the GIF plays back to the start.")
    mp4_there_and_back: bool = Field(description="Whether the MP4 plays back to the start.")

    def to_stored(self) -> tuple[dict[str, Any], int]:
        """The content and the version as which the spec is stored: the oldest version that means the same."""
        return {**self.model_dump(mode="json"), "scope": self.scope}, KINDS_VERSION

    @cached_property
    def id(self) -> str:
        """32 hex digits that identify the walk. Equal requests have equal ids, also of older releases."""
        return digest(self.to_stored()[0])

    def in_scope(self, scope: str | None) -> Self:
        """The same walk in another scope: another walk, whose frames are stored apart."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**fields, "scope": scope})

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The pictures of visitors that the walk is made of."""
        return ()

    @property
    def clips(self) -> tuple[str, ...]:
        """The ids of the clips that the walk is made of."""
        return ()

    @property
    def has_uploads(self) -> bool:
        """Whether it is made of files of a visitor: then it is private unless its owner lists it."""
        return bool(self.pictures or self.clips)

    def check(self) -> None:
        """Raise ValueError for a stored spec whose fields do not fit together."""
        if self.frames < 2:
            raise ValueError(f"{self.frames} frames are no walk")


class OneLegSpec(CommonSpec):
    """A walk whose frames are spaced uniformly, between a beginning and an end."""

    # The recipe of its leg: all its fields are fields of the spec.
    of_leg: ClassVar[type[Recipe]]

    @property
    def spacing(self) -> Spacing:
        """How its frames are spaced."""
        return "uniform"

    @property
    def effort(self) -> Effort:
        """How much is rendered to make the spacing even: nothing, as it is uniform."""
        return "balanced"

    @property
    def legs(self) -> tuple[int, ...]:
        """The number of intervals of its leg."""
        return (self.frames - 1,)

    def recipes(self, _seed: int = 0, _blend: str = "embeddings") -> tuple[Recipe, ...]:
        """The recipe of its leg. There is one seed, and nothing to blend."""
        return (self.of_leg(**{name: getattr(self, name) for name in self.of_leg.model_fields}),)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the walk tries; zero stands for that of a walk without noise."""
        return (0,)

    @property
    def has_noise(self) -> bool:
        """Whether a seed decides its pictures."""
        return False

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of the walk."""
        return ()

    @property
    def titles(self) -> tuple[str, ...]:
        """The walk in words, for people."""
        return (self.title,)

    @property
    def title(self) -> str:
        """The walk in words, for people: never empty."""
        raise NotImplementedError

    @property
    def search_terms(self) -> tuple[str, ...]:
        """What the gallery's search finds the walk by."""
        return self.titles
