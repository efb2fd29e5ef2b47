"""Paints scenes whose depth and objects are known: layers in front of each other, with light, shadows and texture.

The networks for depth and for instances are trained on them. A scene is painted from far to near.
"""

from dataclasses import dataclass
from math import cos, pi, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from atelier.canvas import Field, coordinates
from atelier.painter import Picture
from atelier.palette import COLOURS

LABELS: Final = ("ball", "box", "star", "flower", "tree", "figure", "blob")
SCENE_SUPERSAMPLING: Final = 2
# Of the pictures that networks are trained on, in pixels, and how many a training keeps to use again.
SCENE_SIZE: Final = 160
KEPT_SCENES: Final = 2000
# Of the picture. What shows less could not be told by anybody.
LEAST_VISIBLE: Final = 0.004


@dataclass(frozen=True)
class Scene:
    """A painted scene of (size, size).

    picture: uint8 (size, size, 3). nearness: float32, 0 far to 1 near, as disparity. instances: int16, the number of
    the object from 1 on, 0 for the ground. labels: the number in LABELS of each object.
    """

    picture: Picture
    nearness: Field
    instances: NDArray[np.int16]
    labels: tuple[int, ...]


@dataclass
class _Canvas:
    colour: NDArray[np.float32]
    near: Field
    instances: NDArray[np.int16]


def paint_scene(dice: np.random.Generator, size: int, most: int = 6) -> Scene:
    """A scene with up to `most` objects. dice: decides everything. size: of the picture, in pixels."""
    side = size * SCENE_SUPERSAMPLING
    canvas = _background(dice, side)
    labels: list[int] = []
    light = dice.uniform(-1, 1), dice.uniform(-1.0, -0.3)
    for near in np.sort(dice.uniform(0.08, 0.92, dice.integers(1, most + 1))):
        label = int(dice.integers(len(LABELS)))
        labels.append(label)
        _add_object(dice, canvas, label, float(near), len(labels), light)
    return _finished(dice, canvas, labels, size)


def _background(dice: np.random.Generator, side: int) -> _Canvas:
    """A wall and a floor, a sky over hills, or ground seen from above; what is lower is nearer, as in photographs."""
    x, y = coordinates(side)
    kind, horizon = dice.random(), float(dice.uniform(0.25, 0.7))
    far = _painted(dice, side, x, y)
    near = np.zeros((side, side), np.float32)
    if kind < 0.75:
        floor = y > horizon
        near = np.where(floor, (y - horizon) / (1 - horizon), 0).astype(np.float32)
        colour = np.where(floor[..., None], _painted(dice, side, x, (1 / (0.15 + near)).astype(np.float32)), far)
        if kind > 0.45:
            colour, near = _hills(dice, side, x, y, horizon, colour, near)
    else:
        rise, lean = dice.uniform(0.05, 0.3), dice.uniform(-0.04, 0.04)
        near = (rise * y + lean * (x - 0.5)).clip(0, 1).astype(np.float32)
        colour = _painted(dice, side, x, (1 / (0.5 + near)).astype(np.float32))
    return _Canvas(colour.astype(np.float32), near, np.zeros((side, side), np.int16))


def _hills(
    dice: np.random.Generator, side: int, x: Field, y: Field, horizon: float, colour: NDArray[np.float32], near: Field
) -> tuple[NDArray[np.float32], Field]:
    """Ridges between the horizon and the floor; each is one layer of constant depth."""
    for depth in np.sort(dice.uniform(0.02, 0.3, dice.integers(1, 4))):
        waves = sum(
            dice.uniform(0, 0.05) * np.sin(2 * pi * (x * dice.uniform(0.5, 4) + dice.random())) for _ in range(3)
        )
        ridge = horizon - 0.2 + depth + waves
        hill = (y > ridge) & (near < depth)
        colour = np.where(hill[..., None], _painted(dice, side, x, y), colour)
        near = np.where(hill, np.float32(depth), near)
    return colour, near


def _colour(dice: np.random.Generator) -> NDArray[np.float32]:
    """A colour of the palette or any other, (3,) in [0, 255]."""
    if dice.random() < 0.4:
        return np.array(COLOURS[list(COLOURS)[dice.integers(len(COLOURS))]], np.float32)
    grey = dice.uniform(20, 235)
    return np.clip(grey + dice.normal(0, dice.uniform(5, 70), 3), 0, 255).astype(np.float32)


