"""Walks between stops, which are prompts and pictures: their spec, and the recipe of a leg. Pure."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import BaseModel, Field, WithJsonSchema

from momalisa_api.walks.common_spec import CommonSpec, Effort, Spacing
from momalisa_api.walks.kinds import EARLY_BLEND, PICTURES
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.stops import CroppedPicture, PictureStop, Stop, prompt_of, title_of

Blend = Literal["embeddings", "early"]
BLENDS: Final[tuple[Blend, ...]] = get_args(Blend)
AUTO: Final = "auto"
CANDIDATE_SEEDS: Final = tuple(range(4))
# The gallery's client does not know JSON Schema's tuples.
_PAIR: Final = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
Interval = Annotated[tuple[float, float], WithJsonSchema(_PAIR)]

# The fields that each version of stored specs added, and what older ones mean by not having them. Whoever adds a field
# to BetweenSpec begins a version.
ADDED_FIELDS: Final[Mapping[int, Mapping[str, Any]]] = {
    2: {"spacing": "uniform"},
    3: {"effort": "balanced"},
    4: {"guidance_interval": None},
    5: {"strength": None, "scope": None},
    6: {"kind": "between"},
}
# Specs of this version have all its fields, whatever these say.
_OLDEST_STORED: Final = 2


class DiffusionSettings(BaseModel):
    """What decides how every frame of a walk between stops looks, beside its size, its stops and its seed."""

    negative_prompt: str = Field(description="What the pictures should not show.")
    steps: int = Field(description="Denoising steps per frame.")
    guidance_scale: float = Field(description="How closely a frame follows its prompt; 1 or less: no guidance.")
    scheduler: str = Field(description="The scheduler's name.")
    guidance_interval: Interval | None = Field(
        None, description="The part of the denoising steps with guidance, as shares of all steps; null: all."
    )
    strength: float | None = Field(
        None,
        description="How far a walk leaves its pictures between two stops, 0.1 to 1; null: no stop is a picture.",
    )


class BetweenRecipe(DiffusionSettings, Recipe):
    """The recipe of one leg of a walk between stops."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"kind", "guidance_interval", "blend", "start_picture", "end_picture", "strength", "scope"}
    )

    kind: Literal["between"] = Field("between", description="The kind of the walk.")
    start: str = Field(description="The prompt at fraction 0.")
    end: str = Field(description="The prompt at fraction 1.")
    seed: int = Field(description="Seed of the noise.")
    blend: Blend = Field(
        "embeddings", description="Whether the first denoising steps mix noise predictions instead of embeddings."
    )
    start_picture: CroppedPicture | None = Field(None, description="The picture at fraction 0; null: `start` decides.")
    end_picture: CroppedPicture | None = Field(None, description="The picture at fraction 1; null: `end` decides.")

    @property
    def pictures(self) -> tuple[CroppedPicture, ...]:
        """The different pictures that its frames are made of."""
        return tuple(dict.fromkeys(found for found in (self.start_picture, self.end_picture) if found))

    @property
    def search_terms(self) -> tuple[str, ...]:
        """What the search terms of each walk with this recipe contain: its prompts, one after the other."""
        return self.start, self.end

    @property
    def features(self) -> frozenset[str]:
        """What a replica must be able to render, beyond the first release of the contract."""
        needed = {EARLY_BLEND: self.blend == "early", PICTURES: bool(self.pictures)}
        return frozenset(name for name, so in needed.items() if so)


class BetweenSpec(DiffusionSettings, CommonSpec):
    """A complete, canonical walk between prompts and pictures. Equal specs are one walk."""

    kind: Literal["between"] = Field("between", description="The kind of the walk.")
    stops: tuple[Stop, ...] = Field(description="The prompts and pictures, in the walk's order.")
    seed: int | Literal["auto"] = Field(description="Seed of the noise, or auto for the best of a few.")
    spacing: Spacing = Field(description="Spacing of frames between two stops.")
    effort: Effort = Field(description="How much is rendered to make the spacing even; balanced for other spacings.")

    def check(self) -> None:
        """Raise ValueError for a stored spec whose fields do not fit together."""
        if not 2 <= len(self.stops) <= self.frames:
            raise ValueError(f"{len(self.stops)} stops and {self.frames} frames are no walk")
        if bool(self.pictures) is (self.strength is None):
            raise ValueError("only walks with a picture have a strength")

    def to_stored(self) -> tuple[dict[str, Any], int]:
        """The content and the version as which the spec is stored: the oldest version that means the same.

        During an upgrade, workers of the last release can read it, and walks of that release keep their ids.
        """
        content, newest = super().to_stored()
        for version in range(newest, _OLDEST_STORED, -1):
            added = ADDED_FIELDS[version]
            if any(content[name] != meaning for name, meaning in added.items()):
                return content, version
            content = {name: value for name, value in content.items() if name not in added}
        return content, _OLDEST_STORED

    @property
    def legs(self) -> tuple[int, ...]:
        """The number of intervals of each leg."""
        return tuple(deal_intervals(self.frames - 1, len(self.stops) - 1))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the walk tries."""
        return CANDIDATE_SEEDS if self.seed == AUTO else (self.seed,)

    @property
    def has_noise(self) -> bool:
        """Whether a seed decides its pictures."""
        return True

    @property
    def pictures(self) -> tuple[PictureStop, ...]:
        """The stops that are pictures."""
        return tuple(stop for stop in self.stops if isinstance(stop, PictureStop))

    def has_picture(self, leg: int) -> bool:
        """Whether a leg, counted from 0, begins or ends with a picture."""
        return any(isinstance(stop, PictureStop) for stop in self.stops[leg : leg + 2])

    @property
    def titles(self) -> tuple[str, ...]:
        """The stops in words, for people."""
        return tuple(map(title_of, self.stops))

    @property
    def title(self) -> str:
        """The walk in words, for people: never empty."""
        return " → ".join(self.titles)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts of the stops; empty for pictures without one."""
        return tuple(map(prompt_of, self.stops))

    @property
    def search_terms(self) -> tuple[str, ...]:
        """What the gallery's search finds the walk by."""
        return self.prompts

    def recipes(self, seed: int, blend: Blend = "embeddings") -> tuple[BetweenRecipe, ...]:
        """One recipe per leg, in the walk's order. A leg with a picture is always blended by its embeddings."""
        shared = (BetweenSpec.model_fields.keys() & BetweenRecipe.model_fields.keys()) - {"seed", "strength"}
        settings = {name: getattr(self, name) for name in shared}
        return tuple(
            BetweenRecipe(
                start=prompt_of(start),
                end=prompt_of(end),
                seed=seed,
                **settings,
                **(_of_pictures(start, end, self.strength) or {"blend": blend}),
            )
            for start, end in pairwise(self.stops)
        )


def _of_pictures(start: Stop, end: Stop, strength: float | None) -> dict[str, Any]:
    """What the recipe of a leg has because of its pictures; empty if it has none."""
    stops = {"start_picture": start, "end_picture": end}
    found = {name: stop.cropped for name, stop in stops.items() if isinstance(stop, PictureStop)}
    return {**found, "strength": strength} if found else {}


def deal_intervals(intervals: int, legs: int) -> list[int]:
    """Split a walk's intervals between its legs: evenly, with the remainder on the first ones.

    intervals >= legs >= 1. Returns `legs` counts of at least one that sum to `intervals`.
    """
    share, over = divmod(intervals, legs)
    return [share + (leg < over) for leg in range(legs)]
