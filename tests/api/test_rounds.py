"""Even walks and chosen seeds, with a whole API and fake replicas whose pictures change unevenly."""

import io
import json
import math
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image
from sqlalchemy import update

from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.fair_queue import AheadInQueue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import walks
from momalisa_api.store.workers import FleetStatus
from momalisa_api.walks.forecast import most_pictures, pictures_left, round_of
from momalisa_api.walks.growth import Capacity, choose_growth
from momalisa_api.walks.rounds import Layout, Point, first_layout, nearest, next_layout, with_growth
from momalisa_api.walks.smoothness import Thumbnail, distance
from momalisa_api.walks.walk import State, Walk
from momalisa_api.web.routes.schemas import seconds_left
from tests.support.factories import CARD, ended, running, spec

REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 25}
ALONE = Capacity(micro_batch=5, replicas=1)
# What one fake replica renders of this walk.
MOST = round(25 * choose_growth("balanced", [24], Capacity(CARD["micro_batch"], replicas=1))[-1])
pytestmark = pytest.mark.anyio


def ramp(along: float, width: int = 32, height: int = 32) -> bytes:
    """A picture whose distance from another one is proportional to the difference of `along`, 0 to 1."""
    shade = round(255 * along)
    picture = Image.new("RGB", (width, height), (shade, shade, shade))
    picture.putpixel((0, 0), (255, 0, 0))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def steep(recipe: dict[str, Any], fraction: float) -> bytes:
    """Nearly all change happens in a tenth of the leg; more so with a higher seed."""
    slope = 25 + 30 * (recipe["seed"] % 4)
    low, here, high = (1 / (1 + math.exp(-slope * (at - 0.4))) for at in (0.0, fraction, 1.0))
    return ramp((here - low) / (high - low), recipe["width"], recipe["height"])


def step(recipe: dict[str, Any], fraction: float) -> bytes:
    return ramp(float(fraction > 0.3), recipe["width"], recipe["height"])


def still(recipe: dict[str, Any], fraction: float) -> bytes:
    del fraction
    return ramp(0.5, recipe["width"], recipe["height"])


def thumbnails_of(paint: Any) -> Any:
    return lambda point: Thumbnail.of(paint({"seed": point.seed, "width": 32, "height": 32}, point.fraction))


def settled(walk: Any, paint: Any, capacity: Capacity = ALONE) -> tuple[Layout, list[Layout]]:
    """The last layout of a walk, and all rounds before it."""
    rounds = [with_growth(walk, first_layout(walk), choose_growth(walk.effort, walk.legs, capacity))]
    while not rounds[-1].settled:
        rounds.append(next_layout(walk, rounds[-1], thumbnails_of(paint)))
        assert len(rounds) < 20
    return rounds.pop(), rounds


@pytest.mark.parametrize("paint", [steep, step, still])
@pytest.mark.parametrize("frames", [4, 5, 13, 25, 61])
@pytest.mark.parametrize("stops", [("a", "b"), ("a", "b", "a"), ("a", "b", "c", "d")])
def test_rounds_end_with_the_requested_frames_and_exact_stops(paint, frames, stops):
    walk = spec(stops=stops, frames=frames, spacing="even")
    layout, rounds = settled(walk, paint)
    points = layout.points
    assert len(points) == frames
    firsts = [0, *[sum(walk.legs[: leg + 1]) for leg in range(len(walk.legs))]]
    for leg, first in enumerate(firsts[:-1]):
        assert points[first] == Point(0, leg, 0.0)
    assert points[-1] == Point(0, len(walk.legs) - 1, 1.0)
    assert all((a.leg, a.fraction) < (b.leg, b.fraction) for a, b in pairwise(points))
    rendered = {point for one in rounds for point in one.points} | set(points)
    assert len(rendered) <= most_pictures(walk)
    assert len(rendered) <= most_pictures(walk, layout.growth)


def test_a_seed_choice_samples_all_seeds_and_reuses_the_frames_of_the_chosen_one():
    walk = spec(frames=25, spacing="even", seed="auto")
    layout, rounds = settled(walk, steep)
    assert {point.seed for point in rounds[0].points} == set(range(4))
    assert layout.seed == 0
    assert {point for point in rounds[0].points if point.seed == 0} <= set(rounds[1].points)
    ease, rounds = settled(spec(frames=25, spacing="ease", seed="auto"), steep)
    assert len(rounds) == 1
    assert ease == first_layout(spec(frames=25, spacing="ease", seed=0))


