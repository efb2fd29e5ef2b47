"""H.264 in MP4 through PyAV, an optional dependency: import this module only when needed."""

import io
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from PIL import Image

from momalisa_api.films import films
from momalisa_api.films.films import FilmOptions, FilmTooLarge
from momalisa_api.films.metadata import mp4_comment_at
from momalisa_api.films.provenance import mp4_box, xmp_of
from momalisa_api.films.sound import Sound

ENCODER: Final = "libx264"
# Converted pictures that one video keeps for its way back. The others are added again.
KEPT_BYTES: Final = 48 * 1024 * 1024

if ENCODER not in av.codecs_available:
    raise ImportError(f"the FFmpeg of this PyAV was built without {ENCODER}")


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded.

    size: its width and height, both even, for those of a picture; crf: x264's constant rate factor; max_bytes: a larger
    video is dropped.
    """

    size: Callable[[int, int], tuple[int, int]]
    crf: float
    preset: str
    max_bytes: int


FULL: Final = Encoding(films.mp4_size, 13.9, "veryfast", 160 * 1024 * 1024)
PREVIEW: Final = Encoding(films.preview_size, 26.7, "fast", 32 * 1024 * 1024)


class Video:
    """An MP4 whose index is before the data, so that a browser plays at once."""

    def __init__(self, target: Path, encoding: Encoding, options: FilmOptions) -> None:
        self.target = target
        self._encoding = encoding
        self._options = options
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._shown = 0
        self._kept: list[av.VideoFrame] = []
        self._sound: Sound | None = None

    def add(self, picture: Image.Image) -> None:
        if self._container is None:
            self._open(self._encoding.size(*picture.size))
        assert self._stream
        frame = _yuv(picture, (self._stream.width, self._stream.height))
        if self._options.there_and_back and self._shown == len(self._kept):
            frame_bytes = sum(plane.buffer_size for plane in frame.planes)
            if (self._shown + 1) * frame_bytes <= KEPT_BYTES:
                self._kept.append(frame)
        self._encode(frame)

    def again(self) -> range:
        """The way back as far as no frames are kept of it: its beginning."""
        back = self._options.way_back
        return back[: max(0, len(back) + 1 - max(1, len(self._kept)))]

    def finish(self, comment: str, check: Callable[[], object]) -> None:
        for number in self._options.way_back[len(self.again()) :]:
            check()
            self._encode(self._kept[number])
        assert self._container
        assert self._stream
        for packet in self._stream.codec_context.encode_lazy():
            check()
            packet.stream = self._stream
            self._mux([packet])
        if self._sound:
            self._sound.copy_until(None)
        self.close()
        self._check_size()
        self._write(self._options.padded(comment).encode())

    def close(self) -> None:
        if self._sound:
            self._sound.close()
        self._sound = None
        if self._container:
            self._container.close()
        self._stream = None
        self._kept = []

    def _open(self, size: tuple[int, int]) -> None:
        self._container = av.open(str(self.target), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["comment"] = self._options.padded("")
        times = self._options.times
        self._stream = _add_stream(self._container, self._encoding, size, self._options.frame_ms)
        if times:
            self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, films.CLOCK_HZ)
        if times and times.sound:
            self._sound = Sound(times.sound, self._container)

    def _encode(self, frame: av.VideoFrame) -> None:
        assert self._stream
        number, times = self._shown, self._options.times
        self._shown += 1
        if not times:
            frame.pts, frame.time_base = number, Fraction(self._options.frame_ms, 1000)
        elif number < len(times.times):
            frame.pts, frame.time_base = times.times[number], Fraction(1, films.CLOCK_HZ)
            frame.duration = times.duration(number)
        else:
            return
        self._mux(self._stream.encode(frame))
        self._check_size()

    def _mux(self, packets: "Iterable[Packet[Any]]") -> None:
        """Write packets of the video, each after the sound that is heard before it."""
        assert self._container
        times = self._options.times
        for packet in packets:
            if times and packet.pts is not None:
                packet.duration = times.duration(bisect_left(times.times, packet.pts))
            if self._sound and packet.dts is not None:
                self._sound.copy_until(packet.dts * Fraction(packet.time_base))
            self._container.mux(packet)

    def _check_size(self) -> None:
        # PyAV creates the file when it writes the first bytes.
        if self.target.exists() and self.target.stat().st_size > self._encoding.max_bytes:
            raise FilmTooLarge

    def _write(self, comment: bytes) -> None:
        """Write the metadata. PyAV reads the comment before the first picture, when it is not known yet."""
        with self.target.open("r+b") as file:
            if comment:
                place = mp4_comment_at(file)
                assert place
                file.seek(place[0])
                file.write(comment)
            file.seek(0, io.SEEK_END)
            file.write(mp4_box(xmp_of(self._options.source)))


def _add_stream(container: OutputContainer, encoding: Encoding, size: tuple[int, int], frame_ms: int) -> VideoStream:
    """Add the one H.264 stream: yuv420p, tagged BT.709 and limited range, which is how `_yuv` makes it."""
    options = {"crf": str(encoding.crf), "preset": encoding.preset}
    stream = container.add_stream(ENCODER, Fraction(1000, frame_ms), options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    return stream


def _yuv(picture: Image.Image, size: tuple[int, int]) -> av.VideoFrame:
    """Convert an RGB picture to yuv420p (BT.709, limited range), scaled where the sizes differ."""
    frame: av.VideoFrame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
    return frame.reformat(
        *size,
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )
