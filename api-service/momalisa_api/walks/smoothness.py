"""How evenly a walk moves to the eye: distances of neighbouring frames, and statistics of them. Pure.

A distance is the root mean square difference of two pictures' pixels: it needs no weights, and grows with the area and
the strength of a change. A cross-fade is even but blurred, so the sharpness of the frames is measured too.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from statistics import fmean, pstdev
from typing import Final, Self

from PIL import Image, ImageChops, ImageFilter, ImageStat
from pydantic import BaseModel, ConfigDict, Field

# A step this many times the mean is seen as a jump, whatever the spacing.
JUMP_TIMES: Final = 3.0
# A quarter of the Laplacian fits into eight bits; its variance is a sixteenth then.
_LAPLACIAN: Final = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=8, offset=128)
_SCALE: Final = 64
# Of the 256 levels of three channels.
_SQUARES: Final = tuple(level * level for level in range(256)) * 3
_DIGITS: Final = 4
# Longer side of the pictures that are compared while the spacing is being found, in pixels.
THUMBNAIL_PX: Final = 128


class Jump(BaseModel):
    """A step much larger than the others."""

    model_config = ConfigDict(frozen=True)

    frame: int = Field(description="The frame after the jump, counted from 0.")
    times: float = Field(description="Size of the jump as a multiple of the mean step.")


class Smoothness(BaseModel):
    """How evenly a finished walk moves, and how sharp it is."""

    model_config = ConfigDict(frozen=True)

    evenness: float | None = Field(
        description="1 - Gini of the steps between neighbouring frames: 1 if all are equal; null if nothing moves."
    )
    largest: float | None = Field(description="Largest step divided by the mean step; null if nothing moves.")
    deviation: float = Field(description="Standard deviation of the steps (RMS of pixel differences, 0 to 1).")
    sharpness: float | None = Field(
        description="Variance of the Laplacian in the middle third divided by that at the ends; below 1: blurred."
    )
    jumps: tuple[Jump, ...] = Field((), description="Steps more than three times the mean.")


class Meter:
    """Measures how a walk moves while its pictures pass, in order. Keeps one picture."""

    def __init__(self, count: int) -> None:
        """count: how many pictures will pass. Raises ValueError for fewer than two."""
        if count < 2:
            raise ValueError(f"a walk needs at least two frames, not {count}")
        third = max(1, count // 3)
        self._ends = (0, count - 1)
        self._middle = range(third, count - third)
        self._number = 0
        self._before: Image.Image | None = None
        self._steps: list[float] = []
        self._edges: dict[int, float] = {}

    def add(self, picture: Image.Image) -> None:
        """Measure the next RGB picture, of the same size as the others."""
        if self._number in self._ends or self._number in self._middle:
            self._edges[self._number] = edge(picture)
        if self._before is not None:
            self._steps.append(distance(self._before, picture))
        self._before = picture
        self._number += 1

    def finish(self) -> Smoothness:
        """The result, after the last picture."""
        ends = fmean(self._edges[number] for number in self._ends)
        inner = [self._edges[number] for number in self._middle if number not in self._ends]
        middle = fmean(inner) if inner else ends
        evenness, largest, deviation = gauge(self._steps)
        return Smoothness(
            evenness=evenness,
            largest=largest,
            deviation=deviation,
            sharpness=round(middle / ends, _DIGITS) if ends else None,
            jumps=find_jumps(self._steps),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """What is kept of a picture for comparisons: small enough for hundreds of them. edge: see `edge`."""

    small: Image.Image
    edge: float

    @classmethod
    def of(cls, png: bytes) -> Self:
        """Make the thumbnail of a PNG. Raises OSError if it is not a picture."""
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        return cls(picture.reduce(_times_smaller(*picture.size)), edge(picture))

    @classmethod
    def size_of(cls, width: int, height: int) -> tuple[int, int]:
        """The size of the small copy of a picture of this size, in pixels."""
        times = _times_smaller(width, height)
        return -(-width // times), -(-height // times)

    def distance(self, other: Self) -> float:
        """Between two pictures of one size: see `distance`."""
        return distance(self.small, other.small)


def _times_smaller(width: int, height: int) -> int:
    return max(1, max(width, height) // THUMBNAIL_PX)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Root mean square of the difference of two RGB pictures of one size, 0 to 1."""
    # The planner compares thousands of pairs, so this avoids the general ImageStat.
    levels = ImageChops.difference(one, other).histogram()
    return float((sum(map(mul, levels, _SQUARES)) / sum(levels)) ** 0.5 / 255)


def edge(picture: Image.Image) -> float:
    """Variance of the Laplacian of a picture's luminance: the higher, the sharper."""
    # Pillow does not filter the border.
    inner = (1, 1, picture.width - 1, picture.height - 1)
    return float(ImageStat.Stat(picture.convert("L").filter(_LAPLACIAN).crop(inner)).var[0] * _SCALE)


def gauge(steps: Sequence[float]) -> tuple[float | None, float | None, float]:
    """Evenness, largest step over mean, and standard deviation of steps; the first two are None if nothing moves."""
    mean = fmean(steps)
    if not mean:
        return None, None, 0.0
    ranked = sum((2 * rank - len(steps) - 1) * step for rank, step in enumerate(sorted(steps), start=1))
    gini = ranked / (len(steps) ** 2 * mean)
    return round(1 - gini, _DIGITS), round(max(steps) / mean, _DIGITS), round(pstdev(steps), _DIGITS)


def find_jumps(steps: Sequence[float]) -> tuple[Jump, ...]:
    """The steps that are far larger than the mean."""
    mean = fmean(steps)
    times = [step / mean if mean else 0.0 for step in steps]
    return tuple(
        Jump(frame=number, times=round(size, _DIGITS)) for number, size in enumerate(times, 1) if size > JUMP_TIMES
    )
