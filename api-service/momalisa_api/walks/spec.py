"""A walk's spec, the recipes of its legs, its frames, and the shards that render them. Pure."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from momalisa_api.walks.model_card import ModelKey
from momalisa_api.walks.stops import CroppedPicture, PictureStop, Stop, prompt_of, title_of


def _digest(content: Any) -> str:
    """32 hex digits that identify a JSON value, independent of the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


Spacing = Literal["even", "uniform", "ease"]
Effort = Literal["fast", "balanced", "best"]
Blend = Literal["embeddings", "early"]
BLENDS: Final[tuple[Blend, ...]] = get_args(Blend)
AUTO: Final = "auto"
# The gallery's client does not know JSON Schema's tuples.
_PAIR: Final = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
Interval = Annotated[tuple[float, float], WithJsonSchema(_PAIR)]

# The newest version of the specs that this release stores. Whoever adds a field to WalkSpec increases it, and says here
# what older specs mean by not having the field.
SPEC_VERSION: Final = 5
ADDED_FIELDS: Final[Mapping[int, Mapping[str, Any]]] = {
    2: {"spacing": "uniform"},
    3: {"effort": "balanced"},
    4: {"guidance_interval": None},
    5: {"strength": None, "scope": None},
}
# Fields that are part of contents, and so of ids, only while they do not have their defaults.
_LATER: Final = frozenset({"guidance_interval", "blend", "start_picture", "end_picture", "strength", "scope"})
# Specs of this version have all its fields, whatever these say.
_OLDEST_STORED: Final = 2


class RenderSettings(BaseModel):
    """What decides how every frame of a walk looks, beside the prompts and the seed."""

    # Errors are logged, and the input has prompts.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    negative_prompt: str = Field(description="What the pictures should not show.")
    width: int = Field(description="Width of a frame, in pixels.")
    height: int = Field(description="Height of a frame, in pixels.")
    steps: int = Field(description="Denoising steps per frame.")
    guidance_scale: float = Field(description="How closely a frame follows its prompt; 1 or less: no guidance.")
    scheduler: str = Field(description="The scheduler's name.")
    model: str = Field(description="The model's id.")
    revision: str = Field(description="The model's revision.")
    guidance_interval: Interval | None = Field(
        None, description="The part of the denoising steps with guidance, as shares of all steps; null: all."
    )

    strength: float | None = Field(
        None,
        description="How far a walk leaves its pictures between two stops, 0.1 to 1; null: no stop is a picture.",
    )
    # Excluded from every dump: it is a secret of the deployment, and only ids and stored specs have it.
    scope: str | None = Field(None, exclude=True, pattern="^[0-9a-f]{32}$")

    @cached_property
    def id(self) -> str:
        """32 hex digits: equal contents have equal ids, on every deployment."""
        return _digest(self.content)

    @property
    def model_key(self) -> ModelKey:
        """The weights that render it."""
        return ModelKey(self.model, self.revision)

    @property
    def content(self) -> dict[str, Any]:
        """All fields, except later ones that have their defaults: older releases and replicas do not know them."""
        fields = type(self).model_fields
        default = {name for name in _LATER & fields.keys() if getattr(self, name) == fields[name].default}
        secret = {} if self.scope is None else {"scope": self.scope}
        return self.model_dump(exclude=default) | secret


class Recipe(RenderSettings):
    """Everything but the fraction that decides a frame's pixels: one leg of a walk."""

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
    def folder(self) -> str:
        """Prefix of the recipe's frames in the bucket."""
        return f"frames/{self.id}/"

    @property
    def truncated_key(self) -> str:
        """Key of the warnings about truncated prompts. The file name is older than the term."""
        return f"{self.folder}unheard.json"

    @property
    def marked_key(self) -> str:
        """Key that exists if the safety checker marked a frame of the recipe; written before that frame."""
        return f"{self.folder}marked.json"


