"""Draws one instance into a frame: tint, outline, box and label, each as strong as the walk has come."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.instances_colours import BLACK, Colour, text_colour
from momalisa_model.engines.instances_labels import Label
from momalisa_model.engines.instances_masks import FoundInstance, mask_of

Picture = NDArray[np.uint8]
TINT: Final = 0.45
# Of the frame's longer side.
LINE_SHARE: Final = 1 / 320


def draw_mask(frame: Picture, instance: FoundInstance, colour: Colour, tint: float, outline: float) -> None:
    """Tint an instance and outline it in a frame, (height, width, 3) uint8, in place; both strengths from 0 to 1."""
    line = line_of(frame)
    x, y, w, h = instance.box
    rows, columns = slice(max(0, y - 2 * line), y + h + 2 * line), slice(max(0, x - 2 * line), x + w + 2 * line)
    part, mask = frame[rows, columns], np.ascontiguousarray(mask_of(instance)[rows, columns])
    _mix(part, colour, mask * np.uint8(255), TINT * tint)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A line that stands out on any background, and in it one of the instance's colour.
    for ink, wide, strength in ((text_colour(colour), 2 * line + 1, 0.6 * outline), (colour, line, outline)):
        cover = np.zeros(mask.shape, np.uint8)
        cv2.drawContours(cover, contours, -1, 255, wide, cv2.LINE_AA)
        _mix(part, ink, cover, strength)


def draw_box(frame: Picture, instance: FoundInstance, colour: Colour, strength: float) -> None:
    """Draw an instance's box into a frame, in place."""
    line = line_of(frame)
    x, y, w, h = instance.box
    rows, columns = slice(max(0, y - line), y + h + line), slice(max(0, x - line), x + w + line)
    part = frame[rows, columns]
    left, top = x - columns.start, y - rows.start
    for ink, wide, share in ((BLACK, line + 2, 0.35), (colour, line, 1.0)):
        cover = np.zeros(part.shape[:2], np.uint8)
        cv2.rectangle(cover, (left, top), (left + w - 1, top + h - 1), 255, wide)
        _mix(part, ink, cover, strength * share)


def draw_label(frame: Picture, label: Label, strength: float) -> None:
    """Draw a label into a frame, in place."""
    height, width = label.plate.shape[:2]
    under = frame[label.y : label.y + height, label.x : label.x + width]
    under[:] = cv2.addWeighted(label.plate, strength, under, 1 - strength, 0)


def line_of(frame: Picture) -> int:
    """How thick lines are in a frame, in pixels."""
    longer: int = max(frame.shape[:2])
    return max(1, round(longer * LINE_SHARE))


def _mix(part: Picture, colour: Colour, cover: NDArray[np.uint8], strength: float) -> None:
    """Mix a colour into part of a frame where it is covered; cover: 0 to 255."""
    share = (cover.astype(np.float32) * (strength / 255))[..., None]
    part[:] = (part + (np.array(colour, np.float32) - part) * share + 0.5).astype(np.uint8)