def _painted(dice: np.random.Generator, side: int, u: Field, v: Field) -> NDArray[np.float32]:
    """A surface, (side, side, 3): one colour or a gradient, with stripes, dots, checks or grain along u and v."""
    first, second = _colour(dice), _colour(dice)
    kind = dice.random()
    turn = dice.uniform(0, 2 * pi)
    along = u * cos(turn) + v * sin(turn)
    if kind < 0.3:
        share = np.zeros_like(u)
    elif kind < 0.6:
        span = along - along.min()
        share = span / (span.max() + 1e-6)
    elif kind < 0.72:
        share = (np.sin(2 * pi * along * dice.uniform(2, 14)) > dice.uniform(-0.5, 0.5)).astype(np.float32)
    elif kind < 0.82:
        n = dice.uniform(3, 12)
        share = (np.floor(u * n) + np.floor(v * n)) % 2
    else:
        share = _clouds(dice, side)
    share = (share * dice.uniform(0.15, 1.0))[..., None]
    return first * (1 - share) + second * share


def _clouds(dice: np.random.Generator, side: int) -> Field:
    """Smooth noise of several octaves, (side, side) in [0, 1]."""
    total = np.zeros((side, side), np.float32)
    for octave in range(1, 6):
        grid = dice.normal(size=(2**octave + 1, 2**octave + 1)).astype(np.float32)
        smooth = Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / 1.8**octave
    return (0.5 + total / 4).clip(0, 1)


def _outline(dice: np.random.Generator, label: str) -> list[list[tuple[float, float]]]:
    """The polygons of an object in a square from -1 to 1; its foot is at y = 1."""
    turn = dice.uniform(0, 2 * pi)
    around = np.linspace(0, 2 * pi, 48, endpoint=False)
    if label == "ball":
        wide = dice.uniform(0.75, 1)
        return [[(wide * cos(a), sin(a)) for a in around]]
    if label == "box":
        wide, lean = dice.uniform(0.4, 1), dice.uniform(-0.15, 0.15)
        return [[(-wide + lean, -1), (wide + lean, -1 + abs(lean)), (wide, 1), (-wide, 1)]]
    if label == "star":
        points = int(dice.integers(5, 8))
        radii = [1.0, dice.uniform(0.36, 0.5)] * points
        return [[(r * cos(turn + pi * i / points), r * sin(turn + pi * i / points)) for i, r in enumerate(radii)]]
    if label == "flower":
        petals, depth = int(dice.integers(4, 8)), dice.uniform(0.14, 0.26)
        reach = 1 - depth + depth * np.cos(petals * around)
        return [[(r * cos(a + turn), r * sin(a + turn)) for a, r in zip(around, reach, strict=True)]]
    if label == "tree":
        trunk, crown = dice.uniform(0.06, 0.16), dice.uniform(0.5, 0.8)
        rough = 1 + 0.12 * np.sin(around * dice.integers(4, 9) + turn)
        top = [(crown * r * cos(a), -0.35 + 0.65 * r * sin(a)) for a, r in zip(around, rough, strict=True)]
        if dice.random() < 0.4:
            top = [(-crown, 0.25), (0, -1), (crown, 0.25)]
        return [[(-trunk, 0), (trunk, 0), (trunk, 1), (-trunk, 1)], top]
    if label == "figure":
        head, wide = dice.uniform(0.17, 0.24), dice.uniform(0.28, 0.42)
        face = [(head * cos(a), -0.76 + 1.15 * head * sin(a)) for a in around]
        body = [
            (-wide * 0.7, -0.5),
            (0, -0.58),
            (wide * 0.7, -0.5),
            (wide, 0.35),
            (wide * 0.55, 1),
            (-wide * 0.55, 1),
            (-wide, 0.35),
        ]
        return [body, face]
    bumps = sum(dice.uniform(0.06, 0.12) * np.cos(k * around + dice.uniform(0, 6)) for k in range(2, 5))
    return [[(r * cos(a), r * sin(a)) for a, r in zip(around, np.add(0.72, bumps), strict=True)]]