class WalkSpec(RenderSettings):
    """A complete, canonical walk. Equal specs are one walk."""

    stops: tuple[Stop, ...] = Field(description="The prompts and pictures, in the walk's order.")
    frames: int = Field(description="Frames of the whole walk, both ends included.")
    seed: int | Literal["auto"] = Field(description="Seed of the noise, or auto for the best of a few.")
    spacing: Spacing = Field(description="Spacing of frames between two stops.")
    effort: Effort = Field(description="How much is rendered to make the spacing even; balanced for other spacings.")
    frame_ms: int = Field(description="Display time of a frame in the films, in milliseconds.")
    gif_there_and_back: bool = Field(description="Whether the GIF plays back to the start.")
    mp4_there_and_back: bool = Field(description="Whether the MP4 plays back to the start.")

    @classmethod
    def from_stored(cls, content: object, version: int) -> Self:
        """Read a stored spec of this version or an older one. Raises ValueError for any other content."""
        spec = cls.model_validate(read_forward(content, version))
        if not 2 <= len(spec.stops) <= spec.frames:
            raise ValueError(f"{len(spec.stops)} stops and {spec.frames} frames are no walk")
        if bool(spec.pictures) is (spec.strength is None):
            raise ValueError("only walks with a picture have a strength")
        return spec

    def to_stored(self) -> tuple[dict[str, Any], int]:
        """The content and the version as which the spec is stored: the oldest version that means the same.

        During an upgrade, workers of the last release can read it, and walks of that release keep their ids.
        """
        content = {**self.model_dump(mode="json"), "scope": self.scope}
        for version in range(SPEC_VERSION, _OLDEST_STORED, -1):
            added = ADDED_FIELDS[version]
            if any(content[name] != meaning for name, meaning in added.items()):
                return content, version
            content = {name: value for name, value in content.items() if name not in added}
        return content, _OLDEST_STORED

    @cached_property
    def id(self) -> str:
        """32 hex digits that identify the walk. Equal requests have equal ids, also of older releases."""
        return _digest(self.to_stored()[0])

    def in_scope(self, scope: str | None) -> Self:
        """The same walk in another scope: another walk, whose frames are stored apart."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**fields, "scope": scope})

    @property
    def legs(self) -> tuple[int, ...]:
        """The number of intervals of each leg."""
        return tuple(deal_intervals(self.frames - 1, len(self.stops) - 1))

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
    def prompts(self) -> tuple[str, ...]:
        """The prompts of the stops; empty for pictures without one."""
        return tuple(map(prompt_of, self.stops))

    def recipes(self, seed: int, blend: Blend = "embeddings") -> tuple[Recipe, ...]:
        """One recipe per leg, in the walk's order. A leg with a picture is always blended by its embeddings."""
        settings = {name: getattr(self, name) for name in RenderSettings.model_fields if name != "strength"}
        return tuple(
            Recipe(
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


def is_private(spec: RenderSettings) -> bool:
    """Whether only its owner may see a walk, unless a request lists it. Nobody can compute the id of such a walk."""
    return spec.scope is not None


def read_forward(content: object, version: object) -> dict[str, Any]:
    """A stored spec with the fields that later versions added. Raises ValueError for an unknown version."""
    if not isinstance(content, dict):
        raise ValueError(f"a spec is a JSON object, not {type(content).__name__}")
    if not isinstance(version, int) or not 1 <= version <= SPEC_VERSION:
        raise ValueError(f"version {version} of a spec is unknown; this release reads 1 to {SPEC_VERSION}")
    for later in range(version + 1, SPEC_VERSION + 1):
        content = {**ADDED_FIELDS[later], **content}
    return content


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a walk. Frames with equal keys are the same picture, also in different walks."""

    recipe: Recipe
    fraction: float

    @property
    def key(self) -> str:
        """Key of the frame in the bucket."""
        return f"{self.recipe.folder}{self.fraction!r}.png"


def ease(along: float) -> float:
    """Smoothstep: slow at both ends of a leg, exact at 0, 0.5 and 1."""
    return along * along * (3 - 2 * along)


SPACINGS: Final[dict[Spacing, Callable[[float], float]]] = {"uniform": lambda along: along, "ease": ease}


def deal_intervals(intervals: int, legs: int) -> list[int]:
    """Split a walk's intervals between its legs: evenly, with the remainder on the first ones.

    intervals >= legs >= 1. Returns `legs` counts of at least one that sum to `intervals`.
    """
    share, over = divmod(intervals, legs)
    return [share + (leg < over) for leg in range(legs)]


@dataclass(frozen=True, slots=True)
class Shard:
    """The frames that one call to one replica renders: of one recipe, at most a micro-batch."""

    walk_id: str
    recipe: Recipe
    fractions: tuple[float, ...]


def plan_shards(walk_id: str, frames: Iterable[Frame], micro_batch: int) -> list[Shard]:
    """Split frames into shards of one recipe each, as few and as even as `micro_batch` allows.

    A replica pads each shard to its micro-batch, so a smaller shard costs as much as a full one. Each shard takes every
    n-th frame of its leg, so that a walk appears from coarse to fine. Duplicate frames are rendered once.
    """
    legs: dict[Recipe, dict[float, None]] = {}
    for frame in frames:
        legs.setdefault(frame.recipe, {})[frame.fraction] = None
    shards = []
    for recipe, fractions in legs.items():
        count = math.ceil(len(fractions) / micro_batch)
        shards += [Shard(walk_id, recipe, tuple(fractions)[first::count]) for first in range(count)]
    return shards
