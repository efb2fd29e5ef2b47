"""The fractions of an even leg: every leg is complete, affordable, and as even as its pictures allow."""

import math
from bisect import bisect
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from momalisa_api.walks.even_spacing import follow, uniform
from momalisa_api.walks.leg_curve import Distance
from momalisa_api.walks.seed_choice import SeedSample, choose_seed, sample_fractions
from momalisa_api.walks.smoothness import gauge

Response = Callable[[float], float]


def along(response: Response) -> Distance:
    """Distances of pictures on a line. response: the position on the line at a fraction."""
    return lambda one, other: abs(response(one) - response(other))


def logistic(steepness: float, middle: float = 0.5) -> Response:
    return lambda fraction: 1 / (1 + math.exp(-steepness * (fraction - middle)))


def sizes_of(frames: int, growth: tuple[float, ...] = (1.4, 1.8)) -> tuple[int, ...]:
    return tuple(round(frames * times) for times in growth)


def render(
    frames: int, distance: Distance, sizes: tuple[int, ...] | None = None
) -> tuple[tuple[float, ...], set[float], int]:
    """The final fractions of a leg, all rendered fractions, and the number of rounds."""
    sizes = sizes_of(frames) if sizes is None else sizes
    rendered: tuple[float, ...] = ()
    for number in range(20):
        fractions, done = follow(frames, rendered, checked(rendered, distance), sizes)
        if done:
            return fractions, {*rendered, *fractions}, number
        assert set(rendered) < set(fractions)
        assert list(fractions) == sorted(set(fractions))
        assert len(fractions) == [frames, *sizes][number]
        rendered = fractions
    raise AssertionError(f"no end after 20 rounds of {frames} frames")


def checked(known: tuple[float, ...], distance: Distance) -> Distance:
    """A distance that fails for pictures that are not rendered."""

    def between(one: float, other: float) -> float:
        assert one in known
        assert other in known
        return distance(one, other)

    return between


def evenness(fractions: tuple[float, ...], distance: Distance) -> float:
    found, _, _ = gauge([distance(*pair) for pair in pairwise(fractions)])
    assert found is not None
    return found


def is_complete(frames: int, fractions: tuple[float, ...]) -> bool:
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
def test_every_leg_is_complete_and_affordable(frames: int, heights: list[float], bend: float) -> None:
    """For any change of the pictures, also back and forth: exact ends, no fraction twice, no more than was decided."""

    def response(fraction: float) -> float:
        place = fraction * (len(heights) - 1)
        before = min(int(place), len(heights) - 2)
        return heights[before] + (heights[before + 1] - heights[before]) * (place - before)

    fractions, rendered, number = render(frames, lambda one, other: abs(response(one) - response(other)) ** bend)
    assert is_complete(frames, fractions)
    assert len(rendered) <= max(frames, *sizes_of(frames))
    assert number <= 3


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 6, 7, 9, 13, 20, 21, 25, 26, 49, 97, 241])
def test_legs_of_every_length_are_complete(frames: int) -> None:
    """From a leg with only its ends to the longest walk."""
    fractions, rendered, number = render(frames, along(logistic(12)))
    assert is_complete(frames, fractions)
    assert len(rendered) == (max(sizes_of(frames)) if frames >= 5 else frames)
    assert number == (3 if frames >= 5 else 0)


@pytest.mark.parametrize(("steepness", "least"), [(12, 0.90), (25, 0.85), (60, 0.80)])
@pytest.mark.parametrize("middle", [0.5])
def test_a_steep_leg_becomes_even(steepness: float, least: float, middle: float) -> None:
    """With uniform spacing, most walks stand still and then jump."""
    distance = along(logistic(steepness, middle))
    fractions, _, _ = render(25, distance)
    assert evenness(fractions, distance) >= least
    assert evenness(fractions, distance) > evenness(tuple(n / 24 for n in range(25)), distance)


@pytest.mark.parametrize("steepness", [12, 25, 60])
def test_the_longest_leg_becomes_even_too(steepness: float) -> None:
    """Its fractions may be closer together than those of a short leg."""
    distance = along(logistic(steepness))
    fractions, _, _ = render(241, distance)
    assert evenness(fractions, distance) >= 0.80


