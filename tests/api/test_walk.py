"""Plans of walks. They are pure functions, so the tests check properties instead of examples."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momalisa_api.walks.between import BetweenSpec, deal_intervals
from momalisa_api.walks.spec import Frame, plan_shards, spec_from_stored
from tests.support.factories import frames_of, spec


@st.composite
def specs(draw: st.DrawFn) -> BetweenSpec:
    stops = tuple(draw(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=8)))
    return spec(stops, draw(st.integers(max(2, len(stops)), 241)))


@given(specs())
def test_a_walk_has_the_requested_frames_and_passes_every_stop(walk: BetweenSpec) -> None:
    """Both ends of every leg are frames: an inner stop is fraction 0 of the leg that leaves it."""
    frames = frames_of(walk)
    assert len(frames) == walk.frames
    assert [frame.recipe.start for frame in frames if frame.fraction == 0.0] == list(walk.stops[:-1])
    assert frames[-1].fraction == 1.0
    assert frames[-1].recipe.end == walk.stops[-1]


@given(st.integers(1, 300), st.integers(1, 8))
def test_intervals_are_divided_evenly_and_earlier_legs_get_the_rest(intervals: int, legs: int) -> None:
    """So equal walks have the same layout in every process."""
    dealt = deal_intervals(intervals, legs)
    assert sum(dealt) == intervals
    assert max(dealt) - min(dealt) <= 1
    assert dealt == sorted(dealt, reverse=True)


@given(specs(), st.integers(1, 16))
def test_every_frame_is_in_exactly_one_shard(walk: BetweenSpec, micro_batch: int) -> None:
    """A frame in no shard would never be rendered, and a frame in two shards twice."""
    frames = frames_of(walk)
    shards = plan_shards(walk.id, frames, micro_batch)
    planned = [Frame(shard.recipe, fraction) for shard in shards for fraction in shard.fractions]
    assert len(planned) == len(set(planned))
    assert set(planned) == set(frames)


@given(specs(), st.integers(1, 16))
def test_shards_are_as_few_and_as_even_as_the_micro_batch_allows(walk: BetweenSpec, micro_batch: int) -> None:
    """A shard takes as long as a full micro-batch, even with few frames, so each extra shard costs a round."""
    shards = plan_shards(walk.id, frames_of(walk), micro_batch)
    for recipe in set(walk.recipes(0)):
        sizes = [len(shard.fractions) for shard in shards if shard.recipe == recipe]
        assert max(sizes) <= micro_batch
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == -(-sum(sizes) // micro_batch)


@given(st.sampled_from([(13, 25), (25, 49), (13, 49), (13, 61)]))
def test_a_longer_walk_contains_every_frame_of_a_shorter_one(lengths: tuple[int, int]) -> None:
    """The gallery offers 13, 25, 49 and 61, whose intervals divide each other, so that frames are reused exactly."""
    short, long = (set(frames_of(spec(frames=frames))) for frames in lengths)
    assert short <= long


def test_equal_specs_have_the_same_id_and_different_ones_do_not() -> None:
    """Walks with one id are rendered once, so every field of the spec must affect the id."""
    assert spec().id == spec().id
    others = [spec(seed=1), spec(frames=26), spec(frame_ms=90), spec(gif_there_and_back=False), spec(steps=5)]
    assert len({walk.id for walk in [spec(), *others]}) == len(others) + 1


def test_ids_are_those_of_releases_without_the_later_fields() -> None:
    """Stored frames and walks are found by them. Written down from a release before these fields."""
    [plain], [early] = spec().recipes(0), spec().recipes(0, "early")
    assert (plain.id, spec().id) == ("fac78824b22493b3f8ae109cce94bc9b", "32198924c8557c5d912d534e164b0894")
    limited = spec(guidance_interval=(0.25, 1.0))
    assert len({plain.id, early.id, limited.recipes(0)[0].id}) == 3
    assert limited.id != spec().id
    assert spec_from_stored(*limited.to_stored()) == limited


def test_playback_options_do_not_change_the_frames() -> None:
    """A frame's key depends only on recipe and fraction, so a slower film needs no new frames."""
    assert frames_of(spec(frame_ms=200, mp4_there_and_back=True)) == frames_of(spec())


def test_a_hostile_prompt_never_reaches_a_key() -> None:
    """Keys become paths and URLs: they may contain only hashes and numbers."""
    hostile = spec(("../../etc/passwd\n<script>", "😀\u2028%00"))
    assert all(set(frame.key) <= set("frames/0123456789abcdef.png") for frame in frames_of(hostile))


@given(specs())
def test_an_eased_walk_passes_every_stop_and_never_turns_back(walk: BetweenSpec) -> None:
    """It is slow at the stops, and both ends of each leg are exact."""
    uniform, ease = frames_of(walk), frames_of(walk.model_copy(update={"spacing": "ease"}))
    assert [frame.recipe for frame in ease] == [frame.recipe for frame in uniform]
    for before, after in pairwise(ease):
        assert before.fraction < after.fraction or after.fraction == 0.0
    at_stop = [frame.fraction in (0.0, 1.0) for frame in uniform]
    assert [frame.fraction in (0.0, 1.0) for frame in ease] == at_stop


def test_an_eased_walk_is_slow_at_its_stops_and_fast_between() -> None:
    """Its first step is small, and the step in the middle is the largest."""
    fractions = [frame.fraction for frame in frames_of(spec(frames=9, spacing="ease"))]
    steps = [after - before for before, after in pairwise(fractions)]
    assert steps[0] < 1 / 16 < 1 / 8 < max(steps)
    assert steps == pytest.approx(steps[::-1])
    assert fractions[4] == 0.5