@pytest.mark.parametrize("frames", [4, 5, 13, 25, 61])
@pytest.mark.parametrize("spacing", ["even", "uniform"])
@pytest.mark.parametrize("seed", [0, "auto"])
def test_the_rounds_that_are_left_are_known_in_advance(frames, spacing, seed):
    """They decide how long a walk takes where there are many replicas."""
    walk = spec(frames=frames, spacing=spacing, seed=seed)
    layout, rounds = settled(walk, steep)
    have: set[Point] = set()
    foretold, rendered = [], []
    for one in [*rounds, layout]:
        stored = [number for number, point in enumerate(one.points) if point in have]
        foretold.append([count for counts in pictures_left(walk, one, stored) if (count := sum(counts))])
        rendered.append(len(set(one.points) - have))
        have |= set(one.points)
    for number, left in enumerate(foretold):
        assert left == [count for count in rendered[number:] if count]
    total = len([count for count in rendered if count])
    assert [round_of(walk, one) for one in rounds] == [(number, total) for number in range(1, len(rounds) + 1)]
    assert round_of(walk, layout) == (total, total)


@pytest.mark.parametrize(
    ("capacity", "known"),
    [
        (Capacity(micro_batch=5, replicas=2), [25, 35, 45]),
        (Capacity(micro_batch=5, replicas=4), [25, 37, 49]),
        (Capacity(micro_batch=8, replicas=16), [25, 50]),
        (Capacity(micro_batch=5, replicas=1), [25, 30, 35, 40]),
        (Capacity(micro_batch=5, replicas=16, walks=16), [25, 30, 35, 40]),
        (Capacity(micro_batch=1, replicas=1), [25, 31, 37]),
    ],
    ids=str,
)
def test_rounds_are_as_wide_as_what_is_idle(capacity, known):
    """The slots of idle replicas cost nothing; where there are none, rounds are small and add half of the frames."""
    _, rounds = settled(spec(frames=25, spacing="even"), steep, capacity)
    assert [len(one.points) for one in rounds] == known


@pytest.mark.parametrize("replicas", [1, 2, 16])
def test_more_effort_renders_more_frames(replicas):
    """Fast adds one round, best three; best never renders fewer frames than balanced."""
    capacity = Capacity(micro_batch=5, replicas=replicas)
    rendered = {}
    for effort, most in (("fast", 1), ("balanced", 3), ("best", 3)):
        walk = spec(frames=25, spacing="even", effort=effort)
        _, rounds = settled(walk, steep, capacity)
        assert len(rounds) - 1 <= most
        rendered[effort] = len(rounds[-1].points)
        assert rendered[effort] <= most_pictures(walk)
    assert 25 < rendered["fast"] <= rendered["balanced"] <= rendered["best"] == 50


@pytest.mark.parametrize(("stops", "frames"), [(("a", "b"), 5), (("a", "b"), 61), (tuple("abcdefgh"), 61)])
@pytest.mark.parametrize("effort", ["fast", "balanced", "best"])
@pytest.mark.parametrize("seed", [0, "auto"])
def test_a_walk_never_renders_more_than_it_counts_for(stops, frames, effort, seed):
    """Quotas count a walk when it is requested, before its fleet is known."""
    walk = spec(stops=stops, frames=frames, effort=effort, seed=seed, spacing="even")
    for micro_batch in (1, 5, 64):
        for replicas in (1, 3, 1000):
            growth = choose_growth(effort, walk.legs, Capacity(micro_batch, replicas))
            assert frames <= most_pictures(walk, growth) <= most_pictures(walk)
    layout, rounds = settled(walk, steep, Capacity(64, 1000))
    assert len({point for one in rounds for point in one.points}) == most_pictures(walk, layout.growth)


def test_a_walk_without_rounds_counts_for_its_frames():
    """And one with a seed to choose for the frames that it tries."""
    assert most_pictures(spec(frames=25)) == 25
    assert most_pictures(spec(frames=25, seed="auto")) == 25 + 3 * 4
    assert most_pictures(spec(frames=25, spacing="even")) == 50
    assert most_pictures(spec(frames=4, spacing="even")) == 4


def test_the_first_round_has_a_picture_for_every_frame():
    """Every slot shows a picture after the time of one shard."""
    walk = spec(stops=("a", "b", "c"), frames=26, spacing="even")
    assert sorted(nearest(walk, first_layout(walk).points)) == list(range(26))


# What the last release stored in the middle of its rounds, of 25 frames: known pictures, without a growth.
OLD_ROUNDS = [
    [number / 24 for number in range(0, 25, 4)],
    sorted({number / 24 for number in range(0, 25, 4)} | {0.3, 0.35, 0.4, 0.45, 0.55}),
    sorted({number / 24 for number in range(25)} | {0.31, 0.33, 0.35, 0.37, 0.39, 0.41, 0.43}),
]


