"""Even spacing of the frames of a leg, in rounds: each is computed from the pictures of those before. Pure.

A picture cannot be predicted, only rendered, so the first round is the uniform leg: a whole leg that can be shown.
Later rounds plan the leg over the known fractions and new ones between them, and request the new ones. Finally, the
most even selection of all known fractions becomes the leg.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Final

from momalisa_api.walks.leg_curve import Distance, LegCurve
from momalisa_api.walks.step_search import Step, choose, walk_evenly

# Shorter legs have no room for other fractions.
FEWEST: Final = 5
# Closer fractions are not split: a step between them is a jump of the model.
CLOSEST: Final = 0.002
# Prices of a new fraction that a plan tries.
_PRICES: Final = 12


def uniform(frames: int) -> tuple[float, ...]:
    """The fractions of a uniform leg. k / n is correctly rounded: 49 frames have those of 25 bit for bit."""
    return tuple(number / (frames - 1) for number in range(frames))


def follow(
    frames: int, known: Sequence[float], distance: Distance, sizes: Sequence[int]
) -> tuple[tuple[float, ...], bool]:
    """The next step on a leg: further fractions to render, or the finished leg.

    frames: number of frames of the leg, both ends included, at least 2; known: the rendered fractions, sorted and
    distinct, empty at first, later with all of the uniform leg; distance: of the pictures at two known fractions, 0 if
    they are equal; sizes: the number of known fractions after each later round, increasing. Returns a superset of
    `known` to render next, and False; or `frames` fractions, increasing from 0.0 to 1.0, and True. The latter are all
    known, unless the leg is too short for rounds. Stateless: equal arguments give equal results.
    """
    if frames < FEWEST:
        return uniform(frames), True
    if not known:
        return uniform(frames), False
    leg = LegCurve(tuple(known), distance)
    if not leg.moves:
        return uniform(frames), True
    size = next((size for size in sizes if size > len(known)), None)
    if size is None:
        return choose(leg, frames), True
    new = _plan(leg, frames, size - len(known), min(CLOSEST, CLOSEST * 25 / frames))
    return _widen(sorted({*leg.known, *new}), size), False


def _plan(leg: LegCurve, frames: int, new: int, closest: float) -> list[float]:
    """At most `new` fractions that would make the leg most even; the price of a fraction rises until they fit."""
    step = leg.mean_step(frames)
    fits: list[Step] = []
    price, low, high = 0.0, 0.0, inf
    for _ in range(_PRICES):
        steps = walk_evenly(leg, frames, step, price, closest)
        asked = sum(each.new for each in steps)
        if asked <= new:
            fits, high = steps, price
        else:
            low = price
        if asked == new or high == 0:
            break
        price = (low + high) / 2 if high < inf else 2 * price + 0.02
    fits = fits or walk_evenly(leg, frames, step, inf, closest)
    fits = _fill(leg, fits, new - sum(each.new for each in fits))
    return [fraction for each in fits for fraction in _between(leg, each, closest)]


def _fill(leg: LegCurve, steps: list[Step], more: int) -> list[Step]:
    """The steps with `more` further fractions, in the largest ones."""
    counts = [each.new for each in steps]
    sizes = [leg.apart(each.start, each.end) for each in steps]
    for _ in range(more):
        largest = max(range(len(steps)), key=lambda n: sizes[n] * (counts[n] + 1) ** (-1 / leg.power))
        counts[largest] += 1
    return [Step(each.start, each.end, number) for each, number in zip(steps, counts, strict=True)]


def _between(leg: LegCurve, step: Step, closest: float) -> list[float]:
    """The new fractions of a step, spaced evenly by distance."""
    start, end = leg.along[step.start], leg.along[step.end]
    found = []
    for number in range(1, step.new + 1):
        target = start + (end - start) * number / (step.new + 1)
        gap = min(max(bisect_right(leg.along, target) - 1, step.start), step.end - 1)
        width = leg.along[gap + 1] - leg.along[gap]
        fraction = leg.grained(gap, (target - leg.along[gap]) / width if width else 0.5)
        if fraction is not None and leg.known[gap + 1] - leg.known[gap] > closest:
            found.append(fraction)
    return found


def _widen(fractions: list[float], size: int) -> tuple[float, ...]:
    """Fractions with midpoints of the widest gaps added, until there are `size`."""
    while len(fractions) < size:
        before, after = max(pairwise(fractions), key=lambda pair: pair[1] - pair[0])
        fractions = sorted([*fractions, (before + after) / 2])
    return tuple(fractions)
