"""The instances of one picture. Masks are kept run-length encoded, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

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
class Instance:
    """One object. box: x, y, width and height in pixels; area: of the mask, in pixels."""

    label: str
    score: float
    box: tuple[int, int, int, int]
    area: int
    mask: Rle


def instances_of(
    candidates: Iterable[Candidate], width: int, height: int, threshold: float, most: int
) -> tuple[Instance, ...]:
    """At most `most` instances with scores from threshold on, the best first, with masks of width x height.

    One mask at a time is enlarged to this size.
    """
    good = sorted((one for one in candidates if one.score >= threshold), key=lambda one: -one.score)
    kept: list[Instance] = []
    for one in _different(good):
        if len(kept) == most:
            break
        mask = pasted(one.logits, width, height)
        if area := int(cv2.countNonZero(mask)):
            x, y, w, h = cv2.boundingRect(mask)
            kept.append(Instance(one.label, one.score, (x, y, w, h), area, encoded(mask)))
    return tuple(kept)


def pasted(logits: NDArray[np.float32], width: int, height: int) -> Mask:
    """Logits of a small mask as a mask of (height, width), 1 where the object is."""
    large = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    return (large > 0).view(np.uint8)


def mask_of(instance: Instance) -> Mask:
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
