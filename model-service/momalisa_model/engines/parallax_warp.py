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

    Each round looks up the nearness at the place that the one before has found, which converges because nearness within
    a layer changes slowly. Source: M. Chen et al., A simple fixed-point approach to invert a deformation field, 2008.
    """
    rows, columns = nearness.shape
    short = min(width, height)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x, y = (x + 0.5) / columns * width - width / 2, (y + 0.5) / rows * height - height / 2
    near = nearness
    for _ in range(ROUNDS):
        size = view.far + (view.near - view.far) * near
        from_x = (x - view.x * short * (near - PIVOT)) / size + width / 2
        from_y = (y - view.y * short * (near - PIVOT)) / size + height / 2
        u, v = from_x / width * columns - 0.5, from_y / height * rows - 0.5
        near = np.asarray(cv2.remap(nearness, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    whole = (width, height)
    return (
        np.asarray(cv2.resize(from_x - 0.5, whole, interpolation=cv2.INTER_LINEAR)),
        np.asarray(cv2.resize(from_y - 0.5, whole, interpolation=cv2.INTER_LINEAR)),
    )
