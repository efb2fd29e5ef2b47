"""Shapes as label maps: the number of the caption's colour for each point of the picture.

A label map is a (side, side) uint8 array of slots: 0 is the first colour of the caption, and the last colour is the
ground. Coordinates are from 0 to 1, left to right and top to bottom.
"""

from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Labels = NDArray[np.uint8]
Field = NDArray[np.float32]
Weights = NDArray[np.float32]
Layers = Labels | Weights
Points = list[tuple[float, float]]


@lru_cache(maxsize=4)
def coordinates(side: int) -> tuple[Field, Field]:
    """x and y of the centre of every point, each (side, side) float32."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.tile(line, (side, 1)), np.tile(line[:, None], (1, side))


def polar(side: int, centre: tuple[float, float]) -> tuple[Field, Field]:
    """Distance from the centre, and the angle around it in turns, [0, 1); each (side, side)."""
    x, y = coordinates(side)
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    return np.hypot(dx, dy), (np.arctan2(dy, dx) / np.float32(2 * pi)) % np.float32(1)


def bands(field: Field, count: int) -> Labels:
    """Label each point by the whole part of its value, modulo count."""
    return (np.floor(field).astype(np.int32) % count).astype(np.uint8)


def ground(side: int, slot: int) -> Labels:
    """A label map of one slot: (side, side)."""
    return np.full((side, side), slot, np.uint8)


def draw_polygons(labels: Labels, polygons: list[tuple[Points, int]]) -> Labels:
    """The labels with filled polygons on them, later ones on top. polygons: (points, slot) each."""
    image = Image.fromarray(labels)
    pen, side = ImageDraw.Draw(image), labels.shape[0]
    for points, slot in polygons:
        pen.polygon([(x * side, y * side) for x, y in points], fill=slot)
    return np.array(image)


def around(centre: tuple[float, float], radii: list[float], turn: float = 0.0) -> Points:
    """A closed outline with one point per radius, evenly around the centre. turn: in full turns; 0 points up."""
    step = 1 / len(radii)
    angles = [2 * pi * (i * step + turn) - pi / 2 for i in range(len(radii))]
    return [(centre[0] + r * cos(a), centre[1] + r * sin(a)) for r, a in zip(radii, angles, strict=True)]


def bar(centre: tuple[float, float], length: float, width: float, turn: float) -> Points:
    """The corners of a rotated rectangle. turn: in full turns."""
    a = 2 * pi * turn
    along, across = (cos(a) * length / 2, sin(a) * length / 2), (-sin(a) * width / 2, cos(a) * width / 2)
    signs = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    return [(centre[0] + s * along[0] + t * across[0], centre[1] + s * along[1] + t * across[1]) for s, t in signs]
