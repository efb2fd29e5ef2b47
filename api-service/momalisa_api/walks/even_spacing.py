"""Even spacing of the frames of a leg, in rounds: each is computed from the pictures of those before. Pure.

A picture cannot be predicted, only rendered, so the probes are full frames, and as many as possible stay in the walk.
The first rounds split the largest gaps. Later ones plan the whole leg over the known fractions and new ones between
them, and request the new ones. Finally, the most even selection of all known fractions becomes the leg.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import count, pairwise, takewhile
from math import inf
from typing import Final

from momalisa_api.walks.leg_curve import Distance, LegCurve
from momalisa_api.walks.step_search import Step, choose, walk_evenly

# Extra frames cost waiting time, so at most 1.3 times the frames of a uniform leg are rendered.
_MOST_TENTHS: Final = 13
# Shorter legs have no room for probes.
_FEWEST: Final = 5
# Frames that a replica renders at once; a round of fewer costs as much.
_BATCH: Final = 5
# Closer fractions are not split: a step between them is a jump of the model.
CLOSEST: Final = 0.002


def follow(frames: int, known: Sequence[float], distance: Distance) -> tuple[tuple[float, ...], bool]:
    """The next step on a leg: further fractions to render, or the finished leg.

    frames: number of frames of the leg, both ends included, at least 2; known: the rendered fractions, sorted and
    distinct, empty at first; distance: of the pictures at two known fractions, 0 if they are equal. Returns a superset
    of `known` to render next, and False; or `frames` fractions, increasing from 0.0 to 1.0, and True. The latter are
    all known, unless the leg has no room for probes or nothing moves on it. Stateless: equal arguments give equal
    results. Never requests more than 1.3 times `frames`.
    """
    sizes = rounds(frames)
    uniform = tuple(number / (frames - 1) for number in range(frames))
    if not sizes:
        return uniform, True
    if not known:
        return probes(frames), False
    leg = LegCurve(tuple(known), distance)
    if not leg.moves:
        if len({*known, *uniform}) <= budget(frames):
            return uniform, True
        leg = LegCurve(leg.known, lambda one, other: abs(other - one))
    size = next((size for size in sizes if size > len(known)), None)
    if size is None:
        return choose(leg, frames), True
    closest = min(CLOSEST, CLOSEST * 25 / frames)
    new = _plan(leg, frames, size - len(known), closest) if size > frames else _split(leg, size - len(known), closest)
    return _widen(sorted({*leg.known, *new}), size), False


def probes(frames: int) -> tuple[float, ...]:
    """The first fractions to render: nearly uniform ones of the uniform leg, and all of them if it is short."""
    sizes = rounds(frames) or (frames,)
    return tuple(round(n * (frames - 1) / (sizes[0] - 1)) / (frames - 1) for n in range(sizes[0]))


def budget(frames: int) -> int:
    """The number of fractions that an even leg of `frames` frames may render in all."""
    return frames * _MOST_TENTHS // 10


def rounds(frames: int) -> tuple[int, ...]:
    """The number of known fractions after each round; empty if the leg is too short for rounds.

    A round has a fifth of the frames, in whole batches of a replica if possible.
    """
    if frames < _FEWEST:
        return ()
    width = _BATCH * max(1, round(frames / (5 * _BATCH))) if frames > 4 * _BATCH else max(3, frames // 5)
    fewest = max(3, frames // 4)
    return tuple(takewhile(lambda size: size >= fewest, count(budget(frames), -width)))[::-1]


def _split(leg: LegCurve, new: int, closest: float) -> list[float]:
    """At most `new` fractions in the largest gaps, one at a time in the gap that is then the largest."""
    parts = [1] * len(leg.gaps)
    widths = [after - before for before, after in pairwise(leg.known)]
    for _ in range(new):
        wide = [gap for gap, width in enumerate(widths) if width / parts[gap] > closest]
        if not wide:
            break
        parts[
            max(wide, key=lambda gap: (leg.gaps[gap] * parts[gap] ** (-1 / leg.power), widths[gap] / parts[gap]))
        ] += 1
    return [
        fraction
        for gap, some in enumerate(parts)
        for number in range(1, some)
        if (fraction := leg.grained(gap, number / some)) is not None
    ]


def _plan(leg: LegCurve, frames: int, new: int, closest: float) -> list[float]:
    """At most `new` fractions that would make the leg most even; the price of a fraction rises until they fit."""
    step = leg.mean_step(frames)
    steps, low, high = walk_evenly(leg, frames, step, 0.0, closest), 0.0, inf
    fits: list[Step] = []
    price = 0.0
    for _ in range(12):
        asked = sum(each.new for each in steps)
        if asked <= new:
            fits, high = steps, price
        else:
            low = price
        if asked == new or high == 0:
            break
        price = (low + high) / 2 if high < inf else 2 * price + 0.02
        steps = walk_evenly(leg, frames, step, price, closest)
    if not fits:
        return _split(leg, new, closest)
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
