"""Compositions with a figure on a ground, or with a centre. families.py explains the arguments."""

from math import cos, pi, sin
from random import Random

import numpy as np

from atelier import canvas
from atelier.canvas import Layers, Weights


def circles(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Rings around one centre, from the first colour inside to the last one outside."""
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


def _frond(centre: tuple[float, float], length: float, turn: float) -> list[canvas.Points]:
    """A stem with pairs of leaflets, like a paper cut-out."""
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
    """Paper cut-outs of leaves and lobed blossoms, on the last colour."""
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


def spiral(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """An Archimedean spiral with one arm per colour."""
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


def sunburst(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Rays in alternating colours; with three colours, the first one is the sun in the centre."""
    radius, turns = canvas.polar(side, ((0.5, 0.5), (0.5, 0.92))[kind])
    labels = canvas.bands(turns * (20, 28)[kind], 2)
    if count == 3:
        labels += 1
        labels[radius < 0.2] = 0
    return labels


def landscape(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """A sun over hills: sun, hills (near ones first), sky."""
    x, y = canvas.coordinates(side)
    radius, _ = canvas.polar(side, ((0.3, 0.5), (0.68, 0.26))[kind])
    labels = np.where(radius < 0.17, np.uint8(0), np.uint8(count - 1)).astype(np.uint8)
    for slot in reversed(range(1, count - 1)):
        horizon = (0.72 if slot == 1 else 0.52) + 0.08 * np.sin(2 * pi * (x * 0.9 + (0.15, 0.5)[kind] + 0.45 * slot))
        labels[y > horizon] = slot
    return labels


def discs(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Translucent overlapping discs, on the last colour."""
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
    """Suprematist bars and a disc, on the last colour."""
    turn = (-0.09, 0.09)[kind]
    polygons: list[tuple[canvas.Points, int]] = []
    for i in range(6):
        centre = (0.5 + rng.uniform(-0.14, 0.14), 0.17 + 0.13 * i)
        lean = turn if i % 3 else turn + 0.25
        polygons.append((canvas.bar(centre, rng.uniform(0.45, 0.75), rng.uniform(0.06, 0.13), lean), i % (count - 1)))
    corner = ((0.2, 0.22), (0.8, 0.22))[kind]
    polygons.append((canvas.around(corner, [0.13] * 48), 0))
    return canvas.draw_polygons(canvas.ground(side, count - 1), polygons)


def flower(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """A flower: petals, centre, ground."""
    radius, turns = canvas.polar(side, (0.5, 0.5))
    petals, edge = ((6, np.float32(0.6)), (11, np.float32(1)))[kind]
    lobes = np.abs(np.cos(pi * petals * (turns + 0.25))) ** np.float32(edge)
    labels = np.where(radius < 0.14 + 0.3 * lobes, np.uint8(0), np.uint8(count - 1)).astype(np.uint8)
    labels[radius < 0.12] = 1
    return labels


def rainbow(side: int, kind: int, count: int, _rng: Random) -> Layers:
    """Arcs, from the outermost inwards, and a sky in the last colour."""
    radius, _ = canvas.polar(side, ((0.5, 0.95), (0.5, 1.0))[kind])
    outer, width = ((0.75, 0.1), (0.45, 0.06))[kind]
    labels = canvas.bands((outer - radius) / np.float32(width), count - 1)
    labels[(radius > outer) | (radius < outer - 6 * width)] = count - 1
    return labels
