"""What a walk is: its spec, the recipes of its legs, its frames, and the shards they are rendered in. Pure."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict


def _digest(content: Any) -> str:
    """32 hex digits that name a JSON value, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


Spacing = Literal["even", "uniform", "ease"]
AUTO: Final = "auto"


class Look(BaseModel):
    """What decides how every frame of a walk looks, beside the prompts and the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    scheduler: str
    model: str
    revision: str

    @cached_property
    def id(self) -> str:
        """32 hex digits: equal contents have equal ids, everywhere and for ever."""
        return _digest(self.model_dump())


class Recipe(Look):
    """Everything but the fraction that decides a frame's pixels: one leg of a walk."""

    start: str
    end: str
    seed: int

    @property
    def folder(self) -> str:
        """Where the recipe's frames lie in the bucket."""
        return f"frames/{self.id}/"

    @property
    def truncated_key(self) -> str:
        """Where it is written what the model did not hear of the recipe's prompts."""
        return f"{self.folder}unheard.json"

    @property
    def marked_key(self) -> str:
        """Lies there where the model's safety checker marked a frame of the recipe; laid before that frame."""
        return f"{self.folder}marked.json"


class WalkSpec(Look):
    """A walk, complete and canonical. Equal specs are one walk. seed: a number, or "auto" for the best of some."""

    stops: tuple[str, ...]
    frames: int
    seed: int | Literal["auto"]
    spacing: Spacing
    frame_ms: int
    gif_there_and_back: bool
    mp4_there_and_back: bool

    @property
    def legs(self) -> tuple[int, ...]:
        """How many intervals each leg has."""
        return tuple(deal_intervals(self.frames - 1, len(self.stops) - 1))

    def recipes(self, seed: int) -> tuple[Recipe, ...]:
        """One recipe a leg, in the walk's order."""
        look = self.model_dump(include=set(Look.model_fields))
        return tuple(Recipe(start=start, end=end, seed=seed, **look) for start, end in pairwise(self.stops))


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a walk. Frames of equal keys are the same picture, in whatever walk they stand."""

    recipe: Recipe
    fraction: float

    @property
    def key(self) -> str:
        """Where the frame lies in the bucket."""
        return f"{self.recipe.folder}{self.fraction!r}.png"


def eased(along: float) -> float:
    """Slow at both ends of a leg, 0 to 1: smoothstep, exact at 0, one half and 1."""
    return along * along * (3 - 2 * along)


SPACINGS: Final[dict[Spacing, Callable[[float], float]]] = {"uniform": lambda along: along, "ease": eased}


def deal_intervals(intervals: int, legs: int) -> list[int]:
    """How many of a walk's intervals each leg gets: evenly, earlier legs first.

    intervals >= legs >= 1. Returns `legs` counts of at least one that sum to `intervals`.
    """
    share, over = divmod(intervals, legs)
    return [share + (leg < over) for leg in range(legs)]


@dataclass(frozen=True, slots=True)
class Shard:
    """The frames of one walk that one call to one replica renders: one recipe, at most a micro-batch."""

    walk_id: str
    recipe: Recipe
    fractions: tuple[float, ...]


def plan_shards(walk_id: str, frames: Iterable[Frame], micro_batch: int) -> list[Shard]:
    """Deal frames into shards of one recipe each, as few and as even as `micro_batch` allows.

    A replica pads each shard to its micro-batch, so a smaller shard costs as much as a full one: fewer shards are
    always better. Each takes every n-th frame of its leg, so that a walk appears coarse to fine.
    Frames that occur twice in the walk are planned once.
    """
    legs: dict[Recipe, dict[float, None]] = {}
    for frame in frames:
        legs.setdefault(frame.recipe, {})[frame.fraction] = None
    shards = []
    for recipe, fractions in legs.items():
        count = math.ceil(len(fractions) / micro_batch)
        shards += [Shard(walk_id, recipe, tuple(fractions)[first::count]) for first in range(count)]
    return shards
