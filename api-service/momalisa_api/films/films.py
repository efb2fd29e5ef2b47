"""Encoders of films from frames: GIF, MP4, preview and posters, with the spec of the walk as metadata.

A frame is a function that returns its PNG. It is called when the frame is needed, so that one frame is in memory at a
time, however long the walk is. Each film reads each frame once, and the preview twice, so frames of a remote bucket
should be kept in a folder, as far as there is room. Equal frames give equal bytes, except for x264 below 128 pixels.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from PIL import Image

from momalisa_api.films import exif, gif

Frames = Sequence[Callable[[], bytes]]

_PREVIEW_SIDE_PX = 256
_POSTER_SIDE_PX = 512
_SHARED_WIDTH_PX = 1200
_LONGEST_FRAME_MS = 60_000
_EXIF_ROOM = 65_000
# What a film may need of the disk. A worker's container has room for one film of this size and some frames.
MAX_FILM_BYTES = 256 * 1024 * 1024


class VideoUnavailable(RuntimeError):
    """This installation cannot make MP4. str(error) says what to install."""


class FilmTooLarge(Exception):
    """The film has more than MAX_FILM_BYTES."""


@dataclass(frozen=True)
class FilmOptions:
    """The film options of a walk's spec, and the number of threads that encode video.

    frame_ms: display time of one frame, 1 to 60,000 ms (a GIF rounds it to centiseconds, 20 ms at least);
    there_and_back: whether the film plays back to the start; None is the default of the kind (GIF yes, MP4 no).
    """

    frame_ms: int = 80
    there_and_back: bool | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.frame_ms <= _LONGEST_FRAME_MS:
            raise ValueError(f"frame_ms must be 1 to {_LONGEST_FRAME_MS}, not {self.frame_ms}")
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, not {self.threads}")


def can_make_video() -> bool:
    """Whether this installation can make MP4 and preview: PyAV is installed (extra `video`) with x264."""
    try:
        _mp4()
    except VideoUnavailable:
        return False
    return True


def frame_order(count: int, there_and_back: bool) -> list[int]:
    """The order of frames in a film. The way back does not repeat the ends: 2n - 2 frames in all (n for n < 3)."""
    there = list(range(count))
    return there + there[-2:0:-1] if there_and_back else there


def make_gif(frames: Frames, target: Path, options: FilmOptions, metadata: str) -> None:
    """Write a GIF that loops forever, with `metadata` as its comment.

    Raises ValueError without frames, and for a frame that cannot be read or has another size; FilmTooLarge.
    """
    delay = gif.delay_cs(options.frame_ms)
    blocks: list[tuple[int, int]] = []
    with target.open("w+b") as file:
        for picture in _while_small(_pictures(frames, range(len(frames))), target):
            if not blocks:
                file.write(gif.header(picture.size, metadata))
            start = file.tell()
            blocks.append((start, file.write(gif.image_block(picture, delay))))
        back = frame_order(len(frames), options.there_and_back is not False)[len(frames) :]
        if file.tell() + sum(blocks[index][1] for index in back) > MAX_FILM_BYTES:
            raise FilmTooLarge
        for index in back:
            start, length = blocks[index]
            file.seek(start)
            block = file.read(length)
            file.seek(0, io.SEEK_END)
            file.write(block)
        file.write(gif.TRAILER)


def make_mp4(frames: Frames, target: Path, options: FilmOptions, metadata: str) -> None:
    """Write an H.264 MP4 of high quality; odd sides grow by one pixel, as yuv420p needs even ones.

    Raises VideoUnavailable without PyAV; ValueError and FilmTooLarge as `make_gif` does.
    """
    mp4 = _mp4()
    encoding = mp4.Encoding(
        mp4_size(*_first_size(frames)), options.frame_ms, crf=16, preset="fast", threads=options.threads
    )
    order = frame_order(len(frames), options.there_and_back is True)
    mp4.write_mp4(_while_small(_pictures(frames, order), target), target, encoding, metadata)
    _check_size(target)


def make_preview(frames: Frames, target: Path, metadata: str, options: FilmOptions | None = None) -> None:
    """Write a small MP4, there and back, for galleries: at most 256 pixels a side.

    Raises VideoUnavailable without PyAV; ValueError as `make_gif` does.
    """
    mp4 = _mp4()
    options = options or FilmOptions()
    width, height = _first_size(frames)
    scale = min(1.0, _PREVIEW_SIDE_PX / max(width, height))
    size = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
    encoding = mp4.Encoding(size, options.frame_ms, crf=27, preset="medium", threads=options.threads)
    mp4.write_mp4(_pictures(frames, frame_order(len(frames), True)), target, encoding, metadata)


def make_poster(frames: Frames, target: Path, metadata: str) -> None:
    """Write the middle frame as WebP, at most 512 pixels a side, with `metadata` as the Exif UserComment.

    Raises ValueError as `make_gif` does.
    """
    picture = next(_pictures(frames, [len(frames) // 2]))
    picture.thumbnail((_POSTER_SIDE_PX, _POSTER_SIDE_PX), Image.Resampling.LANCZOS)
    picture.save(target, "WEBP", quality=85, method=4, exif=exif.user_comment(metadata))


def make_shared_poster(frames: Frames, target: Path, metadata: str) -> None:
    """Write the middle frame as JPEG of `shared_poster_size`, for link previews.

    Raises ValueError as `make_gif` does.
    """
    picture = next(_pictures(frames, [len(frames) // 2]))
    picture = picture.resize(shared_poster_size(*picture.size), Image.Resampling.LANCZOS)
    # JPEG stores Exif in a segment of 64 KiB; the other films have longer metadata.
    room = len(metadata.encode("utf-16-le")) < _EXIF_ROOM
    picture.save(target, "JPEG", quality=85, optimize=True, exif=exif.user_comment(metadata if room else ""))


def shared_poster_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a walk's JPEG poster in pixels: as the frames, at most 1200 wide, never enlarged."""
    scale = min(1.0, _SHARED_WIDTH_PX / width)
    return round(width * scale), max(1, round(height * scale))


