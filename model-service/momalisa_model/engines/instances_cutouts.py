"""Instances cut out of their picture, as PNG files with transparency."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from momalisa_model.engines.instances_masks import FoundInstance, mask_of


def cutout(picture: NDArray[np.uint8], instance: FoundInstance) -> bytes:
    """An instance alone, as a PNG in RGBA of the picture's size. Its edge is one pixel soft; nothing else is left."""
    alpha = cv2.GaussianBlur(mask_of(instance) * np.uint8(255), (3, 3), 0)
    layers = np.dstack([picture[..., ::-1], alpha])  # in OpenCV's order
    layers[alpha == 0] = 0
    _, file = cv2.imencode(".png", layers)
    return file.tobytes()
