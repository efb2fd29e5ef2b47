"""Where the frames of an even leg stand: rounds of fractions, each found from the pictures of those before. Pure.

A picture cannot be foretold, only rendered, so the probes are frames, and as many as possible stay in the walk. Rounds
first split the largest gaps; then each plans the whole leg over the fractions known and new ones between them, and asks
for the new ones. In the end the fractions whose pictures lie most evenly are chosen out of all that are known.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise, takewhile
from math import inf
from statistics import fmean
from typing import Final

Distance = Callable[[float, float], float]

# Extra frames are paid for by whoever waits: 1.3 times a uniform leg's, no more.
_MOST_TENTHS: Final = 13
# Below this a leg has no room for probes.
_FEWEST: Final = 5
# How many frames a replica renders at once; a round of fewer costs as much.
_BATCH: Final = 5
# So many probes of a leg are auditioned. Found by trial: twice as many choose little better.
_AUDITIONED: Final = 4
# Closer fractions than these are not split: what lies between them is a jump of the model.
_CLOSEST: Final = 0.002
# New fractions are multiples of this, so that no last digit of a power reaches the name of a frame.
_GRAIN: Final = 2.0**-16
# How far a new fraction follows the curve through its neighbours instead of the straight line. Found by trial.
_CURVED: Final = 0.7
# How many known fractions a step may leave out, and how many times the mean step it may then span.
_SKIPPED: Final = 8
_REACH: Final = 3.0
# How many new fractions a plan may put into one step, less one.
_MOST_NEW: Final = 8


@dataclass(frozen=True, slots=True)
class Audition:
    """What a few frames show of the walk that a seed would give.

    steps: distances of neighbours; edges: how sharp each is, as the variance of its Laplacian.
    """

    steps: tuple[float, ...]
    edges: tuple[float, ...]

    @property
    def length(self) -> float:
        """How far the walk goes at least: the longer, the more happens at once and between frames."""
        return sum(self.steps)

    @property
    def sharpness(self) -> float:
        """That of the middle over that of the ends; below 1 where the walk fades."""
        middle, ends = self.edges[1:-1], fmean((self.edges[0], self.edges[-1]))
        return fmean(middle) / ends if middle and ends else 1.0


def auditioned_fractions(frames: int) -> tuple[float, ...]:
    """Where on a leg a seed is looked at: some of the probes that `follow` asks for first, so that none is lost."""
    probes = _probes(frames)
    last = len(probes) - 1
    return tuple(dict.fromkeys(probes[round(n * last / (_AUDITIONED - 1))] for n in range(_AUDITIONED)))


def choose_seed(auditions: Mapping[int, Audition]) -> int:
    """The seed of the walk that will be smooth and also sharp: the best sum of its two places among the others.

    Equals go to the shorter walk, then to the lower seed. How even the few steps are says nothing of the walk's
    evenness, rather the opposite; how long they are together says something.
    """

    def places(seed: int) -> tuple[int, float, int]:
        own = auditions[seed]
        shorter = sum(other.length < own.length for other in auditions.values())
        sharper = sum(other.sharpness > own.sharpness for other in auditions.values())
        return shorter + sharper, own.length, seed

    return min(auditions, key=places)


def follow(frames: int, known: Sequence[float], distance: Distance) -> tuple[tuple[float, ...], bool]:
    """What follows on the fractions of a leg that are known so far: more fractions, or the leg itself.

    frames: of the leg, both ends included, 2 and more; known: sorted, distinct, none at first; distance: between the
    pictures of two known fractions, 0 where they look the same. Returns the fractions to be known next, a superset of
    `known`, and False; or `frames` fractions, increasing from 0.0 to 1.0, and True: all of them known, except where
    the leg has no room for probes, or where they show that nothing moves. Knows no state: equal questions have equal
    answers. Never asks for more than 1.3 times `frames`.
    """
    sizes = rounds(frames)
    uniform = tuple(number / (frames - 1) for number in range(frames))
    if not sizes:
        return uniform, True
    if not known:
        return _probes(frames), False
    leg = _Leg(tuple(known), distance)
    if not leg.moves:
        if len({*known, *uniform}) <= budget(frames):
            return uniform, True
        leg = _Leg(leg.known, lambda one, other: abs(other - one))
    size = next((size for size in sizes if size > len(known)), None)
    if size is None:
        return _choose(leg, frames), True
    closest = min(_CLOSEST, _CLOSEST * 25 / frames)
    new = _plan(leg, frames, size - len(known), closest) if size > frames else _split(leg, size - len(known), closest)
    return _widen(sorted({*leg.known, *new}), size), False


def _probes(frames: int) -> tuple[float, ...]:
    """Where a leg is looked at first: at frames of the uniform leg, nearly evenly. All of them where it is short."""
    sizes = rounds(frames) or (frames,)
    return tuple(round(n * (frames - 1) / (sizes[0] - 1)) / (frames - 1) for n in range(sizes[0]))


def budget(frames: int) -> int:
    """How many fractions an even leg of so many frames may render in all."""
    return frames * _MOST_TENTHS // 10


def rounds(frames: int) -> tuple[int, ...]:
    """How many fractions of a leg are known after each round: none where the leg is too short for any.

    A round is a fifth of the frames, in whole batches of a replica where that is possible.
    """
    if frames < _FEWEST:
        return ()
    width = _BATCH * max(1, round(frames / (5 * _BATCH))) if frames > 4 * _BATCH else max(3, frames // 5)
    fewest = max(3, frames // 4)
    return tuple(takewhile(lambda size: size >= fewest, count(budget(frames), -width)))[::-1]


class _Leg:
    """The fractions of a leg that are known, and how far their pictures are from each other."""

    def __init__(self, known: tuple[float, ...], distance: Distance) -> None:
        self.known = known
        self._distance = distance
        self._apart: dict[tuple[int, int], float] = {}
        self.gaps = [self.apart(number, number + 1) for number in range(len(known) - 1)]
        self.moves = any(self.gaps)

    def apart(self, one: int, other: int) -> float:
        """The distance of two known pictures, asked for once."""
        if (one, other) not in self._apart:
            self._apart[one, other] = self._distance(self.known[one], self.known[other])
        return self._apart[one, other]

    @cached_property
    def power(self) -> float:
        """The p for which distances to the power of p add up along the leg, 1 to 3.

        A cross-fade has 1. Where an edge moves, twice as far is not twice as different: 2. Pictures that have nothing
        in common any more are no further apart: more.
        """
        trios = [(self.apart(n, n + 2), *self.gaps[n : n + 2]) for n in range(len(self.gaps) - 1)]
        largest = max(map(max, trios))
        low, high = 1.0, 3.0
        for _ in range(20):
            power = (low + high) / 2
            excess = sum((a / largest) ** power + (b / largest) ** power - (c / largest) ** power for c, a, b in trios)
            low, high = (power, high) if excess > 0 else (low, power)
        return low

    @cached_property
    def along(self) -> list[float]:
        """How far along the leg each known fraction is, in distances to the power of `power`."""
        sums = [0.0]
        for gap in self.gaps:
            sums.append(sums[-1] + gap**self.power)
        return sums

    @cached_property
    def slopes(self) -> list[float]:
        """Fraction per distance at each known fraction.

        Source: Fritsch and Butland, A method for constructing local monotone piecewise cubic interpolants, 1984.
        """
        widths = [max(after - before, 1e-12) for before, after in pairwise(self.along)]
        lines = [(after - before) / width for (before, after), width in zip(pairwise(self.known), widths, strict=True)]
        inner = [
            3 * (one + two) / ((one + 2 * two) / before + (2 * one + two) / after)
            for (one, two), (before, after) in zip(pairwise(widths), pairwise(lines), strict=True)
        ]
        return [lines[0], *inner, lines[-1]]

    def place(self, gap: int, share: float) -> float:
        """The fraction so far into a gap, by distance, as the gaps beside it let one expect."""
        start, end = self.known[gap : gap + 2]
        width = self.along[gap + 1] - self.along[gap]
        rest = 1 - share
        curve = (
            start * rest * rest * (1 + 2 * share)
            + end * share * share * (3 - 2 * share)
            + width * share * rest * (self.slopes[gap] * rest - self.slopes[gap + 1] * share)
        )
        line = start + (end - start) * share
        bent = line + _CURVED * (curve - line) if width else line
        return min(max(bent, start + (end - start) / 10), end - (end - start) / 10)


@dataclass(frozen=True, slots=True)
class _Step:
    """From one known fraction to another, with new ones between them."""

    start: int
    end: int
    new: int


def _split(leg: _Leg, new: int, closest: float) -> list[float]:
    """At most so many new fractions in the largest gaps, each time in the one that is then left largest."""
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
        if (fraction := _grained(leg, gap, number / some)) is not None
    ]


def _grained(leg: _Leg, gap: int, share: float) -> float | None:
    """The fraction so far into a gap, on the grain; none where that is not inside."""
    fraction = round(leg.place(gap, share) / _GRAIN) * _GRAIN
    return fraction if leg.known[gap] < fraction < leg.known[gap + 1] else None


def _plan(leg: _Leg, frames: int, new: int, closest: float) -> list[float]:
    """At most so many new fractions with which the leg would be most even: the price of a new one is raised to fit."""
    step = _mean_step(leg, frames)
    steps, low, high = _walk(leg, frames, step, 0.0, closest), 0.0, inf
    fits: list[_Step] = []
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
        steps = _walk(leg, frames, step, price, closest)
    if not fits:
        return _split(leg, new, closest)
    fits = _fill(leg, fits, new - sum(each.new for each in fits))
    return [fraction for each in fits for fraction in _between(leg, each, closest)]


def _mean_step(leg: _Leg, frames: int) -> float:
    """How large each step would be if all were equal."""
    return float((leg.along[-1] / (frames - 1)) ** (1 / leg.power))


def _fill(leg: _Leg, steps: list[_Step], more: int) -> list[_Step]:
    """Steps with so many new fractions more, where steps are the largest."""
    counts = [each.new for each in steps]
    sizes = [leg.apart(each.start, each.end) for each in steps]
    for _ in range(more):
        largest = max(range(len(steps)), key=lambda n: sizes[n] * (counts[n] + 1) ** (-1 / leg.power))
        counts[largest] += 1
    return [_Step(each.start, each.end, number) for each, number in zip(steps, counts, strict=True)]


def _between(leg: _Leg, step: _Step, closest: float) -> list[float]:
    """The new fractions of a step, evenly by distance."""
    start, end = leg.along[step.start], leg.along[step.end]
    found = []
    for number in range(1, step.new + 1):
        target = start + (end - start) * number / (step.new + 1)
        gap = min(max(bisect_right(leg.along, target) - 1, step.start), step.end - 1)
        width = leg.along[gap + 1] - leg.along[gap]
        fraction = _grained(leg, gap, (target - leg.along[gap]) / width if width else 0.5)
        if fraction is not None and leg.known[gap + 1] - leg.known[gap] > closest:
            found.append(fraction)
    return found


def _choose(leg: _Leg, frames: int) -> tuple[float, ...]:
    """The most even leg of so many frames that the known fractions give."""
    step = _mean_step(leg, frames)
    steps: list[_Step] = []
    for _ in range(4):
        steps = _walk(leg, frames, step, inf, 1.0)
        step = sum(leg.apart(each.start, each.end) for each in steps) / (frames - 1)
    return (leg.known[0], *(leg.known[each.end] for each in steps))


def _walk(leg: _Leg, frames: int, step: float, price: float, closest: float) -> list[_Step]:
    """The way from 0 to 1 in frames - 1 steps that differ least from `step`, in squares; none where there is none.

    price: of each new fraction, in squared steps; infinite where there may be none. Dynamic programming over how many
    frames stand before each known fraction; only counts near the expected one are tried, all where that fails.
    """
    for band in (5 + len(leg.known) // 20, frames):
        best = _search(leg, frames, step, price, closest, band)
        end, number = len(leg.known) - 1, frames - 1
        if number in best[end]:
            steps = []
            while end:
                each = best[end][number][1]
                steps.append(each)
                end, number = each.start, number - each.new - 1
            return steps[::-1]
    return []


_Best = dict[int, tuple[float, _Step]]


def _search(leg: _Leg, frames: int, step: float, price: float, closest: float, band: int) -> list[_Best]:
    """For each known fraction the cheapest way there, by the number of its steps."""
    last = len(leg.known) - 1
    best: list[_Best] = [{0: (0.0, _Step(0, 0, 0))}]
    for end in range(1, last + 1):
        expected = leg.along[end] / leg.along[-1] * (frames - 1)
        here: _Best = {}
        for each, cost in _steps(leg, end, step, price, closest, wide=band >= frames):
            for before, (spent, _) in best[each.start].items():
                number = before + each.new + 1
                if number >= frames or (abs(number - expected) > band and end < last):
                    continue
                if number not in here or spent + cost < here[number][0]:
                    here[number] = (spent + cost, each)
        best.append(here)
    return best


def _steps(leg: _Leg, end: int, step: float, price: float, closest: float, *, wide: bool) -> list[tuple[_Step, float]]:
    """Steps that may lead to a known fraction, with their costs."""
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
            found.append((_Step(start, end, new), cost))
    return found


def _widen(fractions: list[float], size: int) -> tuple[float, ...]:
    """Fractions with midpoints of the widest gaps, until they are so many."""
    while len(fractions) < size:
        before, after = max(pairwise(fractions), key=lambda pair: pair[1] - pair[0])
        fractions = sorted([*fractions, (before + after) / 2])
    return tuple(fractions)