def test_an_edge_that_moves_is_even_too() -> None:
    """With a moving edge, distances do not grow linearly and do not add up."""
    steep = along(logistic(25, 0.4))
    fractions, _, _ = render(25, lambda one, other: math.sqrt(steep(one, other)))
    assert evenness(fractions, lambda one, other: math.sqrt(steep(one, other))) >= 0.90


@pytest.mark.parametrize("at", [0.5, 0.30001, 1e-4])
def test_a_jump_is_not_divided_below_the_least_distance_of_fractions(at: float) -> None:
    """No spacing makes a jump smaller; the frames are more useful elsewhere."""
    known: tuple[float, ...] = ()
    done = False
    while not done:
        fractions, done = follow(25, known, lambda one, other: float((one < at) != (other < at)), sizes_of(25))
        for new in set(fractions) - set(known) if known else ():
            number = bisect(known, new)
            assert known[number] - known[number - 1] > 0.002
        known = fractions
    assert is_complete(25, known)


@pytest.mark.parametrize("frames", [2, 3, 5, 10, 25, 49, 241])
def test_a_leg_that_does_not_change_is_uniform(frames: int) -> None:
    """With the same prompt twice nothing divides by zero, and the probes are frames."""
    fractions, rendered, _ = render(frames, lambda one, other: 0.0)
    assert fractions == tuple(number / (frames - 1) for number in range(frames))
    assert rendered == set(fractions)


def test_equal_pictures_give_equal_fractions() -> None:
    """A worker that takes over a leg has only its pictures."""
    distance = along(logistic(25, 0.6))
    known: tuple[float, ...] = ()
    done = False
    while not done:
        first, second = follow(25, known, distance, sizes_of(25)), follow(25, known, distance, sizes_of(25))
        assert first == second
        known, done = first


def test_the_first_round_is_the_uniform_leg() -> None:
    """Every frame has a picture after one round, and a walk of 49 frames has those of one of 25."""
    short, long = (follow(frames, (), lambda one, other: 0.0, sizes_of(frames)) for frames in (25, 49))
    assert short == (tuple(number / 24 for number in range(25)), False)
    assert set(short[0]) < set(long[0])


@pytest.mark.parametrize("frames", [*range(2, 40), 241])
def test_sampled_frames_are_frames_of_the_uniform_walk(frames: int) -> None:
    """So the samples of the chosen seed are rendered only once."""
    samples = sample_fractions(frames)
    assert set(samples) <= set(uniform(frames))
    assert list(samples) == sorted(set(samples))
    assert (samples[0], samples[-1]) == (0.0, 1.0)
    assert len(samples) <= 4


def test_the_seed_of_a_short_and_sharp_walk_is_chosen() -> None:
    """A short walk that fades is not chosen, nor a sharp one with a detour."""
    fading = SeedSample((0.1, 0.1, 0.1), (90.0, 9.0, 9.0, 90.0))
    long = SeedSample((0.3, 0.3, 0.3), (90.0, 91.0, 91.0, 90.0))
    good = SeedSample((0.11, 0.11, 0.11), (90.0, 90.0, 90.0, 90.0))
    poor = SeedSample((0.2, 0.2, 0.2), (90.0, 20.0, 20.0, 90.0))
    assert choose_seed({0: fading, 1: long, 2: good, 3: poor}) == 2


def test_the_lowest_of_equally_good_seeds_is_chosen() -> None:
    """In any order of the samples, and also if nothing moves or everything is flat."""
    for sample in (SeedSample((0.1, 0.2), (1.0, 2.0, 3.0)), SeedSample((0.0,), (0.0, 0.0))):
        assert choose_seed({7: sample, 3: sample, 5: sample}) == 3


@pytest.mark.parametrize("frames", [5, 10, 25, 49])
def test_a_finished_leg_that_waits_for_others_keeps_its_fractions(frames: int) -> None:
    """In a later round, all rendered frames are known: those chosen and those not chosen."""
    for distance in (along(logistic(25)), lambda one, other: 0.0):
        fractions, rendered, _ = render(frames, distance)
        assert follow(frames, sorted(rendered), distance, sizes_of(frames)) == (fractions, True)
