"""The rounds in which a walk's frames are placed on its legs: choose a seed, probe the legs, refine. Pure.

A layout is one round: points to render, all at once. Once they are rendered, the next round follows from their pictures
alone, so every process computes the same one. The settled layout has the frames of the walk.
"""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from itertools import accumulate, pairwise, zip_longest
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from momalisa_api.walks.even_spacing import follow, rounds
from momalisa_api.walks.seed_choice import SeedSample, choose_seed, sample_fractions
from momalisa_api.walks.smoothness import Thumbnail
from momalisa_api.walks.spec import AUTO, SPACINGS, Frame, WalkSpec

CANDIDATE_SEEDS: Final = tuple(range(4))


class Point(NamedTuple):
    """A position on a walk, which one picture shows. leg: counted from 0; fraction: 0 to 1 on that leg."""

    seed: int
    leg: int
    fraction: float


LoadThumbnail = Callable[[Point], Thumbnail]


class Layout(BaseModel):
    """One round of a walk. seed: None while it is being chosen; points: in the walk's order."""

    model_config = ConfigDict(frozen=True)

    seed: int | None
    settled: bool
    points: tuple[Point, ...]

    def frames(self, spec: WalkSpec) -> tuple[Frame, ...]:
        """The frames at the points."""
        recipes = {seed: spec.recipes(seed) for seed in {point.seed for point in self.points}}
        return tuple(Frame(recipes[point.seed][point.leg], point.fraction) for point in self.points)


def seeds_of(spec: WalkSpec) -> tuple[int, ...]:
    """The seeds that a walk tries."""
    return CANDIDATE_SEEDS if spec.seed == AUTO else (spec.seed,)


def pictures_left(spec: WalkSpec, layout: Layout, stored: Container[int]) -> list[list[int]]:
    """How many pictures each round needs that is left, one number per recipe: of this layout, then of those after it.

    stored: numbers of the layout's points whose pictures exist. Exact, but for inner stops: two legs share each.
    """
    missing = Counter((point.seed, point.leg) for number, point in enumerate(layout.points) if number not in stored)
    later = [] if layout.settled else [_later(spec, layout, leg) for leg in range(len(spec.legs))]
    return [list(missing.values()), *(list(counts) for counts in zip_longest(*later, fillvalue=0))]


def _later(spec: WalkSpec, layout: Layout, leg: int) -> list[int]:
    """How many pictures each round after this one adds to a leg."""
    frames = spec.legs[leg] + 1
    # All seeds that are tried have the same fractions.
    known = len(_known([point for point in layout.points if point.seed == layout.points[0].seed], leg))
    # Legs that are short, or not even, are settled at once.
    sizes = (rounds(frames) if spec.spacing == "even" else ()) or (frames,)
    return [after - before for before, after in pairwise([known, *(size for size in sizes if size > known)])]


def nearest(spec: WalkSpec, points: Sequence[Point]) -> dict[int, Point]:
    """The point nearest to each frame of uniform spacing: at most one per frame, of the lowest seed."""
    found: dict[int, tuple[tuple[int, float], Point]] = {}
    firsts = [0, *accumulate(spec.legs)]
    for point in points:
        place = firsts[point.leg] + point.fraction * spec.legs[point.leg]
        rank = (point.seed, abs(place - round(place)))
        if round(place) not in found or rank < found[round(place)][0]:
            found[round(place)] = rank, point
    return {frame: point for frame, (_, point) in found.items()}


def first_layout(spec: WalkSpec) -> Layout:
    """The first round of a walk. It is the settled one if the spacing needs no rounds."""
    if spec.seed == AUTO:
        legs = [sample_fractions(count + 1) for count in spec.legs]
        points = [point for seed in seeds_of(spec) for point in _points(seed, legs)]
        return Layout(seed=None, settled=False, points=tuple(points))
    return _begin(spec, spec.seed)


def next_layout(spec: WalkSpec, layout: Layout, load: LoadThumbnail) -> Layout:
    """The round after one that is not settled. load: the thumbnail of each of its points."""
    if layout.seed is None:
        return _begin(spec, _choose(spec, layout, load))
    return _follow(spec, layout.seed, layout.points, load)


def _begin(spec: WalkSpec, seed: int) -> Layout:
    """The first round of a walk with a known seed."""
    if spec.spacing == "even":
        return _follow(spec, seed, (), _no_thumbnail)
    along = SPACINGS[spec.spacing]
    # k / n is correctly rounded, so a walk of 49 frames has the fractions of one of 25 bit for bit.
    legs = [[along(step / count) for step in range(count + 1)] for count in spec.legs]
    return Layout(seed=seed, settled=True, points=_points(seed, legs))


def _no_thumbnail(point: Point) -> Thumbnail:
    raise ValueError(f"{point} is not rendered yet")


def _follow(spec: WalkSpec, seed: int, before: Sequence[Point], load: LoadThumbnail) -> Layout:
    """One more round on every leg that needs one; settled if none does."""
    legs, settled = [], True
    for leg, count in enumerate(spec.legs):
        known = _known(before, leg)
        fractions, enough = follow(count + 1, known, _distance_on(spec, seed, leg, load))
        # A leg that waits for others keeps all its candidates, and chooses again with them.
        legs.append((fractions, sorted({*known, *fractions})))
        settled &= enough
    points = _points(seed, [chosen if settled else known for chosen, known in legs])
    return Layout(seed=seed, settled=settled, points=points)


def _points(seed: int, legs: Sequence[Sequence[float]]) -> tuple[Point, ...]:
    """Points of legs whose fractions go from 0 to 1. An inner stop is fraction 0 of the leg after it."""
    points = [Point(seed, leg, fraction) for leg, fractions in enumerate(legs) for fraction in fractions[:-1]]
    return (*points, Point(seed, len(legs) - 1, 1.0))


def _known(points: Sequence[Point], leg: int) -> list[float]:
    """The fractions of a leg among points, including its end."""
    fractions = [point.fraction for point in points if point.leg == leg]
    return fractions + [1.0] * any(point.leg == leg + 1 for point in points)


def _at(spec: WalkSpec, seed: int, leg: int, fraction: float) -> Point:
    inner_stop = fraction == 1 and leg + 1 < len(spec.legs)
    return Point(seed, leg + 1, 0.0) if inner_stop else Point(seed, leg, fraction)


def _distance_on(spec: WalkSpec, seed: int, leg: int, load: LoadThumbnail) -> Callable[[float, float], float]:
    def between(one: float, other: float) -> float:
        return load(_at(spec, seed, leg, one)).distance(load(_at(spec, seed, leg, other)))

    return between


def _choose(spec: WalkSpec, layout: Layout, load: LoadThumbnail) -> int:
    """The seed whose walk will be the best."""
    return choose_seed({seed: _sample(layout, seed, load) for seed in seeds_of(spec)})


def _sample(layout: Layout, seed: int, load: LoadThumbnail) -> SeedSample:
    seen = [load(point) for point in layout.points if point.seed == seed]
    steps = tuple(one.distance(other) for one, other in pairwise(seen))
    return SeedSample(steps, tuple(thumbnail.edge for thumbnail in seen))