def old_layout(fractions: list[float]) -> Layout:
    return Layout.model_validate({"seed": 0, "settled": False, "points": [[0, 0, fraction] for fraction in fractions]})


@pytest.mark.parametrize("known", OLD_ROUNDS)
def test_a_layout_of_an_older_release_keeps_its_pictures_and_comes_to_an_end(known):
    """Deployments are upgraded in place, in the middle of walks."""
    walk = spec(frames=25, spacing="even")
    growth = choose_growth("balanced", walk.legs, ALONE)
    layout = with_growth(walk, old_layout(known), growth)
    assert {point.fraction for point in layout.points} == {*known, *(number / 24 for number in range(25))}
    rounds = 0
    while not layout.settled:
        layout, rounds = next_layout(walk, layout, thumbnails_of(steep)), rounds + 1
    assert (len(layout.points), layout.growth) == (25, growth)
    assert rounds <= 4


def test_workers_of_two_releases_that_take_turns_come_to_an_end():
    """While both run, the older one drops the growth and continues with its own rounds, which are few."""
    walk, layout, rendered = spec(frames=25, spacing="even"), old_layout(OLD_ROUNDS[0]), set[Point]()
    growth = choose_growth("balanced", walk.legs, ALONE)
    for known in OLD_ROUNDS:
        for _ in range(2):
            layout = with_growth(walk, layout, growth)
            rendered |= {*layout.points}
            layout = next_layout(walk, layout, thumbnails_of(steep))
        layout = old_layout(known)
        rendered |= {*layout.points}
    layout = with_growth(walk, layout, growth)
    while not layout.settled:
        layout = next_layout(walk, layout, thumbnails_of(steep))
        rendered |= {*layout.points}
    assert len(layout.points) == 25
    assert len(rendered) <= 25 + 2 * 32


def unfinished(walk_spec: Any, layout: Layout, stored: frozenset[int] = frozenset()) -> Walk:
    """A walk in the middle of a round."""
    return Walk(
        id=walk_spec.id,
        number=1,
        spec=walk_spec,
        state=State.RENDERING,
        revision=1,
        tries=0,
        tag=0,
        layout=layout,
        plan=((),),
        plans=1,
        stored=stored,
        films=frozenset(),
        warnings=(),
        smoothness=None,
        error=None,
        created_at=datetime.now(UTC),
    )


def test_many_replicas_do_not_shorten_the_estimate_below_one_shard_for_each_round():
    """Rounds follow one another, however many replicas there are."""
    even, uniform = spec(frames=25, spacing="even"), spec(frames=25)
    many = FleetStatus(awake=16, shard_s=2.0)
    layout, rounds = settled(even, steep)
    assert len(rounds) == 4
    assert seconds_left(unfinished(even, rounds[0]), None, many, 5) == 4 * 2.0
    assert seconds_left(unfinished(even, rounds[1], frozenset(range(30))), None, many, 5) == 2 * 2.0
    assert seconds_left(unfinished(even, first_layout(even)), None, many, 5) == 2 * 2.0, "16 replicas need one more"
    assert seconds_left(unfinished(uniform, first_layout(uniform)), None, many, 5) == 2.0
    assert seconds_left(unfinished(uniform, first_layout(uniform)), AheadInQueue(1, 80), many, 5) == 2 * 2.0
    assert seconds_left(unfinished(even, layout, frozenset(range(25))), None, many, 5) is None, "only films are left"


def test_the_estimate_counts_the_shards_of_other_walks_between_rounds():
    """A replica that is idle between two rounds begins a shard of a walk that comes later, and is not interrupted."""
    even, fleet = spec(frames=25, spacing="even"), FleetStatus(2, 1.0)
    _, rounds = settled(even, steep, Capacity(5, 2))
    first = unfinished(even, rounds[0])
    assert seconds_left(first, AheadInQueue(0, 0, 0), fleet, 5) == 3 + 1 + 1
    assert seconds_left(first, AheadInQueue(0, 0, 100), fleet, 5) == 4 + 2 + 2
    assert seconds_left(first, AheadInQueue(0, 0, 5), fleet, 5) == 4 + 1 + 1
    assert seconds_left(first, AheadInQueue(0, 20, 0), fleet, 5) == 5 + 1 + 1


