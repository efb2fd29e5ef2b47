"""The families of compositions: their names in captions, and the function that draws each.

Such a function gets the side of the canvas in points, the kind of layout (0 or 1), the count of colours, and a random
generator for variations of the layout. It returns a label map (side, side) or, for soft edges, weights
(count + 1, side, side) that sum to 1. Slot `count`, after the named colours, is black, for outlines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from atelier import figures, patterns
from atelier.canvas import Layers

Draw = Callable[[int, int, int, Random], Layers]


@dataclass(frozen=True)
class Family:
    """One kind of picture.

    names: (article, noun) pairs for captions; the article of a plural is empty. kinds: the words for the two layouts.
    counts: possible numbers of colours. draw(side, kind, count, rng): its label map or weights.
    """

    names: tuple[tuple[str, str], ...]
    kinds: tuple[str, str]
    counts: tuple[int, ...]
    draw: Draw


FAMILIES: Final[dict[str, Family]] = {
    "grid": Family((("a", "grid of rectangles"), ("a", "grid")), ("open", "dense"), (2, 3), patterns.grid),
    "circles": Family((("", "concentric circles"), ("a", "target")), ("wide", "narrow"), (2, 3), figures.circles),
    "field": Family((("a", "colour field"), ("", "soft rectangles")), ("stacked", "standing"), (2, 3), figures.field),
    "stripes": Family((("", "stripes"), ("", "straight lines")), ("upright", "slanted"), (2, 3), patterns.stripes),
    "dots": Family((("", "dots in rows"), ("", "dots")), ("large", "small"), (2, 3), patterns.dots),
    "cutouts": Family((("", "paper cut outs"), ("", "paper leaves")), ("large", "small"), (2, 3), figures.cutouts),
    "spiral": Family((("a", "spiral"), ("a", "swirl")), ("wide", "narrow"), (2, 3), figures.spiral),
    "stars": Family((("", "stars"), ("a", "starry sky")), ("large", "small"), (2, 3), figures.stars),
    "waves": Family((("", "waves"), ("a", "sea of waves")), ("calm", "wild"), (2, 3), patterns.waves),
    "checkerboard": Family(
        (("a", "checkerboard"), ("", "squares")), ("straight", "slanted"), (2, 3), patterns.checkerboard
    ),
    "half circles": Family(
        (("", "half circles"), ("", "half moons")), ("large", "small"), (2, 3), patterns.half_circles
    ),
    "triangles": Family((("", "triangles"), ("a", "triangle quilt")), ("large", "small"), (2, 3), patterns.triangles),
    "sunburst": Family((("a", "sunburst"), ("", "rays of light")), ("central", "rising"), (2, 3), figures.sunburst),
    "landscape": Family(
        (("a", "landscape with a sun"), ("a", "landscape")), ("morning", "evening"), (3, 4), figures.landscape
    ),
    "stained glass": Family(
        (("", "stained glass"), ("a", "church window")), ("large", "small"), (2, 3), patterns.stained_glass
    ),
    "discs": Family((("", "overlapping discs"), ("", "glass discs")), ("large", "small"), (2, 3), figures.discs),
    "bars": Family((("", "suprematist bars"), ("", "floating bars")), ("rising", "falling"), (2, 3), figures.bars),
    "tiles": Family((("", "tiles of circles"), ("", "ringed tiles")), ("large", "small"), (2, 3), patterns.tiles),
    "chevrons": Family((("", "chevrons"), ("a", "zigzag")), ("wide", "narrow"), (2, 3), patterns.chevrons),
    "flower": Family((("a", "flower"), ("a", "blossom")), ("round", "pointed"), (3,), figures.flower),
    "rainbow": Family((("a", "rainbow"), ("a", "bow in the sky")), ("large", "small"), (3, 4), figures.rainbow),
}