def _add_object(
    dice: np.random.Generator, canvas: _Canvas, label: int, near: float, number: int, light: tuple[float, float]
) -> None:
    """Paint one object over what is there, where nothing nearer is, with its shadow on what lies behind it."""
    side = len(canvas.near)
    radius = side * (0.06 + 0.26 * near) * dice.uniform(0.7, 1.25)
    cx = side * dice.uniform(0.05, 0.95)
    # Near objects stand lower in the picture; some float.
    foot = side * (0.42 + 0.55 * near + dice.normal(0, 0.06)) if dice.random() < 0.75 else side * dice.uniform(0.2, 1.0)
    cy = foot - radius
    shape = Image.new("L", (side, side))
    pen = ImageDraw.Draw(shape)
    for polygon in _outline(dice, LABELS[label]):
        pen.polygon([(cx + radius * x, cy + radius * y) for x, y in polygon], fill=255)
    mask = (np.asarray(shape) > 127) & (canvas.near <= near + 0.12)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    u, v = (x - cx) / radius, (y - cy) / radius
    _cast_shadow(dice, canvas, cx, foot, radius, near)
    round_ = dice.random() < 0.6 or LABELS[label] == "ball"
    height = np.sqrt(np.clip(1 - u * u - v * v, 0, 1)) if round_ else np.zeros_like(u)
    shade = 1 + dice.uniform(0.1, 0.45) * (light[0] * u + light[1] * v if round_ else light[0] * u * 0.5)
    surface = _painted(dice, side, u, v)
    if LABELS[label] == "flower":
        surface = np.where((np.hypot(u, v) < dice.uniform(0.22, 0.36))[..., None], _colour(dice), surface)
    colour = surface * shade[..., None].clip(0.3, 1.6)
    canvas.colour[mask] = colour[mask]
    canvas.near[mask] = np.clip(near + 0.05 * height * near, 0, 1)[mask]
    canvas.instances[mask] = number


def _cast_shadow(
    dice: np.random.Generator, canvas: _Canvas, cx: float, foot: float, radius: float, near: float
) -> None:
    """A soft ellipse on the floor."""
    side = len(canvas.near)
    shape = Image.new("L", (side, side))
    wide, flat = radius * dice.uniform(0.6, 1.1), radius * dice.uniform(0.08, 0.25)
    ImageDraw.Draw(shape).ellipse([cx - wide, foot - flat, cx + wide, foot + flat], fill=int(dice.uniform(30, 160)))
    soft = np.asarray(shape.filter(ImageFilter.GaussianBlur(radius * 0.08 + 1)), np.float32) / 255
    canvas.colour *= 1 - (soft * (canvas.near <= near + 0.05))[..., None] * 0.8


def _finished(dice: np.random.Generator, canvas: _Canvas, labels: list[int], size: int) -> Scene:
    """The scene in its final size, with haze, light and grain as a camera would see them."""
    colour, near = canvas.colour, canvas.near
    if dice.random() < 0.4:
        haze = (dice.uniform(0.1, 0.6) * (1 - near) ** 2)[..., None]
        colour = colour * (1 - haze) + _colour(dice) * haze
    colour = colour * dice.uniform(0.75, 1.2) + dice.uniform(-15, 15)
    picture = Image.fromarray(colour.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
    if dice.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(dice.uniform(0.2, 1.2)))
    grain = dice.normal(0, dice.choice([0, 2, 6]), (size, size, 3))
    pixels = (np.asarray(picture, np.float32) + grain).clip(0, 255).astype(np.uint8)
    middle = slice(SCENE_SUPERSAMPLING // 2, None, SCENE_SUPERSAMPLING)
    return _without_hidden(pixels, near[middle, middle].copy(), canvas.instances[middle, middle].copy(), labels)


def _without_hidden(picture: Picture, near: Field, instances: NDArray[np.int16], labels: list[int]) -> Scene:
    """Objects that are (nearly) hidden are no instances; the others are numbered again."""
    kept, numbers = [], np.zeros(len(labels) + 1, np.int16)
    for number, label in enumerate(labels, 1):
        if (instances == number).mean() >= LEAST_VISIBLE:
            kept.append(label)
            numbers[number] = len(kept)
    return Scene(picture, near, numbers[instances], tuple(kept))
