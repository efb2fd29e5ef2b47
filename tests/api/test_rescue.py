"""Legs that jump are rendered again with the early blend, and the more even of both ways becomes the leg."""

import io
import json
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.forecast import most_pictures, pictures_left, round_of
from momalisa_api.walks.kinds import EARLY_BLEND
from momalisa_api.walks.rounds import Layout, Point, first_layout, next_layout, stored_walk, with_growth
from momalisa_api.walks.smoothness import Thumbnail, gauge
from tests.support.factories import ended, running, spec

REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 13}
GROWTH = (1.25, 1.5)
FEATURES = (EARLY_BLEND,)
pytestmark = pytest.mark.anyio


def ramp(along: float) -> bytes:
    """A picture whose distance from another one is proportional to the difference of `along`, 0 to 1."""
    shade = round(255 * along)
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, shade, shade)).save(out, "PNG")
    return out.getvalue()


def jumping(recipe: dict[str, Any], fraction: float) -> bytes:
    """A leg from `a giraffe` jumps in its middle, unless it has the early blend; other legs are even.

    It goes from light to dark and the others from dark to light, so that neighbours have the same stop.
    """
    if recipe["start"] != "a giraffe":
        return ramp(fraction)
    return ramp(1 - fraction if recipe.get("blend") == "early" else 1 - fraction * 0.3 - (fraction > 0.52) * 0.7)


def worse(recipe: dict[str, Any], fraction: float) -> bytes:
    """Jumps either way, and more with the early blend."""
    return ramp(float(fraction < 0.52)) if recipe.get("blend") == "early" else jumping(recipe, fraction)


def thumbnails_of(walk: BetweenSpec, paint: Any) -> Any:
    def load(point: Point) -> Thumbnail:
        recipe = {"start": walk.stops[point.leg], "blend": "early" if point.early else "embeddings"}
        return Thumbnail.of(paint(recipe, point.fraction))

    return load


def settled(walk: BetweenSpec, paint: Any, *, rescue: bool = True) -> tuple[Layout, list[Layout]]:
    """The last layout of a walk, and all rounds before it; each goes through the catalogue's JSON."""
    rounds = [with_growth(walk, first_layout(walk), GROWTH).model_copy(update={"rescue": rescue})]
    while not rounds[-1].settled:
        stored = Layout.model_validate_json(rounds[-1].model_dump_json())
        assert stored == rounds[-1]
        rounds.append(next_layout(walk, stored, thumbnails_of(walk, paint)))
        assert len(rounds) < 20
    return rounds.pop(), rounds


def evenness(walk: BetweenSpec, layout: Layout, paint: Any) -> float:
    seen = [thumbnails_of(walk, paint)(point) for point in layout.points]
    return gauge([one.distance(other) for one, other in pairwise(seen)])[0] or 0.0


def test_a_leg_that_jumps_has_the_early_blend_between_the_same_stops():
    walk = spec(frames=13, spacing="even")
    layout, rounds = settled(walk, jumping)
    assert [point.early for point in layout.points] == [False, *[True] * 11, False]
    assert (layout.points[0], layout.points[-1], layout.rescued) == (Point(0, 0, 0.0), Point(0, 0, 1.0), (0,))
    plain, _ = settled(walk, jumping, rescue=False)
    assert evenness(walk, layout, jumping) > evenness(walk, plain, jumping) + 0.2
    ends, middle = layout.frames(walk)[0].recipe, layout.frames(walk)[6].recipe
    assert (ends.blend, middle.blend) == ("embeddings", "early")
    assert [one.rescued for one in rounds] == [(), (), (), (0,), (0,), (0,)]
    assert [round_of(walk, one) for one in rounds] == [(1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6)]


def test_a_leg_that_is_less_even_with_the_early_blend_stays_as_it_was():
    """The layout says that it was tried: its pictures count."""
    walk = spec(frames=13, spacing="even")
    layout, _ = settled(walk, worse)
    plain, _ = settled(walk, worse, rescue=False)
    assert layout.points == plain.points
    assert (layout.rescued, plain.rescued) == ((0,), ())


def test_only_legs_that_jump_are_rendered_again():
    """The middle one of three. Its neighbours keep their pictures, and the stops are shared as before."""
    walk = spec(stops=("a sun", "a giraffe", "a sea", "a hat"), frames=37, spacing="even")
    layout, rounds = settled(walk, jumping)
    assert {point.leg for point in layout.points if point.early} == {1}
    assert not any(point.early for one in rounds for point in one.points if point.leg != 1)
    assert [Point(0, leg, 0.0) in layout.points for leg in (1, 2)] == [True, True]
    assert len(layout.points) == 37


