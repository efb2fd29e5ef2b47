"""What is made of a walk's pictures without PyAV: the GIF and the posters. And what every output is."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Protocol

from PIL import Image

from momalisa_api.films import exif, films, gif
from momalisa_api.films.films import FilmOptions, FilmTooLarge
from momalisa_api.films.provenance import xmp_of

_POSTER_SIDE_PX: Final = 512
_EXIF_ROOM: Final = 65_000

Save = Callable[[Image.Image, Path, str, bytes], None]


class Output(Protocol):
    """A film that grows picture by picture. Calls block, and one thread at a time makes them.

    `add` is called with every picture in order, then with those of `again`, then `finish`; `close` in any case.
    """

    target: Path

    def add(self, picture: Image.Image) -> None:
        """Encode an RGB picture. Raises FilmTooLarge."""

    def again(self) -> range:
        """After the last picture: the numbers of those to be added once more, for the way back."""

    def finish(self, comment: str, check: Callable[[], object], /) -> None:
        """Complete the file. check: called between pieces of work, may raise. Raises FilmTooLarge."""

    def close(self) -> None:
        """Release everything, whether the film is complete or not."""


class Gif:
    """A GIF that loops forever, with the metadata as its comment."""

    def __init__(self, target: Path, options: FilmOptions) -> None:
        self.target = target
        self._options = options
        self._xmp = xmp_of(options.source)
        self._file: IO[bytes] | None = None
        self._size = (0, 0)
        self._blocks: list[tuple[int, int]] = []

    def add(self, picture: Image.Image) -> None:
        if self._file is None:
            self._file, self._size = self.target.open("w+b"), picture.size
            self._file.write(gif.header(picture.size, self._options.padded(""), self._xmp))
        delay = self._delay_cs(len(self._blocks))
        if delay is None:
            return
        start = self._file.tell()
        length = self._file.write(gif.image_block(picture, delay))
        self._blocks.append((start, length))
        if start + length > films.MAX_GIF_BYTES:
            raise FilmTooLarge

    def _delay_cs(self, number: int) -> int | None:
        """How long a frame is shown, in centiseconds; None for one that is not."""
        times = self._options.times
        if not times:
            return gif.delay_cs(self._options.frame_ms)
        return gif.delay_between(*times.shown_s(number)) if number < len(times.times) else None

    def again(self) -> range:
        return range(0)

    def finish(self, comment: str, check: Callable[[], object]) -> None:
        """The way back consists of the same blocks as the way there."""
        assert self._file
        back = [self._blocks[number] for number in self._options.way_back]
        if self._file.tell() + sum(length for _, length in back) > films.MAX_GIF_BYTES:
            raise FilmTooLarge
        for start, length in back:
            check()
            self._file.seek(start)
            block = self._file.read(length)
            self._file.seek(0, io.SEEK_END)
            self._file.write(block)
        self._file.write(gif.TRAILER)
        self._file.seek(0)
        self._file.write(gif.header(self._size, self._options.padded(comment), self._xmp))
        self.close()

    def close(self) -> None:
        if self._file:
            self._file.close()


class Still:
    """The middle picture, which is the most typical one. save: `save_poster` or `save_shared_poster`."""

    def __init__(self, target: Path, options: FilmOptions, save: Save) -> None:
        self.target = target
        self._before = options.count // 2
        self._xmp = xmp_of(options.source)
        self._save = save
        self._middle: Image.Image | None = None

    def add(self, picture: Image.Image) -> None:
        if self._before == 0:
            self._middle = picture
        self._before -= 1

    def again(self) -> range:
        return range(0)

    def finish(self, comment: str, _: Callable[[], object]) -> None:
        assert self._middle
        self._save(self._middle, self.target, comment, self._xmp)

    def close(self) -> None:
        self._middle = None


def save_poster(picture: Image.Image, target: Path, comment: str, xmp: bytes) -> None:
    """Write a picture as WebP, at most 512 pixels a side, with the XMP, and the comment as the Exif UserComment."""
    small = picture.copy()
    small.thumbnail((_POSTER_SIDE_PX, _POSTER_SIDE_PX), Image.Resampling.LANCZOS)
    small.save(target, "WEBP", quality=85, method=4, exif=exif.user_comment(comment), xmp=xmp)


def save_shared_poster(picture: Image.Image, target: Path, comment: str, xmp: bytes) -> None:
    """Write a picture as JPEG of `films.shared_poster_size`, for link previews."""
    small = picture.resize(films.shared_poster_size(*picture.size), Image.Resampling.LANCZOS)
    # JPEG stores Exif in a segment of 64 KiB; the other films have longer metadata.
    room = len(comment.encode("utf-16-le")) < _EXIF_ROOM
    small.save(target, "JPEG", quality=85, optimize=True, exif=exif.user_comment(comment if room else ""), xmp=xmp)
