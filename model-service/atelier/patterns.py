"""Compositions that fill the picture evenly. families.py explains the arguments."""

from math import pi
from random import Random

import numpy as np

from atelier import canvas
from atelier.canvas import Labels, Layers


def grid(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Rectangles between black lines; the largest one has the first colour."""
    boxes = [(0.0, 0.0, 1.0, 1.0)]
    for _ in range((5, 10)[kind]):
        x0, y0, x1, y1 = boxes.pop(0)
        cut = rng.choice((0.3, 0.4, 0.64))
        if x1 - x0 > y1 - y0:
            middle = x0 + cut * (x1 - x0)
            boxes += [(x0, y0, middle, y1), (middle, y0, x1, y1)]
        else:
            middle = y0 + cut * (y1 - y0)
            boxes += [(x0, y0, x1, middle), (x0, middle, x1, y1)]
        boxes.sort(key=lambda b: (b[0] - b[2]) * (b[3] - b[1]))
    labels, line = canvas.ground(side, count), 0.014
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        left, top = round((x0 + line) * side), round((y0 + line) * side)
        labels[top : round((y1 - line) * side), left : round((x1 - line) * side)] = i % count
    return labels


def stripes(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Straight stripes, upright or slanted."""
    x, y = canvas.coordinates(side)
    return canvas.bands((x + y) * (4 if count == 2 else 4.5) if kind else x * (8 if count == 2 else 9), count)


def dots(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Dots in rows on the last colour; with three colours, the dots alternate between two."""
    x, y = canvas.coordinates(side)
    across = (4, 6)[kind]
    inside = np.hypot((x * across) % 1 - 0.5, (y * across) % 1 - 0.5) < 0.34
    turns = canvas.bands(np.floor(x * across) + np.floor(y * across), count - 1)
    return np.where(inside, turns, np.uint8(count - 1)).astype(np.uint8)


def waves(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Wavy bands from left to right."""
    x, y = canvas.coordinates(side)
    height, length, many = ((0.03, 1.0, 6), (0.07, 2.0, 6))[kind]
    rolling = y + np.float32(height) * np.sin(2 * pi * (length * x + rng.random())).astype(np.float32)
    return canvas.bands(rolling * many, count)


def checkerboard(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Squares in alternating colours, straight or rotated by 45 degrees."""
    x, y = canvas.coordinates(side)
    if kind:
        x, y = (x + y) / np.float32(1.2), (x - y) / np.float32(1.2)
    return canvas.bands(np.floor(x * 6) + np.floor(y * 6), count)


def half_circles(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Tiles with one half disc each, in random directions, on the last colour."""
    across = (2, 4)[kind]
    x, y = canvas.coordinates(side)
    labels = canvas.ground(side, count - 1)
    for i in range(across * across):
        u, v = x * across - i % across, y * across - i // across
        u, v = rng.choice(((u, v), (1 - u, v), (v, u), (1 - v, u)))
        inside = (u >= 0) & (u < 1) & (np.hypot(u, v - 0.5) < 0.5)
        labels[inside] = (i + i // across) % (count - 1)
    return labels


def triangles(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Squares that are divided along a diagonal."""
    across = (3, 5)[kind]
    x, y = canvas.coordinates(side)
    labels = canvas.ground(side, 0)
    for i in range(across * across):
        u, v = x * across - i % across, y * across - i // across
        tile = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        upper = u > v if rng.random() < 0.5 else u + v < 1
        first = rng.randrange(count)
        labels[tile] = np.where(upper[tile], first, (first + 1) % count)
    return labels


def tiles(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Square tiles with rings; the colours shift from tile to tile."""
    across = (2, 3)[kind]
    x, y = canvas.coordinates(side)
    radius = np.hypot((x * across) % 1 - 0.5, (y * across) % 1 - 0.5)
    rings = np.digitize(radius, [0.15, 0.29, 0.43]).astype(np.float32)
    return canvas.bands(rings + np.floor(x * across) + np.floor(y * across), count)


def chevrons(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Zigzag bands."""
    x, y = canvas.coordinates(side)
    teeth, many = ((2, 6), (4, 9))[kind]
    return canvas.bands((y + np.abs((x * teeth) % 1 - np.float32(0.5)) / np.float32(teeth)) * many, count)


def stained_glass(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Cells around random points, with black outlines."""
    x, y = canvas.coordinates(side)
    across = (3, 4)[kind]
    cells = [
        ((i % across + rng.uniform(0.15, 0.85)) / across, (i // across + rng.uniform(0.15, 0.85)) / across)
        for i in range(across * across)
    ]
    far = np.stack([np.hypot(x - np.float32(a), y - np.float32(b)) for a, b in cells])
    nearest, second = np.partition(far, 1, axis=0)[:2]
    labels: Labels = (np.argmin(far, axis=0) % count).astype(np.uint8)
    labels[second - nearest < 0.03] = count
    return labels