def test_a_leg_with_a_picture_is_not_rendered_again():
    """The early blend is between prompts: its frames would be the same ones, and its rounds would take time."""
    picture = {"picture": "ab" * 32, "crop": {"x": 0, "y": 0, "width": 32, "height": 32}}
    layout, rounds = settled(spec(stops=("a giraffe", picture), frames=13, spacing="even", strength=0.8), jumping)
    assert (layout.rescued, len(rounds)) == ((), 3)
    assert not any(point.early for point in layout.points)


@pytest.mark.parametrize("stops", [("a giraffe", "b"), ("a sun", "a giraffe", "a sea")])
@pytest.mark.parametrize("paint", [jumping, worse])
def test_a_rescue_counts_for_the_pictures_that_it_renders(stops, paint):
    """For quotas and the queue, exactly; and for the time that is left, from the round in which it begins."""
    walk = spec(stops=stops, frames=25, spacing="even")
    layout, rounds = settled(walk, paint)
    rendered: set[Point] = set()
    for number, one in enumerate(rounds):
        stored = [at for at, point in enumerate(one.points) if point in rendered]
        left = sum(map(sum, pictures_left(walk, one, stored)))
        rendered |= set(one.points)
        if one.rescued:
            assert left == len({point for later in rounds[number:] for point in later.points}) - len(stored)
    assert len(rendered | set(layout.points)) == most_pictures(walk, GROWTH, layout.rescued)
    assert most_pictures(walk, GROWTH) < most_pictures(walk, GROWTH, layout.rescued)


def test_a_walk_whose_rescue_fails_ends_as_it_was_before():
    """The pictures of a whole walk are there: those of the rescue would only have improved it."""
    walk = spec(frames=13, spacing="even")
    _, rounds = settled(walk, jumping)
    plain, _ = settled(walk, jumping, rescue=False)
    unfinished = next(one for one in rounds if one.rescued)
    stored = [at for at, point in enumerate(unfinished.points) if not point.early or point.fraction < 0.4]
    known = stored_walk(walk, unfinished, stored)
    assert known
    layout = next_layout(walk, known, thumbnails_of(walk, jumping))
    assert (layout.settled, layout.points) == (True, plain.points)


def test_layouts_without_early_points_are_stored_as_before():
    """During an upgrade, workers of the last release read them."""
    plain = Layout(seed=0, settled=True, points=(Point(0, 0, 0.0), Point(0, 0, 1.0)))
    assert json.loads(plain.model_dump_json())["points"] == [[0, 0, 0.0], [0, 0, 1.0]]
    early = Layout(seed=0, settled=True, points=(Point(0, 0, 0.0), Point(0, 0, 0.5, early=True), Point(0, 0, 1.0)))
    assert Layout.model_validate(early.model_dump(mode="json")) == early


async def test_a_walk_that_jumps_is_rescued_and_says_so(settings, fleet):
    """In the walk and in the film. The replica gets the field only in recipes that have the early blend."""
    replica = fleet.add(paint=jumping, features=FEATURES)
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        gif = await client.get(walk["url"] + "/walk.gif")
    assert (walk["state"], walk["early_legs"]) == ("done", [0])
    assert walk["smoothness"]["largest"] < 1.2
    with Image.open(io.BytesIO(gif.content)) as film:
        assert json.loads(film.info["comment"])["early_legs"] == [0]
    blends = [(recipe.get("blend"), 0 in fractions or 1 in fractions) for recipe, fractions in replica.render_calls]
    assert {blend for blend, _ in blends} == {None, "early"}
    assert ("early", True) not in blends, "the stops are the same pictures"


@pytest.mark.parametrize("features", [[()], [FEATURES, ()]])
async def test_a_fleet_with_an_older_replica_rescues_no_walk(settings, fleet, features):
    """It refuses recipes with unknown fields, which would fail the walk."""
    for of_replica in features:
        fleet.add(paint=jumping, features=of_replica)
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    assert (walk["state"], walk["early_legs"]) == ("done", [])
    assert not any("blend" in recipe for replica in fleet.replicas.values() for recipe, _ in replica.render_calls)


@pytest.mark.parametrize("cheap", [{"effort": "fast"}, {"spacing": "uniform"}, {"steps": 2}])
async def test_a_cheap_walk_is_not_rescued(settings, fleet, cheap):
    """Fast walks have one round, uniform ones none; two denoising steps have no first third."""
    fleet.add(paint=jumping, features=FEATURES)
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, **cheap})).json())
    assert (walk["state"], walk["early_legs"]) == ("done", [])
