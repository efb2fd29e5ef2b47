"""The pictures in a request: checks their files, and decodes them. Independent of models.

The api has cut and scaled them: nothing here changes a pixel.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from momalisa_model.problems import Invalid
from momalisa_model.recipes import MAX_STYLE_SIDE
from momalisa_model.wire import RenderRequest

# By the SHA-256 of their files: (height, width, 3).
Pictures = Mapping[str, NDArray[np.uint8]]
NO_PICTURES: Pictures = {}
FORMATS = ("PNG", "WEBP", "JPEG")
# What a PNG may have beside its pixels, in bytes.
OVERHEAD = 65_536


def max_file_bytes(width: int, height: int) -> int:
    """The largest file of a picture: one that could not be compressed."""
    return 3 * width * height + height + width * height // 1000 + OVERHEAD


def base64_bytes(size: int) -> int:
    """The length in base64 of so many bytes."""
    return -(-size // 3) * 4


def read_pictures(request: RenderRequest) -> Pictures:
    """Decode the pictures of a request. Raises Invalid with every picture that is not what the recipe needs."""
    pictures, errors = {}, []
    for key, text in request.pictures.items():
        try:
            pictures[key] = _read(key, text, _size_for(key, request))
        except ValueError as error:
            errors.append((f"pictures.{key}", str(error)))
    if errors:
        raise Invalid(errors)
    return pictures


def _size_for(key: str, request: RenderRequest) -> tuple[int, int] | None:
    """The width and height that a picture must have; None for any up to MAX_STYLE_SIDE."""
    return (request.recipe.width, request.recipe.height) if key in request.of_frame_size else None


def _read(key: str, text: str, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The pixels of one picture. Raises ValueError with what is allowed."""
    largest = max_file_bytes(*(size or (MAX_STYLE_SIDE, MAX_STYLE_SIDE)))
    if len(text) > base64_bytes(largest):
        raise ValueError(f"must have at most {largest} bytes")
    try:
        file = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("must be in base64") from None
    if hashlib.sha256(file).hexdigest() != key:
        raise ValueError("must be the file with this SHA-256")
    return _decoded(file, size)


def _decoded(file: bytes, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    unreadable = ValueError("must be a whole PNG, WebP or JPEG")
    allowed = f"{size[0]} x {size[1]} pixels, as the recipe says" if size else f"at most {MAX_STYLE_SIDE} pixels a side"
    other_size = ValueError(f"must have {allowed}")
    try:
        image = Image.open(io.BytesIO(file), formats=FORMATS)
    except Image.DecompressionBombError:
        raise other_size from None
    except Exception:  # a broken file makes the library raise errors of any type
        raise unreadable from None
    with image:
        # Before anything is decoded: a small file can have very many pixels.
        if image.size != size if size else max(image.size) > MAX_STYLE_SIDE:
            raise other_size
        if image.mode != "RGB":
            raise ValueError(f"must be in RGB, not {image.mode}")
        try:
            return np.array(image, np.uint8)
        except Exception:  # as above
            raise unreadable from None
