"""Shows layers from another place of the camera, from back to front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.parallax_edges import Map
from momalisa_model.engines.parallax_layers import Layer
from momalisa_model.engines.parallax_motion import PIVOT, View

# Each makes the error that is left about half as large, or less.
ROUNDS: Final = 5


def seen(layers: Sequence[Layer], view: View) -> NDArray[np.uint8]:
    """The frame (h, w, 3) that the camera sees. The first layer is the farthest, and is opaque."""
    height, width = layers[0].pixels.shape[:2]
    frame = np.zeros((height, width, 3), np.uint8)
    for layer in layers:
        x, y = origins(layer.nearness, view, width, height)
        pixels = cv2.remap(layer.pixels, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        colours = np.ascontiguousarray(pixels[..., :3], np.uint8)
        if layer is layers[0]:
            frame = colours
            continue
        share = pixels[..., 3].astype(np.float32) / 255
        frame = np.asarray(cv2.blendLinear(colours, frame, share, 1 - share), np.uint8)
    return frame


def origins(nearness: Map, view: View, width: int, height: int) -> tuple[Map, Map]:
    """Where in the layer each pixel of the frame comes from: x and y, (height, width).

    nearness: of the layer's pixels; its map may be smaller. Each round looks up the nearness at the place that the one
    before has found, which converges because nearness within a layer changes slowly.
    Source: M. Chen et al., A simple fixed-point approach to invert a deformation field, 2008.
    """
    rows, columns = nearness.shape
    across, down = width / columns, height / rows
    x, y = _centred(width, across), _centred(height, down)[:, None]
    near = nearness
    for _ in range(ROUNDS):
        from_x, from_y = _moved_back(x, y, near, view, min(width, height))
        u, v = (from_x + width / 2) / across - 0.5, (from_y + height / 2) / down - 0.5
        near = np.asarray(cv2.remap(nearness, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
    near = np.asarray(cv2.resize(near, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    from_x, from_y = _moved_back(_centred(width), _centred(height)[:, None], near, view, min(width, height))
    return from_x + np.float32((width - 1) / 2), from_y + np.float32((height - 1) / 2)


def _centred(side: int, step: float = 1.0) -> Map:
    """The middles of pixels that are `step` wide, from the middle of a side."""
    return np.asarray(np.arange(step / 2, side, step) - side / 2, np.float32)


def _moved_back(x: Map, y: Map, near: Map, view: View, short: int) -> tuple[Map, Map]:
    """From where points have come that are now at x and y, from the picture's middle. short: the shorter side."""
    size = view.far + (view.near - view.far) * near
    aside = short * (near - np.float32(PIVOT))
    return (x - view.x * aside) / size, (y - view.y * aside) / size
