"""Splits a picture into layers by depth, each of which goes on behind the nearer ones. Moves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.parallax_edges import EDGE, Map, matte, range_around
from momalisa_model.engines.parallax_fill import Paint, continued, nearest

MOST_LEVELS: Final = 3
CANDIDATES: Final = np.linspace(0.06, 0.94, 45)
# Levels are looked for in a map of at most so many pixels a side.
SEARCH_SIDE: Final = 320
# What a level must cut to be worth a layer: nearness times pixels along its edges, against the longer side.
LEAST_WORTH: Final = 0.03
# A level that cuts a slope shows, if only a little. What one such pixel costs, as nearness.
SLOPE_COST: Final = 0.02
LEAST_BETWEEN: Final = 0.08
# Nearness within a layer is smooth, so a map this many times smaller is enough.
COARSE: Final = 4
# What is this close to opaque or to transparent counts as such.
NEARLY: Final = 0.03
# A pixel that is more opaque than this shows more of itself than of what is behind it.
COVERED: Final = 0.5
FEWEST_PIXELS: Final = 16


@dataclass(frozen=True)
class Layer:
    """A part of the picture, and how near each of its pixels is.

    pixels: (h, w, 4) uint8, colours and opacity. nearness: smooth, (h / COARSE, w / COARSE) float32.
    """

    pixels: NDArray[np.uint8]
    nearness: Map


def levels(nearness: Map, ramp: int) -> list[float]:
    """The nearness at which layers begin, best first: where many edges and few slopes are cut. None for a plain map.

    ramp: how wrong the map may be about the place of an edge, in pixels.
    """
    scale = min(1.0, SEARCH_SIDE / max(nearness.shape))
    small = cv2.resize(nearness, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    low, high = range_around(np.asarray(small), max(round(ramp * scale), 1))
    found: list[float] = []
    while len(found) < MOST_LEVELS:
        worth = [_worth(low, high, level) for level in CANDIDATES]
        best = float(CANDIDATES[int(np.argmax(worth))])
        if max(worth) < LEAST_WORTH * max(small.shape) or any(abs(best - one) < LEAST_BETWEEN for one in found):
            break
        found.append(best)
        # What this level cuts, no other one has to.
        low = np.where((low < best) & (best <= high), high, low)
    return found


def _worth(low: Map, high: Map, level: float) -> float:
    """How much is gained by cutting at a level: most where it is in the middle of high edges."""
    height, cut = high - low, (low < level) & (level <= high)
    middle = 1 - np.abs(2 * level - low - high) / np.maximum(height, 1e-6)
    edge = cut & (height > EDGE)
    return float((height * middle)[edge].sum()) - SLOPE_COST * float((cut & ~edge).sum())


def split(
    picture: NDArray[np.uint8], nearness: Map, at: Sequence[float], ramp: int, blur: float, behind: Paint | None = None
) -> list[Layer]:
    """The layers of a picture (h, w, 3), from far to near. The farthest one is opaque everywhere.

    at: the nearness at which layers begin. ramp: as in `levels`. blur: the standard deviation of a blur of the nearness
    within each layer, in pixels. behind: gets the colours of a layer, and where nearer ones hide it.
    """
    low, high = range_around(nearness, ramp)
    edges = high - low > EDGE
    mattes = [np.ones_like(nearness), *(matte(picture, nearness, level, ramp) for level in sorted(at))]
    layers: list[Layer] = []
    for own, nearer in zip(mattes, [*mattes[1:], np.zeros_like(nearness)], strict=True):
        # Pixels beside an edge have something of both sides. Where a slope is cut, both layers have the same pixels.
        beside = range_around(nearer, 1 + ramp // 3)[1] > NEARLY
        hidden = np.where(edges, beside, nearer > 1 - NEARLY)
        known = (own > 1 - NEARLY) & ~hidden
        if known.sum() < FEWEST_PIXELS:
            continue
        # Behind a nearer layer is what is beside it.
        opacity = own[nearest(~hidden)] if layers else np.ones_like(own)
        sure = known & ~edges
        depth = nearness[nearest(sure if sure.sum() >= FEWEST_PIXELS else known)]
        colours = continued(picture, known)
        if behind:
            colours = behind(colours, hidden & (nearer > COVERED) & (opacity > NEARLY))
        layers.append(_layer(colours, opacity, depth, blur))
    return layers or [_layer(picture, np.ones_like(nearness), nearness, blur)]


def _layer(colours: NDArray[np.uint8], opacity: Map, nearness: Map, blur: float) -> Layer:
    size = (-(-nearness.shape[1] // COARSE), -(-nearness.shape[0] // COARSE))
    coarse = cv2.GaussianBlur(cv2.resize(nearness, size, interpolation=cv2.INTER_AREA), (0, 0), max(blur / COARSE, 0.5))
    return Layer(np.dstack([colours, (opacity * 255).round().astype(np.uint8)]), np.asarray(coarse))