def mp4_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a walk's MP4 in pixels: as the frames, with odd sides larger by one."""
    return width + width % 2, height + height % 2


def _mp4() -> ModuleType:
    """Import the module that needs PyAV when it is first used. Raises VideoUnavailable if that fails."""
    try:
        from momalisa_api.films import mp4
    except ImportError as missing:
        raise VideoUnavailable(f'MP4 needs PyAV with x264: pip install "momalisa-api[video]" ({missing})') from missing
    return mp4


def _first_size(frames: Frames) -> tuple[int, int]:
    """Width and height of the first frame, in pixels."""
    return next(_pictures(frames, [0])).size


def _pictures(frames: Frames, order: Iterable[int]) -> Iterator[Image.Image]:
    """Decode frames to RGB one after the other, in the given order. Raises ValueError with the frame and reason."""
    if not frames:
        raise ValueError("a film needs at least one frame")
    expected: tuple[int, int] | None = None
    for index in order:
        picture = _decode(frames[index], index)
        expected = expected or picture.size
        if picture.size != expected:
            sizes = "{} x {}, not {} x {}".format(*picture.size, *expected)
            raise ValueError(f"frame {index} is {sizes} like the frames before it")
        yield picture


def _while_small(pictures: Iterator[Image.Image], target: Path) -> Iterator[Image.Image]:
    """The same pictures, as long as the file that they become is not too large. Raises FilmTooLarge."""
    for picture in pictures:
        yield picture
        _check_size(target)


def _check_size(target: Path) -> None:
    # PyAV creates the file when it writes the first bytes.
    if target.exists() and target.stat().st_size > MAX_FILM_BYTES:
        raise FilmTooLarge


def _decode(frame: Callable[[], bytes], index: int) -> Image.Image:
    """Read one frame as an RGB picture. Raises ValueError if it is missing or not a picture."""
    try:
        with Image.open(io.BytesIO(frame())) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as problem:
        raise ValueError(f"frame {index} cannot be read: {problem}") from problem
