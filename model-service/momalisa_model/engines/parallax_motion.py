"""The camera's loops: where it is at each fraction. Knows nothing of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Final

# With amplitude 1: how far the camera makes the nearest points move against the farthest ones to each side, as a share
# of the picture's shorter side.
REACH: Final = 0.055
# With amplitude 1: by how much it makes the nearest or the farthest points larger.
GROWTH: Final = 0.16
# This nearness stays in its place while the camera moves sideways.
PIVOT: Final = 0.4


@dataclass(frozen=True)
class View:
    """One place of the camera.

    x, y: how far the nearest points have moved against the farthest ones, as a share of the picture's shorter side.
    near, far: how many times larger than in the picture the nearest and the farthest points are.
    """

    x: float = 0.0
    y: float = 0.0
    near: float = 1.0
    far: float = 1.0


def view_at(motion: str, amplitude: float, fraction: float) -> View:
    """Where the camera is at a fraction of its loop; at 1, it is exactly where it was at 0.

    Its speed changes smoothly, also from the end of a loop to the beginning of the next one.
    """
    return MOTIONS[motion](amplitude, 2 * pi * (fraction % 1.0))


def largest_move(amplitude: float) -> float:
    """How far any motion moves near points against far ones at most, as a share of the picture's longer side."""
    return amplitude * max(REACH, GROWTH / 2)


def _sway(amplitude: float, angle: float) -> View:
    """To the right, to the left, and back."""
    return _sideways(amplitude, sin(angle), 0.0)


def _circle(amplitude: float, angle: float) -> View:
    """Around the picture's middle at one speed."""
    return _sideways(amplitude, cos(angle), sin(angle))


def _sideways(amplitude: float, x: float, y: float) -> View:
    # Large enough that no place of the camera looks past the picture's border.
    size = 1 + 2 * amplitude * REACH * max(PIVOT, 1 - PIVOT)
    return View(amplitude * REACH * x, amplitude * REACH * y, size, size)


def _dolly(amplitude: float, angle: float) -> View:
    """Into the picture and back: what is near grows most."""
    there = amplitude * GROWTH * (1 - cos(angle)) / 2
    return View(near=1 + there, far=1 + there / 8)


def _zoom(amplitude: float, angle: float) -> View:
    """A dolly zoom: what is near keeps its size while the background grows, and back."""
    return View(far=1 + amplitude * GROWTH * (1 - cos(angle)) / 2)


MOTIONS: Final[Mapping[str, Callable[[float, float], View]]] = {
    "sway": _sway,
    "circle": _circle,
    "dolly": _dolly,
    "zoom": _zoom,
}
