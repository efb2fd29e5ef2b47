"""Pictures for platforms that limit a request: in the best quality that fits. Pure."""

import io
from functools import lru_cache
from typing import Final

from PIL import Image

QUALITIES: Final = (95, 90, 80, 70, 50, 30, 10, 0)


@lru_cache(maxsize=16)
def fitted(png: bytes, most: int) -> bytes:
    """A picture as a file of at most `most` bytes: the PNG itself, or a WebP.

    Equal arguments give equal bytes. A picture that is too large in the lowest quality is returned in that.
    """
    if len(png) <= most:
        return png
    smaller = b""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        for quality in QUALITIES:
            out = io.BytesIO()
            picture.save(out, "WEBP", quality=quality)
            smaller = out.getvalue()
            if len(smaller) <= most:
                break
    return smaller