def test_the_estimate_counts_the_shards_of_each_leg():
    """A shard has the frames of one leg: seven legs of two frames are seven shards, not three."""
    walk = spec(stops=tuple("abcdefgh"), frames=15)
    assert seconds_left(unfinished(walk, first_layout(walk)), None, FleetStatus(1, 2.0), 5) == 7 * 2.0


def test_probes_are_shown_in_place_of_the_nearest_frames():
    walk = spec(stops=("a", "b", "c"), frames=9)
    points = [Point(1, 0, 0.5), Point(0, 0, 0.0), Point(0, 0, 0.55), Point(0, 1, 0.0), Point(0, 1, 0.95)]
    shown = nearest(walk, points)
    assert shown == {0: points[1], 2: points[2], 4: points[3], 8: points[4]}


async def test_a_walk_is_even_by_default(settings, fleet):
    """The same request with uniform spacing stands still and then jumps."""
    fleet.add(paint=steep)
    async with running(settings, fleet) as client:
        even = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert fleet.frames_rendered <= MOST
        uniform = await ended(
            client, (await client.post("/api/v1/walks", json={**REQUEST, "spacing": "uniform"})).json()
        )
        gif = await client.get(even["url"] + "/walk.gif")
        pictures = [
            Image.open(io.BytesIO((await client.get(f"{even['url']}/frames/{n}.png")).content)) for n in range(25)
        ]
    assert (even["state"], even["spec"]["spacing"]) == ("done", "even")
    assert even["smoothness"]["evenness"] > uniform["smoothness"]["evenness"] + 0.3
    assert even["smoothness"]["largest"] < uniform["smoothness"]["largest"] / 2
    with Image.open(io.BytesIO(gif.content)) as film:
        spec = json.loads(film.info["comment"])
    assert (spec["seed"], len(spec["fractions"]), spec["fractions"][0], spec["fractions"][-1]) == (0, 25, 0, 1)
    steps = [distance(one.convert("RGB"), other.convert("RGB")) for one, other in pairwise(pictures)]
    assert max(steps) * 24 / sum(steps) == pytest.approx(even["smoothness"]["largest"], abs=0.01)


async def test_probes_are_visible_before_the_fractions_of_the_frames_are_known(settings, fleet):
    """Visitors see the whole walk early, first coarse, then fine."""
    replica = fleet.add(paint=steep, frame_s=0.02)
    seen: list[dict[str, Any]] = []
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        while walk["state"] not in ("done", "failed"):
            walk = (await client.get(walk["url"])).json()
            seen.append(walk)
            for probe in walk["probes"][-1:]:
                picture = await client.get(probe["url"])
                assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
                assert "immutable" in picture.headers["cache-control"]
            if walk["probes"]:
                early = await client.get(f"{walk['url']}/frames/0.png")
                assert early.status_code == 404 or not (await client.get(walk["url"])).json()["probes"]
            await anyio.sleep(0.02)
        nowhere = await client.get(walk["url"] + "/probes/0/0/0.123.png")
        other = await client.get(walk["url"] + "/probes/3/0/0.5.png")
        beyond = await client.get(walk["url"] + "/probes/0/1/0.5.png")
    assert walk["state"] == "done"
    assert not walk["probes"]
    counts = [len(snapshot["probes"]) for snapshot in seen if snapshot["probes"]]
    assert counts == sorted(counts)
    assert not any(snapshot["probes"] and snapshot["frames_ready"] for snapshot in seen)
    first = next(snapshot["probes"] for snapshot in seen if len(snapshot["probes"]) > 4)
    assert {0, 24} <= {probe["frame"] for snapshot in seen for probe in snapshot["probes"]}, first
    assert [answer.status_code for answer in (nowhere, other, beyond)] == [404, 404, 404]
    assert replica.sent <= MOST


async def test_every_slot_shows_a_picture_after_the_first_round(settings, fleet):
    """Later rounds only improve a walk that is already there."""
    replica = fleet.add(paint=steep, frame_s=0.02)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        while replica.sent < 25 or len(walk["probes"]) < 25:
            walk = (await client.get(walk["url"])).json()
            assert (walk["state"], walk["queue_position"]) in (("waiting", 1), ("rendering", None))
            await anyio.sleep(0.01)
        assert [probe["frame"] for probe in walk["probes"]] == list(range(25))
        await ended(client, walk)
    first = [fraction for _, fractions in replica.render_calls[:7] for fraction in fractions]
    assert sorted(first) == [number / 24 for number in range(25)]


