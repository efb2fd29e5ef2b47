"""The families of composition: each says where its colours go.

A family draws a label map (side, side) or, where colours melt into each other, weights (slots, side, side)
that sum to 1.
Slot `count` (one past the named colours) is ink, the black of leading and grid lines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atelier import canvas
from atelier.canvas import Labels

Weights = NDArray[np.float32]
Layers = Labels | Weights
Draw = Callable[[int, int, int, Random], Layers]


@dataclass(frozen=True)
class Family:
    """One kind of picture.

    names: what captions call it, article first ("" for a plural). kinds: the words for its layouts.
    counts: how many colours it takes.
    """

    names: tuple[tuple[str, str], ...]
    kinds: tuple[str, str]
    counts: tuple[int, ...]
    draw: Draw


def grid(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Rectangles between black lines, the first colour in the largest."""
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


def circles(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Rings around one centre, the first colour innermost, the last one outside."""
    radius, _ = canvas.polar(side, (0.5, 0.5))
    rings = ((4, 8), (6, 9))[count - 2][kind]
    labels = canvas.bands(radius * (rings / 0.48), count)
    labels[radius > 0.48 - 0.48 / rings] = count - 1
    return labels


def field(side: int, kind: int, count: int, rng: Random) -> Layers:
    """One or two soft rectangles that float on the last colour."""
    x, y = canvas.coordinates(side)
    if kind:
        x, y = y, x
    share = rng.choice((0.4, 0.58))
    cuts = [(0.1, 0.08 + 0.84 * share - 0.02), (0.1 + 0.84 * share, 0.92)][: count - 1]
    weights: Weights = np.zeros((count + 1, side, side), np.float32)
    weights[count - 1] = 1
    for slot, (top, bottom) in enumerate(cuts):
        edges = [(x - 0.1, 0.9 - x), (y - top, bottom - y)]
        soft = np.prod([np.clip(np.minimum(a, b) / 0.05 + 0.5, 0, 1) for a, b in edges], axis=0)
        weights *= 1 - soft
        weights[slot] += soft
    return weights


def stripes(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Straight stripes, upright or aslant."""
    x, y = canvas.coordinates(side)
    return canvas.bands((x + y) * (4 if count == 2 else 4.5) if kind else x * (8 if count == 2 else 9), count)


def dots(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Dots in rows on the last colour; three colours: two of them take turns."""
    x, y = canvas.coordinates(side)
    across = (4, 6)[kind]
    inside = np.hypot((x * across) % 1 - 0.5, (y * across) % 1 - 0.5) < 0.34
    turns = canvas.bands(np.floor(x * across) + np.floor(y * across), count - 1)
    return np.where(inside, turns, np.uint8(count - 1)).astype(np.uint8)


def _frond(centre: tuple[float, float], length: float, turn: float) -> list[canvas.Points]:
    """A stem with pairs of leaflets, as scissors would cut it from paper."""
    a = 2 * pi * turn
    leaves = [canvas.bar(centre, length, length * 0.09, turn)]
    for i in range(4):
        along = (i / 3 - 0.5) * length * 0.8
        foot = (centre[0] + cos(a) * along, centre[1] + sin(a) * along)
        for side_turn in (turn + 0.13, turn - 0.13):
            b = 2 * pi * side_turn
            tip = (foot[0] + cos(b) * length * 0.2, foot[1] + sin(b) * length * 0.2)
            leaves.append(canvas.bar(tip, length * 0.42, length * 0.15, side_turn))
    return leaves


def cutouts(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Leaves and lobed blossoms cut from paper, on the last colour."""
    cells, size = ((2, 0.42), (3, 0.27))[kind]
    polygons: list[tuple[canvas.Points, int]] = []
    for i in range(cells * cells):
        centre = ((i % cells + 0.5) / cells + rng.uniform(-0.02, 0.02), (i // cells + 0.5) / cells)
        slot, turn = i % (count - 1), rng.random()
        if (i + i // cells) % 2:
            polygons += [(leaf, slot) for leaf in _frond(centre, size * 0.95, turn)]
        else:
            radii = [size * (0.34 + 0.16 * cos(10 * pi * j / 60)) for j in range(60)]
            polygons.append((canvas.around(centre, radii, turn), slot))
    return canvas.draw_polygons(canvas.ground(side, count - 1), polygons)


def spiral(side: int, kind: int, count: int, rng: Random) -> Layers:
    """An Archimedean spiral, one arm a colour."""
    radius, turns = canvas.polar(side, (0.5, 0.5))
    return canvas.bands(((radius * (5, 8)[kind] - turns) % 1) * count, count)


def stars(side: int, kind: int, count: int, rng: Random) -> Layers:
    """One large five-pointed star, or a sky of small ones."""
    polygons: list[tuple[canvas.Points, int]] = []
    if kind == 0:
        for scale, slot in ((1.0, 0), (0.5, 1))[: count - 1]:
            polygons.append((canvas.around((0.5, 0.53), [0.46 * scale, 0.19 * scale] * 5), slot))
    else:
        for i in range(9):
            centre = ((i % 3 + 0.5) / 3 + rng.uniform(-0.05, 0.05), (i // 3 + 0.5) / 3 + rng.uniform(-0.05, 0.05))
            size = rng.uniform(0.1, 0.15)
            polygons.append((canvas.around(centre, [size, size * 0.42] * 5, rng.random()), i % (count - 1)))
    return canvas.draw_polygons(canvas.ground(side, count - 1), polygons)


def waves(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Bands that roll from left to right."""
    x, y = canvas.coordinates(side)
    height, length, many = ((0.03, 1.0, 6), (0.07, 2.0, 6))[kind]
    rolling = y + np.float32(height) * np.sin(2 * pi * (length * x + rng.random())).astype(np.float32)
    return canvas.bands(rolling * many, count)


def checkerboard(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Squares in turn, straight or standing on their corners."""
    x, y = canvas.coordinates(side)
    if kind:
        x, y = (x + y) / np.float32(1.2), (x - y) / np.float32(1.2)
    return canvas.bands(np.floor(x * 6) + np.floor(y * 6), count)


def half_circles(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Tiles with a half disc each, turned this way and that, on the last colour."""
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
    """Squares cut along a diagonal."""
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


def sunburst(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Rays in turn; with three colours the first is the sun in their midst."""
    radius, turns = canvas.polar(side, ((0.5, 0.5), (0.5, 0.92))[kind])
    labels = canvas.bands(turns * (20, 28)[kind], 2)
    if count == 3:
        labels += 1
        labels[radius < 0.2] = 0
    return labels


def landscape(side: int, kind: int, count: int, rng: Random) -> Layers:
    """A sun over hills: sun, hills (near ones first), sky."""
    x, y = canvas.coordinates(side)
    radius, _ = canvas.polar(side, ((0.3, 0.5), (0.68, 0.26))[kind])
    labels = np.where(radius < 0.17, np.uint8(0), np.uint8(count - 1)).astype(np.uint8)
    for slot in reversed(range(1, count - 1)):
        horizon = (0.72 if slot == 1 else 0.52) + 0.08 * np.sin(2 * pi * (x * 0.9 + (0.15, 0.5)[kind] + 0.45 * slot))
        labels[y > horizon] = slot
    return labels


def stained_glass(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Cells around scattered points, in black leading."""
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


def discs(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Discs that shine through each other, on the last colour."""
    many, reach, size = ((3, 0.17, 0.27), (6, 0.25, 0.19))[kind]
    weights: Weights = np.zeros((count + 1, side, side), np.float32)
    weights[count - 1] = 1
    for i in range(many):
        a = 2 * pi * i / many - pi / 2
        radius, _ = canvas.polar(side, (0.5 + reach * cos(a), 0.5 + reach * sin(a)))
        cover = np.where(radius < size, np.float32(0.8), np.float32(0))
        weights *= 1 - cover
        weights[i % (count - 1)] += cover
    return weights


def bars(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Suprematist bars and a disc, adrift on the last colour."""
    turn = (-0.09, 0.09)[kind]
    polygons: list[tuple[canvas.Points, int]] = []
    for i in range(6):
        centre = (0.5 + rng.uniform(-0.14, 0.14), 0.17 + 0.13 * i)
        lean = turn if i % 3 else turn + 0.25
        polygons.append((canvas.bar(centre, rng.uniform(0.45, 0.75), rng.uniform(0.06, 0.13), lean), i % (count - 1)))
    corner = ((0.2, 0.22), (0.8, 0.22))[kind]
    polygons.append((canvas.around(corner, [0.13] * 48), 0))
    return canvas.draw_polygons(canvas.ground(side, count - 1), polygons)


def tiles(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Square tiles with rings in them, the colours moved on from tile to tile."""
    across = (2, 3)[kind]
    x, y = canvas.coordinates(side)
    radius = np.hypot((x * across) % 1 - 0.5, (y * across) % 1 - 0.5)
    rings = np.digitize(radius, [0.15, 0.29, 0.43]).astype(np.float32)
    return canvas.bands(rings + np.floor(x * across) + np.floor(y * across), count)


def chevrons(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Zigzag bands."""
    x, y = canvas.coordinates(side)
    teeth, many = ((2, 6), (4, 9))[kind]
    return canvas.bands((y + np.abs((x * teeth) % 1 - np.float32(0.5)) / np.float32(teeth)) * many, count)


def flower(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Petals, heart, ground."""
    radius, turns = canvas.polar(side, (0.5, 0.5))
    petals, edge = ((6, np.float32(0.6)), (11, np.float32(1)))[kind]
    lobes = np.abs(np.cos(pi * petals * (turns + 0.25))) ** np.float32(edge)
    labels = np.where(radius < 0.14 + 0.3 * lobes, np.uint8(0), np.uint8(count - 1)).astype(np.uint8)
    labels[radius < 0.12] = 1
    return labels


def rainbow(side: int, kind: int, count: int, rng: Random) -> Layers:
    """Arcs from the outer one in, under a sky of the last colour."""
    radius, _ = canvas.polar(side, ((0.5, 0.95), (0.5, 1.0))[kind])
    outer, width = ((0.75, 0.1), (0.45, 0.06))[kind]
    labels = canvas.bands((outer - radius) / np.float32(width), count - 1)
    labels[(radius > outer) | (radius < outer - 6 * width)] = count - 1
    return labels


FAMILIES: Final[dict[str, Family]] = {
    "grid": Family((("a", "grid of rectangles"), ("a", "grid")), ("open", "dense"), (2, 3), grid),
    "circles": Family((("", "concentric circles"), ("a", "target")), ("wide", "narrow"), (2, 3), circles),
    "field": Family((("a", "colour field"), ("", "soft rectangles")), ("stacked", "standing"), (2, 3), field),
    "stripes": Family((("", "stripes"), ("", "straight lines")), ("upright", "slanted"), (2, 3), stripes),
    "dots": Family((("", "dots in rows"), ("", "dots")), ("large", "small"), (2, 3), dots),
    "cutouts": Family((("", "paper cut outs"), ("", "paper leaves")), ("large", "small"), (2, 3), cutouts),
    "spiral": Family((("a", "spiral"), ("a", "swirl")), ("wide", "narrow"), (2, 3), spiral),
    "stars": Family((("", "stars"), ("a", "starry sky")), ("large", "small"), (2, 3), stars),
    "waves": Family((("", "waves"), ("a", "sea of waves")), ("calm", "wild"), (2, 3), waves),
    "checkerboard": Family((("a", "checkerboard"), ("", "squares")), ("straight", "slanted"), (2, 3), checkerboard),
    "half circles": Family((("", "half circles"), ("", "half moons")), ("large", "small"), (2, 3), half_circles),
    "triangles": Family((("", "triangles"), ("a", "triangle quilt")), ("large", "small"), (2, 3), triangles),
    "sunburst": Family((("a", "sunburst"), ("", "rays of light")), ("central", "rising"), (2, 3), sunburst),
    "landscape": Family((("a", "landscape with a sun"), ("a", "landscape")), ("morning", "evening"), (3, 4), landscape),
    "stained glass": Family((("", "stained glass"), ("a", "church window")), ("large", "small"), (2, 3), stained_glass),
    "discs": Family((("", "overlapping discs"), ("", "glass discs")), ("large", "small"), (2, 3), discs),
    "bars": Family((("", "suprematist bars"), ("", "floating bars")), ("rising", "falling"), (2, 3), bars),
    "tiles": Family((("", "tiles of circles"), ("", "ringed tiles")), ("large", "small"), (2, 3), tiles),
    "chevrons": Family((("", "chevrons"), ("a", "zigzag")), ("wide", "narrow"), (2, 3), chevrons),
    "flower": Family((("a", "flower"), ("a", "blossom")), ("round", "pointed"), (3,), flower),
    "rainbow": Family((("a", "rainbow"), ("a", "bow in the sky")), ("large", "small"), (3, 4), rainbow),
}
