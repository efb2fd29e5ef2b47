"""The known part of a leg: distances between its pictures, and estimates of what is between them. Pure."""

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Final

Distance = Callable[[float, float], float]

# Weight of the curve through the neighbours, against a straight line. Found by experiment.
_CURVED: Final = 0.7
# New fractions are multiples of this, so that rounding errors do not change the names of frames.
_GRAIN: Final = 2.0**-16


class LegCurve:
    """The known fractions of a leg, and the distances between their pictures."""

    def __init__(self, known: tuple[float, ...], distance: Distance) -> None:
        self.known = known
        self._distance = distance
        self._apart: dict[tuple[int, int], float] = {}
        self.gaps = [self.apart(number, number + 1) for number in range(len(known) - 1)]
        self.moves = any(self.gaps)

    def apart(self, one: int, other: int) -> float:
        """The distance of two known pictures, computed once."""
        if (one, other) not in self._apart:
            self._apart[one, other] = self._distance(self.known[one], self.known[other])
        return self._apart[one, other]

    @cached_property
    def power(self) -> float:
        """The exponent p, from 1 to 3, for which distances to the power of p add up along the leg.

        A cross-fade has 1. A moving edge has 2, as twice the way is not twice the difference. Pictures with nothing
        in common have more, as their distance does not grow any more.
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
        """Position of each known fraction along the leg, in distances to the power of `power`."""
        sums = [0.0]
        for gap in self.gaps:
            sums.append(sums[-1] + gap**self.power)
        return sums

    @cached_property
    def slopes(self) -> list[float]:
        """Derivative of the fraction by distance, at each known fraction.

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
        """The fraction at a share of a gap by distance, estimated with the neighbouring gaps."""
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

    def grained(self, gap: int, share: float) -> float | None:
        """The fraction at a share of a gap, rounded to the grain; None if that is not inside the gap."""
        fraction = round(self.place(gap, share) / _GRAIN) * _GRAIN
        return fraction if self.known[gap] < fraction < self.known[gap + 1] else None

    def mean_step(self, frames: int) -> float:
        """The size of each step if `frames` frames were spaced evenly."""
        return float((self.along[-1] / (frames - 1)) ** (1 / self.power))
