"""The walk through a picture's instances: at fraction 0 the picture, at fraction 1 all of them annotated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.instances_annotate import draw_box, draw_label, draw_mask
from momalisa_model.engines.instances_colours import Colour, colours_of
from momalisa_model.engines.instances_labels import Label, labels_of
from momalisa_model.engines.instances_masks import FoundInstance

Picture = NDArray[np.uint8]
# How long one instance takes to appear, as a multiple of the time until the next one begins.
OVERLAP: Final = 1.5


@dataclass(frozen=True)
class Reveal:
    """A picture, its instances in the order in which they appear, and how each is drawn."""

    picture: Picture
    instances: tuple[FoundInstance, ...]
    colours: tuple[Colour, ...]
    labels: tuple[Label, ...]

    @classmethod
    def of(cls, picture: Picture, instances: tuple[FoundInstance, ...]) -> Reveal:
        """picture: (height, width, 3) uint8; instances: the best first."""
        boxes = [one.box for one in instances]
        colours = colours_of(boxes)
        texts = [f"{one.label} {one.score:.0%}" for one in instances]
        height, width = picture.shape[:2]
        return cls(picture, instances, colours, labels_of(texts, boxes, colours, (0, 0, width, height)))

    def frame(self, fraction: float) -> Picture:
        """The frame at a fraction, (height, width, 3) uint8. It depends on nothing else."""
        frame = self.picture.copy()
        parts = zip(self.instances, self.colours, self.labels, strict=True)
        count = len(self.instances)
        shown = [(*part, come) for number, part in enumerate(parts) if (come := progress(number, count, fraction))]
        # Large ones first, so that they hide no small ones, and no line crosses a label.
        for instance, colour, _, come in sorted(shown, key=lambda one: -one[0].area):
            draw_mask(frame, instance, colour, tint=_smooth(come, 0, 0.6), outline=_smooth(come, 0.15, 0.75))
        for instance, colour, _, come in shown:
            draw_box(frame, instance, colour, _smooth(come, 0.5, 1))
        for _, _, label, come in shown:
            draw_label(frame, label, _smooth(come, 0.5, 1))
        return frame


def progress(number: int, count: int, fraction: float) -> float:
    """How much of the instance with this number (from 0) of `count` has appeared, 0 to 1."""
    come = (fraction * (count - 1 + OVERLAP) - number) / OVERLAP
    return float(min(1.0, max(0.0, come)))


def _smooth(share: float, begin: float, end: float) -> float:
    """0 before begin, 1 after end, a smooth rise between."""
    t = min(1.0, max(0.0, (share - begin) / (end - begin)))
    return t * t * (3 - 2 * t)
