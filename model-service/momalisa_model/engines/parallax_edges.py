"""Makes depth maps follow the edges of their pictures. Pure functions of arrays."""

from __future__ import annotations

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


def range_around(values: Map, radius: int) -> tuple[Map, Map]:
    """The lowest and the highest value within a radius in pixels of each pixel."""
    around = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.erode(values, around)), np.asarray(cv2.dilate(values, around))


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
