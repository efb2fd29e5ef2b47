"""Moves the edge of a coarse mask to the edge in the picture, with a guided filter. Finds nothing by itself.

Networks answer with masks of some dozen cells a side. Enlarged alone, they would be blobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.parallax_edges import Map, guided

# The longer side of what is filtered, in pixels; its edges are enlarged to the picture's size.
GUIDE_SIDE: Final = 512
# Standard deviation in pixels of what is filtered.
SMOOTHING: Final = 0.7
# Cells of fewer pixels of the picture need no guide.
SMALLEST_CELL: Final = 3
LARGEST_LOGIT: Final = 20.0


@dataclass(frozen=True)
class Guide:
    """What masks of one picture follow: small (h, w, 3) uint8, the picture where it is filtered.

    size: of the picture, width and height. radius: how wrong masks may be, in pixels of `small`.
    """

    size: tuple[int, int]
    small: NDArray[np.uint8]
    radius: int

    @classmethod
    def of(cls, picture: NDArray[np.uint8], cells: int) -> Guide | None:
        """The guide for masks with so many cells on their longer side; None if they are fine enough."""
        height, width = picture.shape[:2]
        longer = max(height, width)
        if longer / cells < SMALLEST_CELL:
            return None
        factor = min(1.0, max(GUIDE_SIDE, 2 * cells) / longer)
        sides = max(1, round(width * factor)), max(1, round(height * factor))
        small = np.asarray(cv2.resize(picture, sides, interpolation=cv2.INTER_AREA), np.uint8)
        return cls((width, height), small, max(1, round(max(sides) / cells)))

    def mask(self, logits: Map) -> NDArray[np.uint8]:
        """The mask of logits (h, w) in the picture's size, 1 where the object is."""
        height, width = self.small.shape[:2]
        logits = np.asarray(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        chance = 1 / (1 + np.exp(-logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT)))
        share = guided(self.small, chance, self.radius)
        # Grain would leave specks along edges between similar colours.
        return enlarged(
            np.asarray(cv2.GaussianBlur(share, (0, 0), SMOOTHING), np.float32) - np.float32(0.5), *self.size
        )


def enlarged(values: Map, width: int, height: int) -> NDArray[np.uint8]:
    """A small map as a mask of (height, width), 1 where it is positive."""
    large = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    return (large > 0).view(np.uint8)
