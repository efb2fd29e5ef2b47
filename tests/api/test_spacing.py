"""Where the frames of an even leg stand: every leg is whole, affordable and as even as its pictures let it be."""

import math
from bisect import bisect
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from momalisa_api.walks.even_spacing import budget, follow, rounds
from momalisa_api.walks.leg_curve import Distance
from momalisa_api.walks.seed_choice import SeedSample, choose_seed, sample_fractions
from momalisa_api.walks.smoothness import gauge

Response = Callable[[float], float]


def along(response: Response) -> Distance:
    """Pictures that lie on a line: how far along it, by fraction."""
    return lambda one, other: abs(response(one) - response(other))


def logistic(steepness: float, middle: float = 0.5) -> Response:
    return lambda fraction: 1 / (1 + math.exp(-steepness * (fraction - middle)))


def render(frames: int, distance: Distance) -> tuple[tuple[float, ...], set[float], int]:
    """A leg, every fraction that was rendered for it, and the number of rounds."""
    rendered: tuple[float, ...] = ()
    for number in range(20):
        fractions, done = follow(frames, rendered, asking(rendered, distance))
        if done:
            return fractions, {*rendered, *fractions}, number
        assert set(rendered) < set(fractions)
        assert list(fractions) == sorted(set(fractions))
        rendered = fractions
    raise AssertionError(f"no end after 20 rounds of {frames} frames")


def asking(known: tuple[float, ...], distance: Distance) -> Distance:
    """A distance that knows rendered pictures only."""

    def between(one: float, other: float) -> float:
        assert one in known
        assert other in known
        return distance(one, other)

    return between


def evenness(fractions: tuple[float, ...], distance: Distance) -> float:
    found, _, _ = gauge([distance(*pair) for pair in pairwise(fractions)])
    assert found is not None
    return found


def is_whole(frames: int, fractions: tuple[float, ...]) -> bool:
    increasing = all(before < after for before, after in pairwise(fractions))
    return len(fractions) == frames and increasing and (fractions[0], fractions[-1]) == (0.0, 1.0)


@settings(deadline=None)
@given(
    st.integers(2, 60),
    st.lists(st.floats(0, 1), min_size=2, max_size=40),
    st.sampled_from([0.3, 0.5, 1.0, 2.0]),
)
@example(25, [0.0, 0.0, 0.0, 0.0, 1.0], 1.0)
@example(5, [0.0, 1e-300, 1.0], 2.0)
def test_every_leg_is_whole_and_affordable(frames: int, heights: list[float], bend: float) -> None:
    """Whatever the pictures do, also there and back: both ends exact, no fraction twice, and never beyond 1.3 times."""

    def response(fraction: float) -> float:
        place = fraction * (len(heights) - 1)
        before = min(int(place), len(heights) - 2)
        return heights[before] + (heights[before + 1] - heights[before]) * (place - before)

    fractions, rendered, number = render(frames, lambda one, other: abs(response(one) - response(other)) ** bend)
    assert is_whole(frames, fractions)
    assert len(rendered) <= max(frames, budget(frames))
    assert number <= len(rounds(frames))


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 6, 7, 9, 13, 20, 21, 25, 26, 49, 97, 241])
def test_legs_of_every_length_are_whole(frames: int) -> None:
    """From a leg of its ends alone to the longest walk."""
    fractions, rendered, number = render(frames, along(logistic(12)))
    assert is_whole(frames, fractions)
    assert len(rendered) <= max(frames, budget(frames))
    assert number <= 6


@pytest.mark.parametrize(("steepness", "least"), [(12, 0.90), (25, 0.85), (60, 0.80)])
@pytest.mark.parametrize("middle", [0.5])
def test_a_steep_leg_becomes_even(steepness: float, least: float, middle: float) -> None:
    """Most walks stand still and then jump: that is what this is for."""
    distance = along(logistic(steepness, middle))
    fractions, _, _ = render(25, distance)
    assert evenness(fractions, distance) >= least
    assert evenness(fractions, distance) > evenness(tuple(n / 24 for n in range(25)), distance)


@pytest.mark.parametrize("steepness", [12, 25, 60])
def test_the_longest_leg_becomes_even_too(steepness: float) -> None:
    """Its fractions may lie closer together than a short one's."""
    distance = along(logistic(steepness))
    fractions, _, _ = render(241, distance)
    assert evenness(fractions, distance) >= 0.85


