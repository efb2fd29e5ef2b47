"""Makes depth maps follow the edges of their pictures. Pure functions of arrays."""

from __future__ import annotations

from math import ceil, exp, sqrt
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

# A difference of nearness that is the edge of something, not a slope.
EDGE: Final = 0.07
# Contrast of a picture that is texture, not an edge, squared; colours in [0, 1].
TEXTURE: Final = 1e-4
# Slopes of the guided filter are found in a picture so many times smaller.
FEWER: Final = 2
# How much steeper mattes are than what the guided filter returns.
STEEPER: Final = 1.6
# Maps are aligned with pictures of at most so many pixels a side.
ALIGNED_SIDE: Final = 320
# How far a map is smoothed where the picture has no edge, as a share of its longer side, and the difference of colours,
# summed over channels in [0, 1], that counts as much as this way.
ALIGNED_REACH: Final = 0.08
ALIGNED_CONTRAST: Final = 0.25
ALIGNED_ROUNDS: Final = 3
# How wrong a network is about the place of an edge, in pixels of its map, and what the map counts there.
UNSURE: Final = 1.5
UNSURE_WEIGHT: Final = np.float32(0.02)


def range_around(values: Map, radius: int) -> tuple[Map, Map]:
    """The lowest and the highest value within a radius in pixels of each pixel."""
    around = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.erode(values, around)), np.asarray(cv2.dilate(values, around))


def aligned(nearness: Map, picture: NDArray[np.uint8]) -> Map:
    """A map whose edges are those of the picture (h, w, 3), and which is smooth between them, as on one surface.

    Near its own edges the map counts little: it has ramps there, and they are beside those of the picture. A wrong edge
    would cut a face in two; a true one that cannot be seen is not missed. The result has the picture's shape and at
    most ALIGNED_SIDE pixels a side. Source: E. Gastal and M. Oliveira, Domain Transform for Edge-Aware Image and Video
    Processing, 2011, equations 11, 14, 21 and 22.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, ALIGNED_SIDE / max(height, width))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    colours = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)
    values = np.asarray(cv2.resize(nearness, size, interpolation=cv2.INTER_LINEAR), np.float32)
    low, high = range_around(values, ceil(UNSURE * size[1] / nearness.shape[0]))
    sure = np.where(high - low > EDGE, UNSURE_WEIGHT, np.float32(1))
    reach = ALIGNED_REACH * max(size)
    down, across = (1 + reach / ALIGNED_CONTRAST * np.abs(np.diff(colours, axis=i)).sum(-1) for i in (0, 1))
    # Smoothed beside each other: the values, weighted, and their weights.
    both = np.stack([values * sure, sure], -1)
    for number in range(ALIGNED_ROUNDS):
        deviation = reach * sqrt(3) * 2 ** (ALIGNED_ROUNDS - number - 1) / sqrt(4**ALIGNED_ROUNDS - 1)
        feedback = exp(-sqrt(2) / deviation)
        both = _passed_on(both.transpose(1, 0, 2), feedback**across.T).transpose(1, 0, 2)
        both = _passed_on(both, feedback**down)
    return np.ascontiguousarray(both[..., 0] / both[..., 1])


def _passed_on(values: Map, shares: Map) -> Map:
    """Each row takes a share of the one before it, from the first to the last and back.

    values: (h, w, channels); shares: (h - 1, w).
    """
    rows, shares = np.ascontiguousarray(values), shares[..., None]
    for row in range(1, len(rows)):
        rows[row] += shares[row - 1] * (rows[row - 1] - rows[row])
    for row in range(len(rows) - 2, -1, -1):
        rows[row] += shares[row] * (rows[row + 1] - rows[row])
    return rows


def sharpened(nearness: Map, radius: int) -> Map:
    """A map whose ramps are steps: each pixel gets the lowest or the highest value around it, whichever is closer.

    Networks give the edge of an object a ramp: values of things that are not there. Gentle slopes stay.
    radius: of the ramps, in pixels. Source: J. Serra, Toggle Mappings, 1989.
    """
    low, high = range_around(nearness, radius)
    step = np.where(nearness - low < high - nearness, low, high)
    return np.where(high - low > EDGE, step, nearness)


def matte(picture: NDArray[np.uint8], nearness: Map, level: float, radius: int) -> Map:
    """How much of each pixel is nearer than a level, in [0, 1], with the soft edges of the picture (h, w, 3).

    radius: how wrong the map may be about the place of an edge, in pixels.
    """
    near = (nearness > level).astype(np.float32)
    low, high = range_around(near, radius)
    soft = (guided(picture, near, 2 * radius) - 0.5) * STEEPER + 0.5
    return np.where(high > low, soft.clip(0, 1), near)


def guided(guide: NDArray[np.uint8], source: Map, radius: int) -> Map:
    """The source (h, w), smoothed along the edges of the guide (h, w, 3).

    radius: in pixels. Source: K. He and J. Sun, Fast Guided Filter, 2015, and Guided Image Filtering, 2013, equations
    19 to 21.
    """
    height, width = source.shape
    small = (max(width // FEWER, 1), max(height // FEWER, 1))
    colours = np.asarray(cv2.resize(guide, small, interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)
    values = np.asarray(cv2.resize(source, small, interpolation=cv2.INTER_AREA), np.float32)
    slopes, offset = _lines(colours, values, max(radius // FEWER, 1))
    whole = cv2.resize(np.dstack([slopes, offset]), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray((whole[..., :3] * guide).sum(-1) / 255 + whole[..., 3], np.float32)


def _lines(colours: Map, values: Map, radius: int) -> tuple[Map, Map]:
    """What the guided filter multiplies colours with, (h, w, 3), and what it adds, (h, w)."""

    def mean(array: Map) -> Map:
        return np.asarray(cv2.blur(array, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT))

    means, average = mean(colours), mean(values)
    together = mean(colours * values[..., None]) - means * average[..., None]
    products = (colours[..., :, None] * colours[..., None, :]).reshape(*values.shape, 9)
    # OpenCV filters at most four channels at once.
    spread = np.dstack([mean(np.ascontiguousarray(products[..., i : i + 3])) for i in (0, 3, 6)])
    spread = spread.reshape(*values.shape, 3, 3) - means[..., :, None] * means[..., None, :]
    slopes = np.linalg.solve(spread + TEXTURE * np.eye(3, dtype=np.float32), together[..., None])[..., 0]
    offset = average - (slopes * means).sum(-1)
    return mean(slopes.astype(np.float32)), mean(offset.astype(np.float32))
