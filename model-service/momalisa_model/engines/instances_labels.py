"""Labels of instances: small pictures of text on a plate, and where they go. Drawn once for a walk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from momalisa_model.engines.instances_colours import Box, Colour, text_colour

SMALLEST_TEXT: Final = 11
# Of the frame's shorter side.
TEXT_SHARE: Final = 0.036


@dataclass(frozen=True)
class Label:
    """A label's plate, (height, width, 3) uint8, and the place of its upper left corner in the frame."""

    plate: NDArray[np.uint8]
    x: int
    y: int


def labels_of(texts: Sequence[str], boxes: Sequence[Box], colours: Sequence[Colour], size: Box) -> tuple[Label, ...]:
    """The labels of instances, placed best first where they hide no other label if there is room.

    size: of the frame, as a box from (0, 0).
    """
    font = ImageFont.load_default(max(SMALLEST_TEXT, round(min(size[2:]) * TEXT_SHARE)))
    placed: list[Label] = []
    taken: list[Box] = []
    for text, box, colour in zip(texts, boxes, colours, strict=True):
        plate = _plate(text, colour, font, size[2])
        height, width = plate.shape[:2]
        spots = list(_spots(box, width, height, size))
        x, y = min(spots, key=lambda spot: sum(_shared((*spot, width, height), other) for other in taken))
        taken.append((x, y, width, height))
        placed.append(Label(plate, x, y))
    return tuple(placed)


def _plate(
    text: str, colour: Colour, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, widest: int
) -> NDArray[np.uint8]:
    """The text on its colour, shortened to `widest` pixels."""
    margin = 3
    while len(text) > 1 and font.getlength(text) + 2 * margin > widest:
        text = text[:-2].rstrip() + "…"
    _, top, _, bottom = (round(side) for side in font.getbbox("Ág" + text))
    width = min(widest, round(font.getlength(text)) + 2 * margin)
    picture = Image.new("RGB", (width, bottom - top + 2 * margin), colour)
    ImageDraw.Draw(picture).text((margin, margin - top), text, fill=text_colour(colour), font=font)
    return np.asarray(picture)


def _spots(box: Box, width: int, height: int, size: Box) -> Iterator[tuple[int, int]]:
    """Where a label of this size may go: above the box, in it at the top or the bottom, below; all in the frame."""
    x, y, w, h = box
    for top, left in product((y - height, y, y + h - height, y + h), (x, x + w - width, x + (w - width) // 2)):
        inside = 0 <= top <= size[3] - height
        if inside or top == y:
            yield max(0, min(left, size[2] - width)), max(0, min(top, size[3] - height))


def _shared(one: Box, other: Box) -> int:
    """The area that two boxes share, in pixels."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, wide) * max(0, high)
