"""Paints a family in named colours: antialiased, at any size, deterministic."""

from functools import lru_cache
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from atelier.families import FAMILIES
from atelier.palette import COLOURS

Picture = NDArray[np.uint8]

SUPERSAMPLING: Final = 4


def cover(family: str, kind: int, count: int, variation: int, size: int) -> NDArray[np.float32]:
    """The share of each colour in every pixel: (count + 1, size, size), with sum 1; the last one is black.

    kind: 0 or 1, one of the family's two layouts. variation: 0 is the fixed layout; each other number is another one.
    """
    side = size * SUPERSAMPLING
    layers = FAMILIES[family].draw(side, kind, count, Random(f"{family}/{kind}/{variation}"))
    if layers.ndim == 2:
        layers = (layers == np.arange(count + 1, dtype=np.uint8)[:, None, None]).astype(np.float32)
    boxes = layers.reshape(count + 1, size, SUPERSAMPLING, size, SUPERSAMPLING)
    shares: NDArray[np.float32] = boxes.mean(axis=(2, 4), dtype=np.float32)
    return shares


@lru_cache(maxsize=256)
def _fixed_cover(family: str, kind: int, count: int, size: int) -> NDArray[np.float32]:
    """Cached, because only the colours of fixed layouts change: painting one is then a matrix product."""
    return cover(family, kind, count, 0, size)


def coloured(shares: NDArray[np.float32], pots: NDArray[np.float32]) -> Picture:
    """The picture of shares, as `cover` returns them, in colours (count + 1, 3) in [0, 255]: (size, size, 3) uint8."""
    return (np.tensordot(shares, pots, axes=(0, 0)) + 0.5).astype(np.uint8)


def paint(family: str, colours: tuple[str, ...], kind: int = 0, variation: int = 0, size: int = 128) -> Picture:
    """A picture, (size, size, 3) uint8; `cover` explains kind and variation. Raises KeyError for unknown names."""
    pots = np.array([COLOURS[name] for name in (*colours, "black")], np.float32)
    count = len(colours)
    shares = cover(family, kind, count, variation, size) if variation else _fixed_cover(family, kind, count, size)
    return coloured(shares, pots)
