"""How evenly a walk moves, to the eye: distances of neighbouring frames, and what they say of the whole. Pure.

A distance is the root mean square of the difference of two pictures' pixels, which needs no weights and follows what
changes in area and strength. A cross-fade is smooth and says nothing, so the sharpness of the frames stands beside it.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Final, Self

from PIL import Image, ImageChops, ImageFilter, ImageStat
from pydantic import BaseModel, ConfigDict, Field

# A gap that is so many times the mean, though its fractions lie so close together, is a jump of the model itself.
JUMP_TIMES: Final = 3.0
JUMP_CLOSER: Final = 0.002
# A quarter of the Laplacian fits into eight bits; its variance is then a sixteenth.
_LAPLACIAN: Final = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=8, offset=128)
_SCALE: Final = 64
_DIGITS: Final = 4
# The longer side of what is compared while a walk is still being laid out.
SIGHT_PX: Final = 128


class Jump(BaseModel):
    """Two neighbours between which the model knows nothing."""

    model_config = ConfigDict(frozen=True)

    frame: int = Field(description="The frame that it leads to, counted from 0.")
    times: float = Field(description="How many times the mean step it is.")


class Smoothness(BaseModel):
    """How a finished walk moves. A walk that does not move at all has no evenness."""

    model_config = ConfigDict(frozen=True)

    evenness: float | None = Field(
        description="1 - Gini of the steps between neighbours: 1 where all look the same size."
    )
    largest: float | None = Field(description="The largest step over the mean one.")
    deviation: float = Field(description="Standard deviation of the steps, each the RMS of pixels from 0 to 1.")
    sharpness: float | None = Field(
        description="Variance of the Laplacian in the middle third over that of the ends: below 1 where it fades."
    )
    jumps: tuple[Jump, ...] = Field((), description="Steps that no spacing can make smaller.")


def measure(frames: Sequence[Callable[[], bytes]], fractions: Sequence[float]) -> Smoothness:
    """How a walk moves. frames: each gives its PNG, all of one size; fractions: where each stands on its leg, 0 to 1.

    Two pictures are in memory at a time. Raises ValueError for fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"a walk has two frames at least, not {len(frames)}")
    third = max(1, len(frames) // 3)
    edges: dict[int, float] = {}
    steps: list[float] = []
    before: Image.Image | None = None
    for number, frame in enumerate(frames):
        picture = Image.open(io.BytesIO(frame())).convert("RGB")
        if number in (0, len(frames) - 1) or third <= number < len(frames) - third:
            edges[number] = edge(picture)
        if before is not None:
            steps.append(distance(before, picture))
        before = picture
    ends = fmean((edges.pop(0), edges.pop(len(frames) - 1)))
    middle = fmean(edges.values()) if edges else ends
    evenness, largest, deviation = gauge(steps)
    return Smoothness(
        evenness=evenness,
        largest=largest,
        deviation=deviation,
        sharpness=round(middle / ends, _DIGITS) if ends else None,
        jumps=find_jumps(steps, fractions),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What is kept of a picture to compare it by: small enough for hundreds of them. edge: see `edge`."""

    small: Image.Image
    edge: float

    @classmethod
    def of(cls, png: bytes) -> Self:
        """Look at a frame. Raises OSError for what is no picture."""
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        longest = max(picture.size)
        return cls(picture.reduce(max(1, longest // SIGHT_PX)), edge(picture))

    def distance(self, other: Self) -> float:
        """Between two pictures of one size: see `distance`."""
        return distance(self.small, other.small)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Root mean square of the difference of two RGB pictures of one size, 0 to 1."""
    squares = (level**2 for level in ImageStat.Stat(ImageChops.difference(one, other)).rms)
    return float((fmean(squares) ** 0.5) / 255)


def edge(picture: Image.Image) -> float:
    """Variance of the Laplacian of a picture's grey: the more of it, the sharper."""
    # Pillow leaves the rim as it was.
    inner = (1, 1, picture.width - 1, picture.height - 1)
    return float(ImageStat.Stat(picture.convert("L").filter(_LAPLACIAN).crop(inner)).var[0] * _SCALE)


def gauge(steps: Sequence[float]) -> tuple[float | None, float | None, float]:
    """Evenness, largest over mean, and standard deviation of steps; the first two are None where nothing moves."""
    mean = fmean(steps)
    if not mean:
        return None, None, 0.0
    ranked = sum((2 * rank - len(steps) - 1) * step for rank, step in enumerate(sorted(steps), start=1))
    gini = ranked / (len(steps) ** 2 * mean)
    return round(1 - gini, _DIGITS), round(max(steps) / mean, _DIGITS), round(pstdev(steps), _DIGITS)


def find_jumps(steps: Sequence[float], fractions: Sequence[float]) -> tuple[Jump, ...]:
    """The steps that stay large however close their fractions are."""
    mean = fmean(steps)
    gaps = [abs(after - before) for before, after in pairwise(fractions)]
    return tuple(
        Jump(frame=number + 1, times=round(step / mean, _DIGITS))
        for number, (step, gap) in enumerate(zip(steps, gaps, strict=True))
        if mean and step > JUMP_TIMES * mean and gap < JUMP_CLOSER
    )
