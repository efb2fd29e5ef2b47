"""The pictures that walks are made of, as files for replicas: cut out, and scaled to the size of the walk's frames.

They are fetched from the bucket and made once for the shards of a walk, and kept in memory within a limit.
"""

import io
from collections import OrderedDict
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
from PIL import Image

from momalisa_api.concurrency import SingleFlight
from momalisa_api.fleet.wire import NO_PICTURES, Pictures
from momalisa_api.problems import WalkFailed
from momalisa_api.store.bucket import Bucket, NotInBucket
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.walks.recipe import Recipe
from momalisa_api.walks.stops import CroppedPicture

LOST: Final = "A picture of this walk is no longer stored. Upload it again, and request the walk again."
# As in the model contract.
STYLE_SIDE_PX: Final = 512
MAX_STOPS_BYTES: Final = 64 * 1024 * 1024
# Each takes some tens of megabytes while it scales a picture.
SCALERS: Final = 1
# PNG takes a third of the time of the default level, and the file is a tenth larger.
COMPRESSION_LEVEL: Final = 2
Wanted = tuple[str, CroppedPicture, int, int]


class StopPictures:
    """A worker's files of pictures that are stops: a bounded cache of a pure function of the stored picture."""

    def __init__(self, catalogue: Catalogue, bucket: Bucket, *, max_bytes: int = MAX_STOPS_BYTES) -> None:
        self._catalogue = catalogue
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Wanted, bytes] = OrderedDict()
        self._bytes = 0
        self._making: SingleFlight[bytes] = SingleFlight()
        self._threads = anyio.CapacityLimiter(SCALERS)

    async def of(self, walk_id: str, recipe: Recipe) -> Pictures:
        """The pictures of one of a walk's recipes. Raises WalkFailed if one is not stored any more, and Unavailable."""
        if not recipe.pictures:
            return NO_PICTURES
        keys = await self._catalogue.keys_of_pictures(walk_id)
        return {
            picture: await self._file(keys.get(picture.picture), picture, _size_of(picture, recipe))
            for picture in recipe.pictures
        }

    async def _file(self, key: str | None, picture: CroppedPicture, size: tuple[int, int]) -> bytes:
        if key is None:
            raise WalkFailed(LOST)
        wanted = key, picture, *size
        if wanted in self._kept:
            self._kept.move_to_end(wanted)
            return self._kept[wanted]
        return await self._making.do(repr(wanted), partial(self._make, wanted))

    async def _make(self, wanted: Wanted) -> bytes:
        key, picture, width, height = wanted
        try:
            stored = await self._bucket.get(key)
        except NotInBucket as gone:
            raise WalkFailed(LOST) from gone
        file = await anyio.to_thread.run_sync(scaled, stored, picture.crop.box, (width, height), limiter=self._threads)
        self._kept[wanted] = file
        self._bytes += len(file)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return file


def _size_of(picture: CroppedPicture, recipe: Recipe) -> tuple[int, int]:
    """The size of a picture's file: that of the frames, and less for the picture of a style, which has any shape."""
    if picture in (getattr(recipe, "picture", None), None) or picture != getattr(recipe, "style_picture", None):
        return recipe.width, recipe.height
    scale = min(1.0, STYLE_SIDE_PX / max(picture.crop.width, picture.crop.height))
    return max(1, round(picture.crop.width * scale)), max(1, round(picture.crop.height * scale))


def scaled(png: bytes, box: tuple[int, int, int, int], size: tuple[int, int]) -> bytes:
    """A part of a stored picture as a PNG of exactly this size, in RGB. Raises WalkFailed if it cannot be read."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            # Cut out first: the argument `box` of `resize` would mix in pixels beside the part.
            part = picture.convert("RGB").crop(box).resize(size, Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError) as error:
        raise WalkFailed(f"A picture of this walk cannot be read ({error}). Upload it again.") from error
    out = io.BytesIO()
    part.save(out, "PNG", compress_level=COMPRESSION_LEVEL)
    return out.getvalue()
