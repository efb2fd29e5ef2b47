"""From a picture and its depth to layers that a camera can move before, and to the files beside the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, hypot
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.parallax_edges import UNSURE, Map, aligned, matte, sharpened
from momalisa_model.engines.parallax_fill import Paint, repainted
from momalisa_model.engines.parallax_layers import Layer, levels, split
from momalisa_model.engines.parallax_motion import largest_move

# A blur of nearness within a layer, against how far the camera moves near points: more, and surfaces that are not flat
# look flat; less, and their steep parts fold.
BLUR: Final = 1 / 6
SIXTEEN_BITS: Final = 2**16 - 1


@dataclass(frozen=True)
class Scene:
    """A picture in depth. nearness: (h, w) float32; foreground: how opaque its pixels are, (h, w) float32 in [0, 1]."""

    picture: NDArray[np.uint8]
    nearness: Map
    foreground: Map
    layers: Sequence[Layer]


def build_scene(picture: NDArray[np.uint8], depth: Map, amplitude: float, paint: Paint | None = None) -> Scene:
    """The scene of a picture (h, w, 3).

    depth: how near its pixels are, in [0, 1], of any size. amplitude: the largest of the camera's motion. paint: what
    paints where layers hide others and the camera may uncover them; without it, they only go on as `continued` says.
    """
    height, width = picture.shape[:2]
    smooth = aligned(depth, picture)
    ramp = max(ceil(UNSURE * height / smooth.shape[0]), 2)
    nearness = sharpened(np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)), ramp)
    at = levels(nearness, ramp)
    blur = BLUR * largest_move(amplitude) * max(height, width)
    # Where no edge is, the nearer half is the foreground.
    foreground = matte(picture, nearness, at[0] if at else float(np.median(nearness)), ramp)
    # In a corner, a zoom moves things by more than at the middle of a side.
    reach = largest_move(amplitude) * hypot(height, width) + ramp
    behind = partial(repainted, reach=reach, paint=paint) if paint else None
    return Scene(picture, nearness, foreground, split(picture, nearness, at, ramp, blur, behind))


def depth_png(scene: Scene) -> bytes:
    """A PNG of 16 bits, in grey: bright is near."""
    return _png((scene.nearness * SIXTEEN_BITS).round().astype(np.uint16))


def cutout_png(scene: Scene) -> bytes:
    """A PNG of the foreground, transparent elsewhere."""
    blue_first = scene.picture[..., ::-1]
    return _png(np.dstack([blue_first, (scene.foreground * 255).round().astype(np.uint8)]))


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    return bytes(cv2.imencode(".png", np.ascontiguousarray(pixels))[1])
