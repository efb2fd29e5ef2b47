"""Plans of walks: pure, so held against properties rather than examples."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momalisa_api.walks.spec import Frame, WalkSpec, deal_intervals, plan_shards
from tests.support.factories import frames_of, spec


@st.composite
def specs(draw: st.DrawFn) -> WalkSpec:
    stops = tuple(draw(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=8)))
    return spec(stops, draw(st.integers(max(2, len(stops)), 241)))


@given(specs())
def test_a_walk_has_as_many_frames_as_asked_and_stands_at_every_stop(walk: WalkSpec) -> None:
    """Both ends of every leg are frames: an inner stop is fraction 0 of the leg that leaves it."""
    frames = frames_of(walk)
    assert len(frames) == walk.frames
    assert [frame.recipe.start for frame in frames if frame.fraction == 0.0] == list(walk.stops[:-1])
    assert frames[-1].fraction == 1.0
    assert frames[-1].recipe.end == walk.stops[-1]


@given(st.integers(1, 300), st.integers(1, 8))
def test_intervals_are_dealt_evenly_and_earlier_legs_come_first(intervals: int, legs: int) -> None:
    """What is over goes to the first legs, so that equal walks are laid out equally everywhere."""
    dealt = deal_intervals(intervals, legs)
    assert sum(dealt) == intervals
    assert max(dealt) - min(dealt) <= 1
    assert dealt == sorted(dealt, reverse=True)


@given(specs(), st.integers(1, 16))
def test_every_frame_is_in_exactly_one_shard(walk: WalkSpec, micro_batch: int) -> None:
    """A frame in no shard would never be rendered; one in two would be rendered twice."""
    frames = frames_of(walk)
    shards = plan_shards(walk.id, frames, micro_batch)
    planned = [Frame(shard.recipe, fraction) for shard in shards for fraction in shard.fractions]
    assert len(planned) == len(set(planned))
    assert set(planned) == set(frames)


@given(specs(), st.integers(1, 16))
def test_shards_are_as_few_and_as_even_as_the_micro_batch_allows(walk: WalkSpec, micro_batch: int) -> None:
    """Each shard costs a whole micro-batch however few frames it holds, so a shard too many is a round too many."""
    shards = plan_shards(walk.id, frames_of(walk), micro_batch)
    for recipe in set(walk.recipes(0)):
        sizes = [len(shard.fractions) for shard in shards if shard.recipe == recipe]
        assert max(sizes) <= micro_batch
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // micro_batch)


@given(st.sampled_from([(13, 25), (25, 49), (13, 49), (13, 61)]))
def test_a_longer_walk_meets_every_frame_of_a_shorter_one(lengths: tuple[int, int]) -> None:
    """13, 25, 49 and 61 are offered because their intervals divide each other: frames are reused bit for bit."""
    short, long = (set(frames_of(spec(frames=frames))) for frames in lengths)
    assert short <= long


def test_the_same_wish_is_the_same_walk_and_any_other_is_another() -> None:
    """The id decides what is rendered once: every field of the spec is in it."""
    assert spec().id == spec().id
    others = [spec(seed=1), spec(frames=26), spec(frame_ms=90), spec(gif_there_and_back=False), spec(steps=5)]
    assert len({walk.id for walk in [spec(), *others]}) == len(others) + 1


def test_how_a_film_is_played_does_not_change_which_frames_it_needs() -> None:
    """Frames are keyed by recipe and fraction alone, so a slower film renders nothing anew."""
    assert frames_of(spec(frame_ms=200, mp4_there_and_back=True)) == frames_of(spec())


def test_a_hostile_prompt_never_reaches_a_key() -> None:
    """Keys become paths and urls: only hashes and numbers may stand in them."""
    hostile = spec(("../../etc/passwd\n<script>", "😀\u2028%00"))
    assert all(set(frame.key) <= set("frames/0123456789abcdef.png") for frame in frames_of(hostile))


@given(specs())
def test_an_eased_walk_stands_at_every_stop_too_and_never_turns_back(walk: WalkSpec) -> None:
    """Slow at the stops, and both ends of each leg exact."""
    uniform, ease = frames_of(walk), frames_of(walk.model_copy(update={"spacing": "ease"}))
    assert [frame.recipe for frame in ease] == [frame.recipe for frame in uniform]
    for before, after in pairwise(ease):
        assert before.fraction < after.fraction or after.fraction == 0.0
    stood = [frame.fraction in (0.0, 1.0) for frame in uniform]
    assert [frame.fraction in (0.0, 1.0) for frame in ease] == stood


def test_an_eased_walk_is_slow_at_its_stops_and_fast_between() -> None:
    """Its first step is a small one, and the one in the middle is the largest."""
    fractions = [frame.fraction for frame in frames_of(spec(frames=9, spacing="ease"))]
    steps = [after - before for before, after in pairwise(fractions)]
    assert steps[0] < 1 / 16 < 1 / 8 < max(steps)
    assert steps == pytest.approx(steps[::-1])
    assert fractions[4] == 0.5
