"""Small clips as cameras, phones and screen recorders make them, and files that only look like one."""

import io
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorTrc
from PIL import Image

SIZE = (64, 48)
# Where a camera writes that it was, and who holds it.
SECRETS = {"location": "+52.5163+013.3777/", "artist": "Jane Doe", "comment": "at home"}


def clip(
    kind: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 20,
    rate: int = 10,
    size: tuple[int, int] = SIZE,
    sound: str | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    pixel_shape: Fraction | None = None,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    times_ms: Sequence[int] = (),
    hdr: bool = False,
) -> bytes:
    """A clip of some colours. rotation: clockwise in degrees, as phones note it; mirrored: left and right change
    places after that; pixel_shape: width by height of a pixel; options: of the container;
    times_ms: when each frame is shown, for a rate that varies; the pictures are then patterns, each another one; hdr:
    grey as bright as white paper, in HLG with 10 bits.
    """
    options = {"movflags": "use_metadata_tags", **(options or {})} if kind in ("mp4", "mov") else {}
    # A file: some options read again what they have written.
    with NamedTemporaryFile() as file, av.open(file.name, "w", format=kind, options=options) as container:
        container.metadata.update(metadata or {})
        video: Any = container.add_stream(codec, rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.thread_count = 1
        if times_ms:
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        if hdr:
            video.pix_fmt, context = "yuv420p10le", video.codec_context
            context.color_trc, context.color_primaries, context.colorspace = ColorTrc.ARIB_STD_B67, 9, 9
        if rotation or mirrored:
            video.set_display_rotation(-rotation, hflip=mirrored)
        if pixel_shape:
            video.codec_context.sample_aspect_ratio = pixel_shape
        heard: Any = container.add_stream(sound, 48_000, layout="mono") if sound else None
        shown = _paper(frames, size) if hdr else _pictures(frames, size, times_ms)
        packets = [packet for frame in shown for packet in video.encode(frame)] + video.encode()
        for packet in packets:
            container.mux(packet)
        seconds = (times_ms[-1] + 100) / 1000 if times_ms else frames / rate
        for samples in _silence(seconds) if heard else ():
            container.mux(heard.encode(samples))
        if heard:
            container.mux(heard.encode())
        container.close()
        return Path(file.name).read_bytes()


def sound_only() -> bytes:
    """An MP4 without video."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        heard: Any = container.add_stream("aac", 48_000, layout="mono")
        for samples in _silence(1):
            container.mux(heard.encode(samples))
        container.mux(heard.encode())
    return out.getvalue()


def many_streams(count: int) -> bytes:
    """An MP4 with so many videos."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        videos: list[Any] = [container.add_stream("mpeg4", 10) for _ in range(count)]
        for video in videos:
            video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        for video in videos:
            for frame in _pictures(2, (16, 16)):
                container.mux(video.encode(frame))
            container.mux(video.encode())
    return out.getvalue()


def box(name: bytes, content: bytes) -> bytes:
    """A box of an MP4."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def _pictures(count: int, size: tuple[int, int], times_ms: Sequence[int] = ()) -> Iterator[av.VideoFrame]:
    for number, at in enumerate(times_ms):
        shown: av.VideoFrame = av.VideoFrame.from_image(pattern(number, size))  # type: ignore[no-untyped-call]
        shown.pts, shown.time_base = at, Fraction(1, 1000)
        yield shown
    for number in range(0 if times_ms else count):
        frame: av.VideoFrame = av.VideoFrame.from_image(  # type: ignore[no-untyped-call]
            Image.new("RGB", size, (255 * number // count, 90, 160))
        )
        frame.pts, frame.time_base = number, Fraction(1, 10)
        yield frame


def _paper(count: int, size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """Frames in HLG at 75 % of its range, where diffuse white is."""
    width, height = size
    planes = np.full((height * 3 // 2, width), 512, np.uint16)
    planes[:height] = 64 + 876 * 3 // 4
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p10le")
        frame.colorspace, frame.color_trc, frame.color_primaries = 9, ColorTrc.ARIB_STD_B67, 9
        frame.pts, frame.time_base = number, Fraction(1, 10)
        yield frame


def pattern(number: int, size: tuple[int, int]) -> Image.Image:
    """A picture that says its number, in bits as black and white columns, with a red upper left corner."""
    picture = Image.new("RGB", size)
    for bit in range(8):
        if number >> bit & 1:
            picture.paste((255, 255, 255), (size[0] * bit // 8, size[1] // 2, size[0] * (bit + 1) // 8, size[1]))
    picture.paste((255, 0, 0), (0, 0, size[0] // 4, size[1] // 4))
    return picture


def number_of(picture: Image.Image) -> int:
    """The number that a pattern says."""
    line = np.asarray(picture.convert("L").resize((8, 4), Image.Resampling.BOX))[3]
    return sum(1 << bit for bit in range(8) if line[bit] > 127)


def flash_and_beep(kind: str, codec: str, sound: str, video_ms: int, sound_ms: int) -> bytes:
    """A clip of two seconds whose picture turns white for a frame when a tone begins.

    video_ms, sound_ms: when its pictures and its sound begin.
    """
    rate, beep_s = 48_000, (video_ms + 1000) / 1000
    with NamedTemporaryFile() as file, av.open(file.name, "w", format=kind) as container:
        video: Any = container.add_stream(codec, 25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        heard: Any = container.add_stream(sound, rate, layout="mono")
        packets = []
        for number in range(50):
            picture = Image.new("RGB", SIZE, "white") if number == 25 else pattern(number, SIZE)
            frame: av.VideoFrame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = video_ms + 40 * number, Fraction(1, 1000)
            packets += video.encode(frame)
        for number in range(100):
            at = sound_ms / 1000 + number / 50 + np.arange(960) / rate
            wave = 20_000 * np.sin(2 * np.pi * 1000 * at) * (at >= beep_s)
            samples = av.AudioFrame.from_ndarray(wave.astype(np.int16).reshape(1, -1), format="s16", layout="mono")
            samples.sample_rate, samples.pts = rate, rate * sound_ms // 1000 + 960 * number
            samples.time_base = Fraction(1, rate)
            packets += heard.encode(samples)
        packets += [*video.encode(), *heard.encode()]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
        container.close()
        return Path(file.name).read_bytes()


def flash_before_beep_s(file: Path) -> float:
    """Seconds from the white picture of such a clip to the beginning of its tone."""
    with av.open(str(file)) as container:
        frames = ((frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0))
        flash = next(at for at, light in frames if light > 240)
    with av.open(str(file)) as container:
        for samples in container.decode(audio=0):
            level = np.abs(samples.to_ndarray().astype(float).reshape(-1))
            loud = level > (0.2 if samples.format.name.startswith("flt") else 6_000)
            if loud.any():
                return float((samples.time or 0) + int(np.argmax(loud)) / samples.sample_rate - flash)
    raise AssertionError("there is no tone")


def _silence(seconds: float) -> Iterator[av.AudioFrame]:
    for number in range(int(50 * seconds)):
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 960 * number, Fraction(1, 48_000)
        yield frame