async def test_a_walk_whose_improvement_fails_is_made_of_what_there_is(settings, fleet):
    """After the first round a visitor has seen the whole walk: it must not disappear."""
    uniform = {number / 24 for number in range(25)}
    replica = fleet.add(paint=steep, refuses=lambda fraction: fraction not in uniform)
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        film = await client.get(walk["url"] + "/walk.gif")
    assert (walk["state"], walk["frames_ready"], walk["error"]) == ("done", list(range(25)), None)
    assert film.status_code == 200
    [warning] = walk["warnings"]
    assert warning.startswith("This walk is less even than it could be")
    assert "the fraction is not accepted" in warning
    assert (replica.sent, replica.refusals) >= (25, 1)


async def test_a_walk_that_fails_in_its_first_round_fails(settings, fleet):
    fleet.add(paint=steep, refuses=lambda fraction: fraction == 0.5)
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    assert (walk["state"], walk["warnings"]) == ("failed", [])


async def test_a_round_that_an_older_release_planned_is_finished_with_its_pictures(settings, fleet):
    """Only what its layout lacks is rendered."""
    replica, even, known = fleet.add(paint=steep), spec(frames=25, spacing="even"), OLD_ROUNDS[1]
    layout = old_layout(known)
    async with opened(settings.database_url) as engine, aclosing(FolderBucket(Path(settings.bucket))) as bucket:
        walk, _ = await Catalogue(engine).request(even, "somebody")
        for frame in layout.frames(even):
            await bucket.put(frame.key, steep(frame.recipe.model_dump(), frame.fraction))
        await Progress(engine).plan(walk, layout, range(len(known)), [])
        async with engine.begin() as connection:
            await connection.execute(update(walks).values(layout=layout.model_dump(mode="json", exclude={"growth"})))
    async with running(settings, fleet) as client:
        done = await ended(client, (await client.get(f"/api/v1/walks/{even.id}")).json())
    assert done["state"] == "done"
    assert not {fraction for _, fractions in replica.render_calls for fraction in fractions} & {*known}


async def test_rounds_continue_after_a_restart(settings, fleet, tmp_path):
    """Rendered probes are found in the bucket: little is rendered twice, and the walk is the same."""
    fleet.add(paint=steep, frame_s=0.02)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json=REQUEST)).json()
        while len((await client.get(walk["url"])).json()["probes"]) < 8:
            await anyio.sleep(0.01)
    before = fleet.frames_rendered
    assert before < MOST
    async with running(settings, fleet) as client:
        walk = await ended(client, walk)
    assert walk["state"] == "done"
    assert fleet.frames_rendered <= MOST + 4
    other = tmp_path / "other"
    elsewhere = settings.model_copy(update={"bucket": str(other), "database_url": f"sqlite:///{other}.db"})
    async with running(elsewhere, fleet) as client:
        undisturbed = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    assert undisturbed["smoothness"] == walk["smoothness"]


async def test_auto_chooses_a_seed_and_reports_it(settings, fleet):
    """A request with that seed repeats the walk from the same frames."""

    def best_is_three(recipe: dict[str, Any], fraction: float) -> bytes:
        detour = 0.5 * (3 - recipe["seed"]) / 3 * math.sin(2 * math.pi * fraction)
        return ramp(min(1.0, max(0.0, 0.2 + 0.6 * fraction + detour)), recipe["width"], recipe["height"])

    fleet.add(paint=best_is_three)
    async with running(settings, fleet) as client:
        walk = (await client.post("/api/v1/walks", json={**REQUEST, "seed": "auto"})).json()
        assert walk["seed"] is None
        walk = await ended(client, walk)
        assert (walk["seed"], walk["spec"]["seed"]) == (3, "auto")
        gif = await client.get(walk["url"] + "/walk.gif")
        assert "_3_25f.gif" in gif.headers["content-disposition"]
        rendered = fleet.frames_rendered
        again = await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, "seed": 3})).json())
        assert (again["seed"], again["smoothness"]) == (3, walk["smoothness"])
        assert fleet.frames_rendered == rendered
        by_get = await client.get("/api/v1/walk?start=a+giraffe&end=a+battleship&frames=25&seed=auto")
        assert (by_get.status_code, by_get.content) == (200, gif.content)


async def test_a_walk_between_equal_stops_has_a_warning(settings, fleet):
    fleet.add(paint=still)
    async with running(settings, fleet) as client:
        request = {"start": "a giraffe", "end": "a giraffe", "frames": 25, "seed": "auto"}
        walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
    assert (walk["state"], walk["seed"], walk["smoothness"]["evenness"]) == ("done", 0, None)
    assert any("the same picture" in warning for warning in walk["warnings"])
