"""A walk's spec, its frames, and the shards that render them. Each kind of walk has a module with its spec. Pure."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from momalisa_api.walks.apart import ApartSpec
from momalisa_api.walks.between import ADDED_FIELDS, BetweenSpec
from momalisa_api.walks.clip import ClipSpec
from momalisa_api.walks.common_spec import KINDS_VERSION, Spacing
from momalisa_api.walks.into import IntoSpec
from momalisa_api.walks.recipe import Recipe, Rendered
from momalisa_api.walks.restyle import RestyleSpec

# The newest version of the specs that this release stores.
SPEC_VERSION: Final = KINDS_VERSION
WalkSpec = BetweenSpec | IntoSpec | RestyleSpec | ClipSpec | ApartSpec
# As the field of a model: its kind says which of them it is.
SpecByKind = Annotated[WalkSpec, Field(discriminator="kind")]
_SPECS: Final[TypeAdapter[WalkSpec]] = TypeAdapter(SpecByKind)


def spec_from_stored(content: object, version: int) -> WalkSpec:
    """Read a stored spec of this version or an older one. Raises ValueError for any other content."""
    spec = _SPECS.validate_python(read_forward(content, version))
    spec.check()
    return spec


def is_private(spec: Rendered) -> bool:
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


@dataclass(frozen=True, slots=True)
class Shard:
    """The frames that one call to one replica renders: of one recipe, at most a micro-batch.

    extras: whether the replica also makes the files that belong to the recipe.
    """

    walk_id: str
    recipe: Recipe
    fractions: tuple[float, ...]
    extras: bool = False


def plan_shards(walk_id: str, frames: Iterable[Frame], micro_batch: int) -> list[Shard]:
    """Split frames into shards of one recipe each, as few and as even as `micro_batch` allows.

    A replica pads each shard to its micro-batch, so a smaller shard costs as much as a full one. Each shard takes every
    n-th frame of its leg, so that a walk appears from coarse to fine; but neighbours of a
    clip are in one shard, as they are read together. Duplicate frames are rendered once.
    """
    legs: dict[Recipe, dict[float, None]] = {}
    for frame in frames:
        legs.setdefault(frame.recipe, {})[frame.fraction] = None
    shards = []
    for recipe, fractions in legs.items():
        count, ordered = math.ceil(len(fractions) / micro_batch), tuple(fractions)
        if recipe.clips:
            ends = [len(ordered) * number // count for number in range(count + 1)]
            shards += [Shard(walk_id, recipe, ordered[first:end]) for first, end in pairwise(ends)]
        else:
            shards += [Shard(walk_id, recipe, ordered[first::count]) for first in range(count)]
    return shards
