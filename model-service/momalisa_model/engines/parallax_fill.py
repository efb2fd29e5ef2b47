"""Continues a picture behind what stands before it. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.parallax_edges import Map, Mask

# What is finer than this is texture: the standard deviation of a blur, as a share of the picture's longer side, and at
# least in pixels.
TEXTURE_SIZE: Final = 0.01
TEXTURE_PIXELS: Final = 3.0
# Beside what is known, paint comes in gradually over this many pixels, as a share of the picture's longer side.
SEAM: Final = 1 / 128

# Paints a picture (h, w, 3) where a mask (h, w) is true; what it does elsewhere does not count.
Paint = Callable[[NDArray[np.uint8], Mask], NDArray[np.uint8]]


def nearest(known: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The row and the column of the nearest known pixel, for each pixel. known: (h, w), true somewhere."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(known)
    place = np.zeros(int(labels.max()) + 1, np.intp)
    place[labels[rows, columns]] = np.arange(len(rows))
    return rows[place[labels]], columns[place[labels]]


def continued(picture: NDArray[np.uint8], known: Mask) -> NDArray[np.uint8]:
    """The picture (h, w, 3) where it is known; elsewhere its colours, smooth, with the texture of the rim, mirrored.

    known: (h, w), true somewhere.
    """
    height, width = known.shape
    smooth = diffused(picture.astype(np.float32), known)
    texture = picture - cv2.GaussianBlur(smooth, (0, 0), max(TEXTURE_SIZE * max(height, width), TEXTURE_PIXELS))
    y, x = np.mgrid[:height, :width]
    rows, columns = nearest(known)
    rows, columns = (2 * rows - y).clip(0, height - 1), (2 * columns - x).clip(0, width - 1)
    mirrored = texture[rows, columns] * known[rows, columns, None]
    filled = (smooth + mirrored).clip(0, 255).round().astype(np.uint8)
    return np.where(known[..., None], picture, filled)


def repainted(picture: NDArray[np.uint8], hidden: Mask, reach: float, paint: Paint) -> NDArray[np.uint8]:
    """The picture (h, w, 3); hidden pixels that are less than `reach` pixels from others are painted.

    All other pixels stay the same bit for bit.
    """
    from_rim = cv2.distanceTransform(hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    where = hidden & (from_rim < reach)
    if not where.any():
        return picture
    share = np.minimum(from_rim / (SEAM * max(hidden.shape)), 1)[..., None]
    mixed = picture + share * (paint(picture, where).astype(np.float32) - picture)
    return np.where(where[..., None], mixed.round().astype(np.uint8), picture)


def diffused(values: Map, known: Mask) -> Map:
    """Values (h, w, channels) where they are known, and smooth ones between them elsewhere.

    Source: S. Gortler et al., The Lumigraph, 1996: pull and push.
    """
    weight = known.astype(np.float32)
    return _pushed(values * weight[..., None], weight)


def _pushed(weighted: Map, weight: Map) -> Map:
    """weighted: values times weight; weight: (h, w) in [0, 1]."""
    height, width = weight.shape
    if min(height, width) <= 2:
        mean = weighted.sum((0, 1)) / max(float(weight.sum()), 1e-6)
        return np.broadcast_to(mean, weighted.shape).astype(np.float32)
    half = (-(-width // 2), -(-height // 2))
    share = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    # One known pixel of four is enough.
    sure = np.asarray(np.minimum(4 * share, 1), np.float32)
    small = np.asarray(cv2.resize(weighted, half, interpolation=cv2.INTER_AREA), np.float32)
    small *= (sure / np.maximum(share, 1e-6))[..., None]
    between = cv2.resize(_pushed(small, sure), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(weighted + between * (1 - weight)[..., None])
