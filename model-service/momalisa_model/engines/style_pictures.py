"""The styles of a folder of pictures, and the network that turns a picture into a style vector."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from momalisa_model.engines.style_weights import session
from momalisa_model.problems import UnsuitableModel

STYLE_FILE_ENDINGS = (".webp", ".png", ".jpg")
STYLE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
# The only input of the network, a square, in pixels.
STYLE_INPUT_PX = 256

Picture = NDArray[np.uint8]


def read_style_pictures(folder: Path) -> dict[str, tuple[bytes, Picture]]:
    """The file and the pixels of each style in a folder: NAME.webp, NAME.png or NAME.jpg, in the order of their names.

    Raises UnsuitableModel if there is none, or if one is not a picture. Messages contain no path.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix in STYLE_FILE_ENDINGS)
    if not files:
        raise UnsuitableModel("The folder of styles has no pictures. Put files such as woodcut.webp into it.")
    pictures = {}
    for file in files:
        if not STYLE_NAME.fullmatch(file.stem):
            raise UnsuitableModel(f"{file.name} is no name of a style. Use lower-case letters, digits and hyphens.")
        try:
            with Image.open(file) as image:
                pictures[file.stem] = file.read_bytes(), np.array(image.convert("RGB"))
        except Exception as error:  # a broken file makes the library raise errors of any type
            raise UnsuitableModel(f"The style {file.name} is not a readable picture. Replace it.") from error
    return pictures


def styles_of(names: list[str]) -> list[dict[str, Any]]:
    """What the card says about styles, unless card.json or a recipe file says more."""
    return [{"name": name, "title": name.replace("-", " ").capitalize()} for name in names]


class StylePredictor:
    """The network that finds the style vector of a picture. May be used in any thread."""

    def __init__(self, model: bytes, threads: int) -> None:
        self._session = session(model, threads)
        self._input = self._session.get_inputs()[0].name

    def vector(self, picture: Picture) -> NDArray[np.float32]:
        """The style of a picture of any size, (height, width, 3): 100 numbers."""
        square = Image.fromarray(picture).resize((STYLE_INPUT_PX, STYLE_INPUT_PX), Image.Resampling.BILINEAR)
        pixels = np.asarray(square, np.float32)[None] / np.float32(255)
        found: NDArray[np.float32] = self._session.run(None, {self._input: pixels})[0]
        return found.ravel()