def test_an_edge_that_moves_is_even_too() -> None:
    """Twice as far is then not twice as different, and distances along the way do not add up."""
    steep = along(logistic(25, 0.4))
    fractions, _, _ = render(25, lambda one, other: math.sqrt(steep(one, other)))
    assert evenness(fractions, lambda one, other: math.sqrt(steep(one, other))) >= 0.90


@pytest.mark.parametrize("at", [0.5, 0.30001, 1e-4])
def test_a_jump_is_split_no_further_than_its_fractions_allow(at: float) -> None:
    """No spacing makes it smaller; the frames are better used elsewhere."""
    known: tuple[float, ...] = ()
    done = False
    while not done:
        fractions, done = follow(25, known, lambda one, other: float((one < at) != (other < at)))
        for new in set(fractions) - set(known) if known else ():
            number = bisect(known, new)
            assert known[number] - known[number - 1] > 0.002
        known = fractions
    assert is_whole(25, known)


@pytest.mark.parametrize("frames", [2, 3, 5, 10, 25, 49, 241])
def test_a_leg_that_does_not_change_is_uniform(frames: int) -> None:
    """The same prompt twice: nothing is divided by nothing, and its probes are frames."""
    fractions, rendered, _ = render(frames, lambda one, other: 0.0)
    assert fractions == tuple(number / (frames - 1) for number in range(frames))
    assert rendered == set(fractions)


def test_equal_questions_have_equal_answers() -> None:
    """A worker that dies leaves its leg to another, which knows the pictures and nothing else."""
    distance = along(logistic(25, 0.6))
    known: tuple[float, ...] = ()
    done = False
    while not done:
        first, second = follow(25, known, distance), follow(25, known, distance)
        assert first == second
        known, done = first


@pytest.mark.parametrize("frames", [5, 10, 25, 49, 241])
def test_rounds_are_whole_batches_where_they_can_be(frames: int) -> None:
    """A replica renders five frames in the time of one."""
    sizes = rounds(frames)
    assert sizes[-1] == budget(frames)
    if frames > 20:
        assert all((after - before) % 5 == 0 for before, after in pairwise(sizes))


def test_a_budget_is_at_most_a_third_more() -> None:
    """1.3 times, rounded down."""
    assert [budget(frames) for frames in (2, 3, 10, 25, 49)] == [2, 3, 13, 32, 63]


@pytest.mark.parametrize("frames", [*range(2, 40), 241])
def test_auditioned_frames_are_probes_of_the_walk(frames: int) -> None:
    """The chosen seed's are rendered once."""
    probes, _ = follow(frames, (), lambda one, other: 0.0)
    auditioned = sample_fractions(frames)
    assert set(auditioned) <= set(probes)
    assert list(auditioned) == sorted(set(auditioned))
    assert (auditioned[0], auditioned[-1]) == (0.0, 1.0)
    assert len(auditioned) <= 4


def test_the_seed_of_a_short_and_sharp_walk_is_chosen() -> None:
    """A short one that fades is not, nor a sharp one that goes round."""
    fading = SeedSample((0.1, 0.1, 0.1), (90.0, 9.0, 9.0, 90.0))
    long = SeedSample((0.3, 0.3, 0.3), (90.0, 91.0, 91.0, 90.0))
    good = SeedSample((0.11, 0.11, 0.11), (90.0, 90.0, 90.0, 90.0))
    poor = SeedSample((0.2, 0.2, 0.2), (90.0, 20.0, 20.0, 90.0))
    assert choose_seed({0: fading, 1: long, 2: good, 3: poor}) == 2


def test_equal_auditions_go_to_the_lowest_seed() -> None:
    """In whatever order they were heard, and also where nothing moves or everything is flat."""
    for audition in (SeedSample((0.1, 0.2), (1.0, 2.0, 3.0)), SeedSample((0.0,), (0.0, 0.0))):
        assert choose_seed({7: audition, 3: audition, 5: audition}) == 3


@pytest.mark.parametrize("frames", [5, 10, 25, 49])
def test_a_leg_that_waits_for_others_is_chosen_again(frames: int) -> None:
    """What is known then is what was chosen, and what it was chosen from."""
    for distance in (along(logistic(25)), lambda one, other: 0.0):
        fractions, rendered, _ = render(frames, distance)
        assert follow(frames, sorted(rendered), distance) == (fractions, True)
