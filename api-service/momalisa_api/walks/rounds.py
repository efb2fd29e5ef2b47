"""The rounds in which a walk's frames are placed on its legs: choose a seed, render the uniform walk, refine. Pure.

A layout is one round: points to render, all at once. Once they are rendered, the next round follows from the layout and
their pictures alone, so every process computes the same one. The settled layout has the frames of the walk.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, field_serializer

from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.even_spacing import FEWEST, uniform
from momalisa_api.walks.rescue import Place, PlaceDistance, follow_leg
from momalisa_api.walks.seed_choice import SeedSample, choose_seed, sample_fractions
from momalisa_api.walks.smoothness import Thumbnail
from momalisa_api.walks.spec import SPACINGS, Frame, WalkSpec


class Point(NamedTuple):
    """A position on a walk, which one picture shows. leg: counted from 0; fraction and early: see `Place`."""

    seed: int
    leg: int
    fraction: float
    early: bool = False


LoadThumbnail = Callable[[Point], Thumbnail]


class Layout(BaseModel):
    """One round of a walk.

    seed: None while it is being chosen; points: in the walk's order; growth: the number of points after each round that
    follows the uniform one, as multiples of a leg's frames. It is empty if the walk needs no such rounds, before they
    are decided, and in what older releases stored. rescue: whether legs that jump are rendered again with the early
    blend, None before that is decided; rescued: the numbers of those that were.
    """

    model_config = ConfigDict(frozen=True)

    seed: int | None
    settled: bool
    points: tuple[Point, ...]
    growth: tuple[float, ...] = ()
    rescue: bool | None = None
    rescued: tuple[int, ...] = ()

    @field_serializer("points")
    def _readable_by_older_releases(self, points: tuple[Point, ...]) -> list[tuple[int | float | bool, ...]]:
        return [point if point.early else point[:3] for point in points]

    def frames(self, spec: WalkSpec) -> tuple[Frame, ...]:
        """The frames at the points."""
        ways = {(point.seed, point.early) for point in self.points}
        recipes = {(seed, early): spec.recipes(seed, "early" if early else "embeddings") for seed, early in ways}
        return tuple(Frame(recipes[point.seed, point.early][point.leg], point.fraction) for point in self.points)


def sizes_of(frames: int, growth: Sequence[float]) -> tuple[int, ...]:
    """The number of known fractions of a leg after each round that follows the uniform one."""
    return tuple(round(frames * times) for times in growth) if frames >= FEWEST else ()


def nearest(spec: WalkSpec, points: Sequence[Point]) -> dict[int, Point]:
    """The point nearest to each frame of uniform spacing: at most one per frame, of the lowest seed."""
    found: dict[int, tuple[tuple[int, bool, float], Point]] = {}
    firsts = [0, *accumulate(spec.legs)]
    for point in points:
        place = firsts[point.leg] + point.fraction * spec.legs[point.leg]
        rank = (point.seed, point.early, abs(place - round(place)))
        if round(place) not in found or rank < found[round(place)][0]:
            found[round(place)] = rank, point
    return {frame: point for frame, (_, point) in found.items()}


def first_layout(spec: WalkSpec) -> Layout:
    """The first round of a walk. It is the settled one if the spacing needs no rounds."""
    if len(spec.seeds) > 1:
        legs = [_plain(sample_fractions(count + 1)) for count in spec.legs]
        points = [point for seed in spec.seeds for point in _points(seed, legs)]
        return Layout(seed=None, settled=False, points=tuple(points))
    return _begin(spec, Layout(seed=spec.seeds[0], settled=False, points=()))


def with_growth(spec: WalkSpec, layout: Layout, growth: tuple[float, ...]) -> Layout:
    """A round with the growth of its walk, if that was not decided.

    Rounds of older releases lack some points of the uniform walk; what they have is kept.
    """
    if layout.settled or layout.growth or spec.spacing != "even":
        return layout
    points = layout.points
    if layout.seed is not None:
        legs = [sorted({*_plain(uniform(count + 1)), *known_on(points, leg)}) for leg, count in enumerate(spec.legs)]
        points = _points(layout.seed, legs)
    return layout.model_copy(update={"points": points, "growth": growth})


def stored_walk(spec: WalkSpec, layout: Layout, stored: Container[int]) -> Layout | None:
    """The last round before the settled one, of the points whose pictures exist; None if these are no whole walk.

    stored: numbers of those points. A rescue that is not finished counts for nothing.
    """
    points = tuple(point for number, point in enumerate(layout.points) if number in stored and not point.early)
    if layout.settled or layout.seed is None:
        return None
    legs = [_plain(uniform(count + 1)) for count in spec.legs]
    if not {*points} >= {*_points(layout.seed, legs)}:
        return None
    return layout.model_copy(update={"points": points, "growth": (), "rescue": False})


def next_layout(spec: WalkSpec, layout: Layout, load: LoadThumbnail) -> Layout:
    """The round after one that is not settled. load: the thumbnail of each of its points."""
    if layout.seed is None:
        return _begin(spec, layout.model_copy(update={"seed": _choose(spec, layout, load), "points": ()}))
    return _follow(spec, layout, layout.seed, load)


def _begin(spec: WalkSpec, empty: Layout) -> Layout:
    """The first round of a walk with a known seed. empty: the layout without points."""
    assert empty.seed is not None
    if spec.spacing == "even":
        return _follow(spec, empty, empty.seed, _no_thumbnail)
    along = SPACINGS[spec.spacing]
    legs = [_plain([along(place) for place in uniform(count + 1)]) for count in spec.legs]
    return empty.model_copy(update={"settled": True, "points": _points(empty.seed, legs)})


def _no_thumbnail(point: Point) -> Thumbnail:
    raise ValueError(f"{point} is not rendered yet")


def _follow(spec: WalkSpec, before: Layout, seed: int, load: LoadThumbnail) -> Layout:
    """One more round on every leg that needs one; settled if none does."""
    legs, settled = [], True
    for leg, count in enumerate(spec.legs):
        known, sizes = known_on(before.points, leg), sizes_of(count + 1, before.growth)
        distance = _distance_on(spec, seed, leg, load)
        rescue = bool(before.rescue) and not _has_picture(spec, leg)
        places, enough = follow_leg(count + 1, known, distance, sizes, rescue=rescue)
        # A leg that waits for others keeps all its candidates, and chooses again with them.
        legs.append((places, sorted({*known, *places})))
        settled &= enough
    points = _points(seed, [chosen if settled else known for chosen, known in legs])
    rescued = tuple(leg for leg, (_, known) in enumerate(legs) if any(place.early for place in known))
    return before.model_copy(update={"settled": settled, "points": points, "rescued": rescued})


def _has_picture(spec: WalkSpec, leg: int) -> bool:
    return isinstance(spec, BetweenSpec) and spec.has_picture(leg)


def _plain(fractions: Iterable[float]) -> list[Place]:
    return [Place(fraction) for fraction in fractions]


def _points(seed: int, legs: Sequence[Sequence[Place]]) -> tuple[Point, ...]:
    """Points of legs whose fractions go from 0 to 1. An inner stop is fraction 0 of the leg after it."""
    points = [Point(seed, leg, *place) for leg, places in enumerate(legs) for place in places[:-1]]
    return (*points, Point(seed, len(legs) - 1, 1.0))


def known_on(points: Sequence[Point], leg: int) -> list[Place]:
    """The places of a leg among points, including its end."""
    places = [Place(point.fraction, point.early) for point in points if point.leg == leg]
    return places + [Place(1.0)] * any(point.leg == leg + 1 for point in points)


def _at(spec: WalkSpec, seed: int, leg: int, place: Place) -> Point:
    inner_stop = place.fraction == 1 and leg + 1 < len(spec.legs)
    return Point(seed, leg + 1, 0.0) if inner_stop else Point(seed, leg, *place)


def _distance_on(spec: WalkSpec, seed: int, leg: int, load: LoadThumbnail) -> PlaceDistance:
    def between(one: Place, other: Place) -> float:
        return load(_at(spec, seed, leg, one)).distance(load(_at(spec, seed, leg, other)))

    return between


def _choose(spec: WalkSpec, layout: Layout, load: LoadThumbnail) -> int:
    """The seed whose walk will be the best."""
    return choose_seed({seed: _sample(layout, seed, load) for seed in spec.seeds})


def _sample(layout: Layout, seed: int, load: LoadThumbnail) -> SeedSample:
    seen = [load(point) for point in layout.points if point.seed == seed]
    steps = tuple(one.distance(other) for one, other in pairwise(seen))
    return SeedSample(steps, tuple(thumbnail.edge for thumbnail in seen))
