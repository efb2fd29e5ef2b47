"""Searches paths along a leg: which known fractions to use, and where new ones are worth their price. Pure.

Dynamic programming over the number of frames before each known fraction.
"""

from collections.abc import Sequence
from math import ceil, floor, inf
from typing import Final, NamedTuple

from momalisa_api.walks.leg_curve import LegCurve

# How many known fractions a step may skip, and how many mean steps it may span then.
_SKIPPED: Final = 8
_REACH: Final = 3.0
# The number of new fractions that a plan may put into one step, minus one.
_MOST_NEW: Final = 8


class Step(NamedTuple):
    """A step from one known fraction to another, with `new` fractions between them."""

    start: int
    end: int
    new: int


def choose(leg: LegCurve, frames: int) -> tuple[float, ...]:
    """The most even selection of `frames` known fractions."""
    step = leg.mean_step(frames)
    steps: list[Step] = []
    for _ in range(4):
        steps = walk_evenly(leg, frames, step, inf, 1.0)
        step = sum(leg.apart(each.start, each.end) for each in steps) / (frames - 1)
    return (leg.known[0], *(leg.known[each.end] for each in steps))


def walk_evenly(leg: LegCurve, frames: int, step: float, price: float, closest: float) -> list[Step]:
    """The path from 0 to 1 in frames - 1 steps with the least squared differences from `step`; empty if there is none.

    price: of each new fraction, in squared steps; infinite to allow none. Only numbers of frames near the expected one
    are tried first, and all if that fails.
    """
    for band in (5 + len(leg.known) // 20, frames):
        best = _search(leg, frames, step, price, closest, band)
        steps, end, number = [], len(leg.known) - 1, frames - 1
        while each := best[end].ends[number - best[end].first]:
            steps.append(each)
            end, number = each.start, number - each.new - 1
        if not end:
            return steps[::-1]
    return []


class _Paths(NamedTuple):
    """The cheapest paths to a known fraction by their number of steps, from `first` on; inf if there is none."""

    first: int
    costs: list[float]
    ends: list[Step | None]


def _search(leg: LegCurve, frames: int, step: float, price: float, closest: float, band: int) -> list[_Paths]:
    """The cheapest paths to each known fraction with about the expected number of steps. band: the largest error."""
    best = [_Paths(0, [0.0], [None])]
    last = len(leg.known) - 1
    for end in range(1, last + 1):
        expected = leg.along[end] / leg.along[-1] * (frames - 1)
        low, high = max(1, ceil(expected - band)), min(frames - 1, floor(expected + band))
        costs, ends = [inf] * (high - low + 1), list[Step | None]([None]) * (high - low + 1)
        for each, cost in _steps(leg, end, step, price, closest, wide=band >= frames):
            first, before, _ = best[each.start]
            shift = first + each.new + 1 - low
            for number in range(max(0, shift), min(len(costs), shift + len(before))):
                total = before[number - shift] + cost
                if total < costs[number]:
                    costs[number], ends[number] = total, each
        best.append(_Paths(low, costs, ends))
    return best


def _steps(
    leg: LegCurve, end: int, step: float, price: float, closest: float, *, wide: bool
) -> list[tuple[Step, float]]:
    """The possible steps to a known fraction, with their costs."""
    found = []
    reach = inf if wide else _REACH * step**leg.power
    for start in range(end - 1, max(end - 1 - _SKIPPED, 0) - 1, -1):
        if start < end - 1 and leg.along[end] - leg.along[start] > reach:
            break
        size = leg.apart(start, end)
        counts: Sequence[int] = (0,)
        if price < inf and leg.known[end] - leg.known[start] > closest:
            fitting = int((size / step) ** leg.power)
            counts = range(min(fitting, _MOST_NEW) + 2)
        for new in counts:
            off = size * (new + 1) ** (-1 / leg.power) - step
            cost = (new + 1) * off * off + (price * step * step * new if new else 0.0)
            found.append((Step(start, end, new), cost))
    return found
