"""Which of some seeds to walk with, from a few frames of each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from momalisa_api.walks.even_spacing import probes

# So many probes of a leg are auditioned. Found by trial: twice as many choose little better.
_AUDITIONED: Final = 4


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
    first = probes(frames)
    last = len(first) - 1
    return tuple(dict.fromkeys(first[round(n * last / (_AUDITIONED - 1))] for n in range(_AUDITIONED)))


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
