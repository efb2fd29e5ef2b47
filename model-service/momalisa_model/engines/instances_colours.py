"""Colours of instances: ten that people with any colour vision tell apart, given so that neighbours differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

Colour = tuple[int, int, int]
# Found by search: the two most similar ones differ by 29 in CIELAB, for usual vision and without one kind of cones.
PALETTE: Final[tuple[Colour, ...]] = (
    (225, 240, 0),
    (210, 0, 60),
    (90, 60, 255),
    (45, 255, 195),
    (150, 75, 150),
    (255, 165, 240),
    (210, 120, 0),
    (45, 165, 135),
    (180, 120, 255),
    (165, 240, 120),
)
BLACK: Final[Colour] = (0, 0, 0)
WHITE: Final[Colour] = (255, 255, 255)

Box = tuple[int, int, int, int]


def colours_of(boxes: Sequence[Box]) -> tuple[Colour, ...]:
    """A colour for each instance: all differ up to ten; beyond that, the one that is farthest away so far.

    boxes: x, y, width and height of each.
    """
    chosen: list[int] = []
    middles = [np.array([x + w / 2, y + h / 2]) for x, y, w, h in boxes]
    for number, middle in enumerate(middles):
        if number < len(PALETTE):
            chosen.append(number)
            continue
        nearest = [
            min(float(np.hypot(*(middle - middles[i]))) for i, used in enumerate(chosen) if used == colour)
            for colour in range(len(PALETTE))
        ]
        chosen.append(int(np.argmax(nearest)))
    return tuple(PALETTE[colour] for colour in chosen)


def text_colour(plate: Colour) -> Colour:
    """Black or white, whichever is easier to read on a plate of this colour."""
    return max((BLACK, WHITE), key=lambda ink: contrast(ink, plate))


def contrast(one: Colour, other: Colour) -> float:
    """The contrast of two colours, 1 to 21. Source: WCAG 2.2, definitions of contrast ratio and relative luminance."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Colour) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (one / 255 for one in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
