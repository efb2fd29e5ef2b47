"""Legs that jump: they are rendered again with the early blend, and the more even of both ways is kept. Pure.

The early blend mixes the two prompts' noise predictions in the first third of the denoising steps, where a picture's
composition is decided (docs/model-contract.md). It moves more evenly, but between many prompts its pictures are duller,
so only legs that jump get it (docs/experiments/early-blend.md).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.even_spacing import FEWEST, follow
from momalisa_api.walks.smoothness import gauge
from momalisa_api.walks.spec import WalkSpec

# A leg jumps if its largest step is so many times the mean one. Found by experiment.
JUMPS: Final = 1.75
# With fewer denoising steps, the early blend has none.
FEWEST_STEPS: Final = 3


class Place(NamedTuple):
    """A position on a leg. fraction: 0 to 1; early: whether its picture has the early blend, never at 0 or 1."""

    fraction: float
    early: bool = False


def can_rescue(spec: WalkSpec) -> bool:
    """Whether legs of a walk may be rendered again if they jump: for a price, and not without early steps."""
    return isinstance(spec, BetweenSpec) and spec.effort != "fast" and spec.steps >= FEWEST_STEPS


PlaceDistance = Callable[[Place, Place], float]


def follow_leg(
    frames: int, known: Sequence[Place], distance: PlaceDistance, sizes: Sequence[int], *, rescue: bool
) -> tuple[tuple[Place, ...], bool]:
    """The next step on a leg, as `even_spacing.follow`: places to render, or the finished leg and True.

    known: the rendered places; distance: of the pictures at two known places. rescue: whether a leg that jumps after
    its rounds has them again with the early blend. Stateless: equal arguments give equal results.
    """
    plain, enough = _follow_way(frames, known, distance, sizes, early=False)
    if not (enough and rescue and frames >= FEWEST):
        return plain, enough
    evenness, largest, _ = gauge(_steps(plain, distance))
    if evenness is None or largest is None or largest <= JUMPS:
        return plain, True
    early, enough = _follow_way(frames, known, distance, sizes, early=True)
    if not enough:
        return early, False
    return (early if (gauge(_steps(early, distance))[0] or 0.0) > evenness else plain), True


def fractions_of(places: Iterable[Place], *, early: bool) -> list[float]:
    """The fractions of the places that were rendered in one way. The ends of a leg belong to both."""
    found = [place.fraction for place in places if place.early == early]
    return [0.0, *found, 1.0] if early and found else found


def _follow_way(
    frames: int, known: Sequence[Place], distance: PlaceDistance, sizes: Sequence[int], *, early: bool
) -> tuple[tuple[Place, ...], bool]:
    """`even_spacing.follow` among the pictures with or without the early blend."""

    def between(one: float, other: float) -> float:
        return distance(_place(one, early), _place(other, early))

    fractions, enough = follow(frames, fractions_of(known, early=early), between, sizes)
    return tuple(_place(fraction, early) for fraction in fractions), enough


def _place(fraction: float, early: bool) -> Place:
    return Place(fraction, early and 0 < fraction < 1)


def _steps(places: Sequence[Place], distance: PlaceDistance) -> list[float]:
    return [distance(one, other) for one, other in pairwise(places)]
