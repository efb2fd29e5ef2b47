"""H.264 in MP4 through PyAV, an optional dependency: import this module only when needed. Independent of walks."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from PIL import Image

ENCODER: Final = "libx264"

if ENCODER not in av.codecs_available:
    raise ImportError(f"the FFmpeg of this PyAV was built without {ENCODER}")


@dataclass(frozen=True)
class Encoding:
    """How a film is encoded. size: width and height in pixels, both even; crf: x264's constant rate factor."""

    size: tuple[int, int]
    frame_ms: int
    crf: int
    preset: str
    threads: int


def write_mp4(pictures: Iterator[Image.Image], target: Path, encoding: Encoding, comment: str) -> None:
    """Encode RGB pictures in the order they come, with the index before the data, so that a browser plays at once."""
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = comment
        stream = _add_stream(container, encoding)
        for number, picture in enumerate(pictures):
            frame = _yuv(picture, encoding.size)
            frame.pts, frame.time_base = number, Fraction(encoding.frame_ms, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _add_stream(container: OutputContainer, encoding: Encoding) -> VideoStream:
    """Add the one H.264 stream: yuv420p, tagged BT.709 and limited range, which is how `_yuv` makes it."""
    options = {"crf": str(encoding.crf), "preset": encoding.preset}
    stream = container.add_stream(ENCODER, Fraction(1000, encoding.frame_ms), options=options)
    stream.width, stream.height = encoding.size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = encoding.threads
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
