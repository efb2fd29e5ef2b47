"""The way from a picture to itself in a style, with steps that look equally large. Knows nothing of requests."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from momalisa_model.cancellation import ShouldStop
from momalisa_model.engines.style_network import StyleNetwork

# Where the way is measured, and on a copy of the picture with this longer side, in pixels.
MEASURED_POSITIONS = 13
MEASURED_PX = 128
# Of the copy of a long picture: the network paints nothing smaller.
SHORTEST_PX = 16


class StyleWalk:
    """One picture's way to one style. A position on it goes from 0 to 1, like the fractions, but not evenly to the eye.

    Two things change along the way: the style vector, from the picture's own to the style's, and the share of the
    painted picture, because a picture that is painted in its own style is not quite itself. The steps between positions
    are measured once, with small pictures (docs/adr/0139).
    """

    def __init__(
        self,
        network: StyleNetwork,
        own: NDArray[np.float32],
        style: NDArray[np.float32],
        picture: NDArray[np.uint8],
        should_stop: ShouldStop,
    ) -> None:
        """own, style: the vectors of the picture and of the style. Raises Cancelled if should_stop() is true."""
        self._network, self._own, self._style, self._picture = network, own, style, picture
        small = _small(picture)
        self._positions = np.linspace(0, 1, MEASURED_POSITIONS)
        seen = [self._at(position, small, should_stop) for position in self._positions]
        steps = [float((one - other).square().mean().sqrt()) for one, other in pairwise(seen)]
        self._way = np.cumsum([0.0, *steps])

    def at(self, fraction: float, should_stop: ShouldStop) -> Tensor:
        """The frame at a fraction: (height, width, 3) float32 in [0, 1], on the device. Raises Cancelled."""
        position = np.interp(fraction * self._way[-1], self._way, self._positions)
        return self._at(float(position), self._picture, should_stop)

    def _at(self, position: float, picture: NDArray[np.uint8], should_stop: ShouldStop) -> Tensor:
        plain = torch.from_numpy(picture).to(self._network.device).float().div_(255)
        if position == 0:
            return plain
        # Exact at both ends.
        vector = np.float32(1 - position) * self._own + np.float32(position) * self._style
        return plain.lerp_(self._network.paint(picture, vector, should_stop), position)


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    return np.array(image.reduce(max(1, min(max(image.size) // MEASURED_PX, min(image.size) // SHORTEST_PX))))
