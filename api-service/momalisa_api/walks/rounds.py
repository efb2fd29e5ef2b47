"""Where on its legs a walk's frames stand, found in rounds: seeds are auditioned, legs probed, gaps halved. Pure.

A layout is a round: points to be rendered, all at once. When all of them are there the next follows from their
pictures alone, the same whoever computes it. The settled one holds the frames of the walk.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from momalisa_api.walks.even_spacing import budget, follow
from momalisa_api.walks.seed_choice import Audition, auditioned_fractions, choose_seed
from momalisa_api.walks.smoothness import Sight
from momalisa_api.walks.spec import AUTO, SPACINGS, Frame, WalkSpec

AUDITIONED: Final = tuple(range(4))


class Point(NamedTuple):
    """A place on a walk: what one frame shows. leg: counted from 0; fraction: 0 to 1."""

    seed: int
    leg: int
    fraction: float


Look = Callable[[Point], Sight]


class Layout(BaseModel):
    """One round of a walk. seed: the chosen one, None while seeds are auditioned; points: in the walk's order."""

    model_config = ConfigDict(frozen=True)

    seed: int | None
    settled: bool
    points: tuple[Point, ...]

    def frames(self, spec: WalkSpec) -> tuple[Frame, ...]:
        """The pictures at the points of a walk."""
        recipes = {seed: spec.recipes(seed) for seed in {point.seed for point in self.points}}
        return tuple(Frame(recipes[point.seed][point.leg], point.fraction) for point in self.points)


def seeds_of(spec: WalkSpec) -> tuple[int, ...]:
    """The seeds that are looked at for a walk."""
    return AUDITIONED if spec.seed == AUTO else (spec.seed,)


def most_points(spec: WalkSpec) -> int:
    """How many pictures the rounds of a walk with one seed take at most."""
    return sum(budget(count + 1) for count in spec.legs) if spec.spacing == "even" else spec.frames


def nearest(spec: WalkSpec, points: Sequence[Point]) -> dict[int, Point]:
    """Which points stand nearest to the frames' places, were these uniform: at most one a frame, of the lowest seed."""
    found: dict[int, tuple[tuple[int, float], Point]] = {}
    firsts = [0, *accumulate(spec.legs)]
    for point in points:
        place = firsts[point.leg] + point.fraction * spec.legs[point.leg]
        rank = (point.seed, abs(place - round(place)))
        if round(place) not in found or rank < found[round(place)][0]:
            found[round(place)] = rank, point
    return {frame: point for frame, (_, point) in found.items()}


def first_layout(spec: WalkSpec) -> Layout:
    """Where a walk begins: with its frames where it needs no rounds."""
    if spec.seed == AUTO:
        legs = [auditioned_fractions(count + 1) for count in spec.legs]
        points = [point for seed in seeds_of(spec) for point in _points(seed, legs)]
        return Layout(seed=None, settled=False, points=tuple(points))
    return _begin(spec, spec.seed)


def next_layout(spec: WalkSpec, layout: Layout, look: Look) -> Layout:
    """The round that follows on one that is not settled. look: what is seen at each of its points."""
    if layout.seed is None:
        return _begin(spec, _choose(spec, layout, look))
    return _follow(spec, layout.seed, layout.points, look)


def _begin(spec: WalkSpec, seed: int) -> Layout:
    """A walk whose seed is known, before anything of it has been seen."""
    if spec.spacing == "even":
        return _follow(spec, seed, (), _nothing_seen)
    along = SPACINGS[spec.spacing]
    # k / n is correctly rounded, so a walk of 49 frames meets the fractions of one of 25 bit for bit.
    legs = [[along(step / count) for step in range(count + 1)] for count in spec.legs]
    return Layout(seed=seed, settled=True, points=_points(seed, legs))


def _nothing_seen(point: Point) -> Sight:
    raise ValueError(f"nothing is known of {point} yet")


def _follow(spec: WalkSpec, seed: int, before: Sequence[Point], look: Look) -> Layout:
    """One more round on every leg that needs one; settled when none does."""
    legs, settled = [], True
    for leg, count in enumerate(spec.legs):
        known = _known(before, leg)
        fractions, enough = follow(count + 1, known, _distance_on(spec, seed, leg, look))
        # A leg that waits for others keeps what was chosen from; with all of that known it is chosen again.
        legs.append((fractions, sorted({*known, *fractions})))
        settled &= enough
    points = _points(seed, [chosen if settled else known for chosen, known in legs])
    return Layout(seed=seed, settled=settled, points=points)


def _points(seed: int, legs: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    """Points of legs whose fractions go from 0 to 1. An inner stop is fraction 0 of the leg that leaves it."""
    points = [Point(seed, leg, fraction) for leg, fractions in enumerate(legs) for fraction in fractions[:-1]]
    return (*points, Point(seed, len(legs) - 1, 1.0))


def _known(points: Sequence[Point], leg: int) -> list[float]:
    """The fractions of a leg among points, its end too."""
    fractions = [point.fraction for point in points if point.leg == leg]
    return fractions + [1.0] * any(point.leg == leg + 1 for point in points)


def _at(spec: WalkSpec, seed: int, leg: int, fraction: float) -> Point:
    inner_stop = fraction == 1 and leg + 1 < len(spec.legs)
    return Point(seed, leg + 1, 0.0) if inner_stop else Point(seed, leg, fraction)


def _distance_on(spec: WalkSpec, seed: int, leg: int, look: Look) -> Callable[[float, float], float]:
    def between(one: float, other: float) -> float:
        return look(_at(spec, seed, leg, one)).distance(look(_at(spec, seed, leg, other)))

    return between


def _choose(spec: WalkSpec, layout: Layout, look: Look) -> int:
    """The seed of an audition whose walk will be the best."""
    return choose_seed({seed: _audition(layout, seed, look) for seed in seeds_of(spec)})


def _audition(layout: Layout, seed: int, look: Look) -> Audition:
    seen = [look(point) for point in layout.points if point.seed == seed]
    steps = tuple(one.distance(other) for one, other in pairwise(seen))
    return Audition(steps, tuple(sight.edge for sight in seen))
