"""Thumbnails of many frames as one PNG, without loss: one below the other, with their other measures as its text. Pure.

So that measures can be stored beside a walk. Not a film, and nobody's to look at.
"""

import io
import json
from collections.abc import Mapping
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from momalisa_api.walks.smoothness import Thumbnail

EDGES: Final = "edges"


def pack(thumbnails: Mapping[str, Thumbnail]) -> bytes:
    """Make a sheet of thumbnails of one size, at least one. thumbnails: by key of the frame."""
    width, height = next(iter(thumbnails.values())).small.size
    sheet = Image.new("RGB", (width, height * len(thumbnails)))
    for number, thumbnail in enumerate(thumbnails.values()):
        sheet.paste(thumbnail.small, (0, number * height))
    about = PngInfo()
    about.add_text(EDGES, json.dumps({key: thumbnail.edge for key, thumbnail in thumbnails.items()}))
    out = io.BytesIO()
    sheet.save(out, "PNG", pnginfo=about, compress_level=1)
    return out.getvalue()


def unpack(content: bytes, size: tuple[int, int]) -> dict[str, Thumbnail]:
    """The thumbnails of a sheet, equal to the packed ones bit for bit. size: of each thumbnail.

    Raises ValueError for anything that is not a sheet of such thumbnails.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as sheet:
            edges = json.loads(sheet.info[EDGES])
            if sheet.mode != "RGB" or sheet.size != (size[0], size[1] * len(edges)):
                raise ValueError(f"a sheet of {len(edges)} thumbnails is {sheet.size} pixels")
            # What the text says must agree with the size before this takes memory for the pixels.
            sheet.load()
            return {key: _cut(sheet, number, size, edge) for number, (key, edge) in enumerate(edges.items())}
    except ValueError:
        raise
    except Exception as error:
        # Pillow raises exceptions of many kinds for damaged files.
        raise ValueError(f"not a sheet of thumbnails: {error!r}") from error


def _cut(sheet: Image.Image, number: int, size: tuple[int, int], edge: object) -> Thumbnail:
    if not isinstance(edge, float):
        raise ValueError(f"{edge!r} is not a measure")
    width, height = size
    return Thumbnail(sheet.crop((0, number * height, width, (number + 1) * height)), edge)
