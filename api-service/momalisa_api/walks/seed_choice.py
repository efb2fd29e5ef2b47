"""Chooses one of several seeds from a few frames of each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from momalisa_api.walks.even_spacing import uniform

# Frames per leg and seed. Found by experiment: twice as many choose little better.
_SAMPLES: Final = 4


@dataclass(frozen=True, slots=True)
class SeedSample:
    """Measurements of a few frames of a walk with one seed.

    steps: distances of neighbouring frames; edges: sharpness of each frame, as the variance of its Laplacian.
    """

    steps: tuple[float, ...]
    edges: tuple[float, ...]

    @property
    def length(self) -> float:
        """A lower bound of the walk's length: the longer, the more changes between frames."""
        return sum(self.steps)

    @property
    def sharpness(self) -> float:
        """Sharpness of the middle divided by that of the ends; below 1 if the walk fades."""
        middle, ends = self.edges[1:-1], fmean((self.edges[0], self.edges[-1]))
        return fmean(middle) / ends if middle and ends else 1.0


def sample_fractions(frames: int) -> tuple[float, ...]:
    """The fractions of a leg at which a seed is tried: frames of the uniform leg, so that none is wasted."""
    leg = uniform(frames)
    return tuple(dict.fromkeys(leg[round(n * (frames - 1) / (_SAMPLES - 1))] for n in range(_SAMPLES)))


def choose_seed(samples: Mapping[int, SeedSample]) -> int:
    """The seed whose walk will be smooth and sharp: the lowest sum of its ranks by length and by sharpness.

    Ties go to the shorter walk, then to the lower seed. The evenness of a few steps does not predict that of the walk;
    their total length does.
    """

    def ranks(seed: int) -> tuple[int, float, int]:
        own = samples[seed]
        shorter = sum(other.length < own.length for other in samples.values())
        sharper = sum(other.sharpness > own.sharpness for other in samples.values())
        return shorter + sharper, own.length, seed

    return min(samples, key=ranks)
