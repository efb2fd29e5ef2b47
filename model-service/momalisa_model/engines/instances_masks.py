"""The instances of one picture. Masks are kept run-length encoded, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.instances_edges import Guide, enlarged
from momalisa_model.engines.instances_rle import Rle, decoded, encoded

Mask = NDArray[np.uint8]
# Masks that share more than this with a better one are the same object, found twice.
SAME_OBJECT: Final = 0.7


@dataclass(frozen=True)
class Candidate:
    """What a network has found: a label, a score from 0 to 1, and logits (h, w) float32 of a mask of any size."""

    label: str
    score: float
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class FoundInstance:
    """One object. box: x, y, width and height in pixels; area: of the mask, in pixels."""

    label: str
    score: float
    box: tuple[int, int, int, int]
    area: int
    mask: Rle


def instances_of(
    candidates: Iterable[Candidate], picture: NDArray[np.uint8], threshold: float, most: int
) -> tuple[FoundInstance, ...]:
    """At most `most` instances with scores from threshold on, the best first, with masks of the picture's size.

    picture: (height, width, 3). One mask at a time is enlarged to its size.
    """
    good = sorted((one for one in candidates if one.score >= threshold), key=lambda one: -one.score)
    guide = Guide.of(picture, max(good[0].logits.shape)) if good else None
    kept: list[FoundInstance] = []
    for one in _different(good):
        if len(kept) == most:
            break
        mask = guide.mask(one.logits) if guide else enlarged(one.logits, picture.shape[1], picture.shape[0])
        if area := int(cv2.countNonZero(mask)):
            x, y, w, h = cv2.boundingRect(mask)
            kept.append(FoundInstance(one.label, one.score, (x, y, w, h), area, encoded(mask)))
    return tuple(kept)


def mask_of(instance: FoundInstance) -> Mask:
    """The mask of an instance, (height, width), 1 where the object is."""
    return decoded(instance.mask)


def _different(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """The candidates without those that are nearly the same object as a better one, compared as small masks."""
    seen: list[NDArray[np.bool_]] = []
    for one in candidates:
        mask = one.logits > 0
        if not any(_overlap(mask, other) > SAME_OBJECT for other in seen):
            seen.append(mask)
            yield one


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))
