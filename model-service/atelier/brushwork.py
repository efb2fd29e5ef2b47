"""Ways to put paint on a picture: strokes along a field, cells, hatching, stitches. styles.py composes them.

Colours are (side, side, 3) float32 in [0, 1]; masks and fields are (side, side) float32.
"""

from math import pi
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.canvas import Field, coordinates

Paint = NDArray[np.float32]

OCTAVES: Final = 5


def clouds(dice: np.random.Generator, side: int, first: int = 1) -> Field:
    """Smooth noise around 0 with a deviation of 1. first: its coarsest octave, 2**first waves across the picture."""
    total = np.zeros((side, side), np.float32)
    for octave in range(first, first + OCTAVES):
        grid = dice.normal(size=(2**octave + 1, 2**octave + 1)).astype(np.float32)
        smooth = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / np.float32(2 ** (octave - first))
    noise: Field = (total - total.mean()) / total.std()
    return noise


def rgb(red: float, green: float, blue: float) -> Paint:
    """One colour, from 0 to 1, as paint for any picture."""
    return np.array([red, green, blue], np.float32)


def mix(low: Paint, high: Paint, share: Field) -> Paint:
    """Two colours or paints, with a share of the second from 0 to 1."""
    mixed: Paint = (low + (high - low) * share.clip(0, 1)[..., None]).astype(np.float32)
    return mixed


def ramp(field: Field, *colours: tuple[int, int, int]) -> Paint:
    """Colours, from 0 to 255, in order along a field from 0 to 1."""
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(field, stops, [colour[i] / 255 for colour in colours]) for i in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def steps(field: Field, count: int) -> Field:
    """A field in flat steps, from 0 to 1."""
    low, high = np.quantile(field, (0.02, 0.98))
    stepped: Field = (np.floor(((field - low) / (high - low)).clip(0, 0.999) * count) / (count - 1)).astype(np.float32)
    return stepped


def swirls(dice: np.random.Generator, side: int, count: int) -> Field:
    """Directions, as angles, that turn around a number of centres."""
    x, y = coordinates(side)
    dx, dy = np.full_like(x, 0.6), np.zeros_like(y)
    for _ in range(count):
        u, v = x - dice.uniform(0, 1), y - dice.uniform(0, 1)
        reach = np.exp(-(u * u + v * v) / dice.uniform(0.01, 0.05)) * dice.choice((-1, 1))
        far = np.hypot(u, v) + 1e-3
        dx, dy = dx - 2 * reach * v / far, dy + 2 * reach * u / far
    return np.arctan2(dy, dx).astype(np.float32)


def stroked(paint: Paint, angle: Field, length: int) -> Paint:
    """Paint that is drawn out along directions, by line integral convolution. length: of a stroke, in pixels.

    Source: Cabral and Leedom, Imaging vector fields using line integral convolution, 1993.
    """
    side = len(paint)
    total = paint.copy()
    for way in (1, -1):
        y, x = np.mgrid[0:side, 0:side].astype(np.float32)
        for _ in range(length // 2):
            here = angle[y.astype(int) % side, x.astype(int) % side]
            x, y = x + way * np.cos(here), y + way * np.sin(here)
            total += paint[y.astype(int) % side, x.astype(int) % side]
    return (total / (1 + 2 * (length // 2))).astype(np.float32)


def relief(height: Field, strength: float) -> Field:
    """Light from the upper left on a relief, around 1."""
    down, right = np.gradient(height)
    return (1 + strength * (down + right)).clip(0.3, 1.7).astype(np.float32)


def cells(dice: np.random.Generator, side: int, across: int) -> tuple[NDArray[np.intp], Field, NDArray[np.float32]]:
    """The cell of each pixel around jittered points, the distance to its border in cells, and the points' places."""
    x, y = coordinates(side)
    grid = np.stack(np.meshgrid(np.arange(across), np.arange(across)), -1).reshape(-1, 2)
    points = ((grid + dice.uniform(0.1, 0.9, grid.shape)) / across).astype(np.float32)
    nearest = np.full((2, side, side), 9, np.float32)
    owner = np.zeros((side, side), np.intp)
    for number, (px, py) in enumerate(points):
        far = np.hypot(x - px, y - py)
        closer = far < nearest[0]
        nearest[1] = np.where(closer, nearest[0], np.minimum(nearest[1], far))
        nearest[0] = np.where(closer, far, nearest[0])
        owner[closer] = number
    return owner, (nearest[1] - nearest[0]) * across, points


def wavy_lines(field: Field, many: float) -> Field:
    """Parallel lines along a field, from 0 to 1."""
    lines: Field = (0.5 + 0.5 * np.sin(2 * pi * many * field)).astype(np.float32)
    return lines


def soft_step(field: Field, edge: float, width: float) -> Field:
    """0 below an edge and 1 above it, with a border of this width."""
    step: Field = ((field - edge) / width + 0.5).clip(0, 1).astype(np.float32)
    return step
