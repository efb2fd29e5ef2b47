"""From the file that a visitor sends to a plain clip: its video and sound as they are, and nothing else of the file.

No picture is encoded again. Runs in the program `remuxer` only. PyAV is an optional dependency.
"""

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from momalisa_api.pictures.clip_format import DAMAGED, UnreadableClip, damaged, demuxer_of
from momalisa_api.pictures.limits import check_disk
from momalisa_api.pictures.orientation import is_sideways, transpose_of

MAX_CLIP_S: Final = 30
# Phones stop some frames after the second that they show.
_GRACE_S: Final = Fraction(1, 2)
LONGEST_CLIP_SIDE: Final = 4096
MAX_CLIP_FRAMES: Final = 7500
MAX_STREAMS: Final = 32
_LONGEST_PIXEL: Final = 4
# Packets until the first picture: what is behind them cannot be shown.
_MAX_PACKETS_BEFORE: Final = 250
# The filter that removes messages beside the picture (SEI, metadata OBU), in which some cameras write where they are.
_FILTERS: Final = {
    "h264": "filter_units=remove_types=6",
    "hevc": "filter_units=remove_types=39-40",
    "av1": "filter_units=remove_types=5",
    "vp8": "null",
    "vp9": "null",
}
_SOUNDS: Final = {"mp4": ("aac", "mp3", "opus", "alac"), "webm": ("opus",)}
OPEN_OPTIONS: Final = {
    "codec_whitelist": "h264,hevc,libdav1d,av1,vp8,vp9,aac,mp3,mp3float,opus,alac",
    "max_streams": str(MAX_STREAMS),
    "protocol_whitelist": "none",
}
# Without the time and the program; players need the index of an MP4 first.
_WRITING: Final = {
    "mp4": {"fflags": "+bitexact", "movflags": "+faststart"},
    "webm": {"fflags": "+bitexact"},
}


@dataclass(frozen=True, slots=True)
class Clip:
    """What a stored clip is. ending: of its file, mp4 or webm; width, height: in pixels, as players show it."""

    ending: str
    seconds: float
    width: int
    height: int
    frames: int
    has_sound: bool


def remuxed(content: IO[bytes] | io.RawIOBase, target: Path) -> Clip:
    """Write the first video of a file, and its first sound, into the file `target`.

    Equal files give equal bytes. Raises UnreadableClip, MemoryError within a limit on memory, and CannotWrite.
    """
    try:
        found = demuxer_of(content)
        with av.open(content, "r", format=found, options=OPEN_OPTIONS, io_open=no_other_file) as container:
            return _Remuxing(container, found == "matroska", target).run()
    except (UnreadableClip, MemoryError):
        raise
    except (av.FFmpegError, OSError, ValueError, OverflowError, ArithmeticError) as error:
        check_disk(error)
        raise UnreadableClip(DAMAGED) from error


class _Remuxing:
    """One file while it is read."""

    def __init__(self, source: InputContainer, matroska: bool, target: Path) -> None:
        self._source = source
        self._target = target
        self._video = video_of(source)
        self._codec = codec_of(self._video)
        self._ending = "webm" if self._codec == "vp8" or (matroska and self._codec in ("vp9", "av1")) else "mp4"
        sounds = (sound for sound in source.streams.audio if codec_of(sound) in _SOUNDS[self._ending])
        self._sound = next(sounds, None)
        self._first: av.VideoFrame | None = None
        self._ends: dict[int, Fraction] = {}
        self._begins: dict[int, Fraction] = {}
        self._frames = 0

    def run(self) -> Clip:
        streams = [self._video, *([self._sound] if self._sound else [])]
        with av.open(str(self._target), "w", format=self._ending, options=_WRITING[self._ending]) as target:
            written = {stream.index: _written(target, stream, self._filter(stream)) for stream in streams}
            for packet in self._source.demux(streams):
                if not packet.size:
                    self._end(packet)
                    continue
                self._look(packet)
                _mux(target, packet, *written[packet.stream.index])
        if not self._first:
            damaged()
        return self._clip(self._first)

    def _filter(self, stream: Stream) -> str:
        return _FILTERS[self._codec] if stream is self._video else "null"

    def _look(self, packet: "Packet[Any]") -> None:
        """Measure a packet, and decode it until there is one picture."""
        if packet.is_corrupt or packet.dts is None:
            damaged()
        if packet.has_sidedata("encryption_info"):
            raise UnreadableClip("The clip is encrypted. Send one without copy protection.")
        at, stream = packet.stream.index, packet.stream
        begin = (packet.dts if packet.pts is None else packet.pts) * stream.time_base
        self._begins[at] = min(begin, self._begins.get(at, begin))
        self._ends[at] = max(begin + (packet.duration or 0) * stream.time_base, self._ends.get(at, begin))
        # Of all streams together: sound that begins a day later would make a film of a day.
        if max(self._ends.values()) - min(self._begins.values()) > MAX_CLIP_S + _GRACE_S:
            raise UnreadableClip(f"The clip has more than {MAX_CLIP_S} seconds. Send a shorter part of it.")
        if stream is not self._video:
            return
        self._frames += 1
        if self._frames > MAX_CLIP_FRAMES:
            raise UnreadableClip(f"The clip has more than {MAX_CLIP_FRAMES:,} frames. Send a shorter part of it.")
        if not self._first:
            self._first = next(iter(packet.decode()), None)
            if not self._first and self._frames > _MAX_PACKETS_BEFORE:
                damaged()

    def _end(self, packet: "Packet[Any]") -> None:
        """After the last packet of a stream: a decoder may still have the picture of the only one."""
        if packet.stream is self._video and not self._first:
            self._first = next(iter(packet.decode()), None)

    def _clip(self, first: av.VideoFrame) -> Clip:
        seconds = self._ends[self._video.index] - self._begins[self._video.index]
        if self._frames < 2 or not seconds:
            raise UnreadableClip("The clip has a single frame. Send a longer one, or a picture.")
        width, height = round(first.width * self._pixel_shape()) or 1, first.height
        if is_sideways(transpose_of(first)):
            width, height = height, width
        return Clip(self._ending, round(float(seconds), 3), width, height, self._frames, self._sound is not None)

    def _pixel_shape(self) -> Fraction:
        """Width of a pixel by its height: camcorders and discs have oblong ones. A shape that nobody uses is none."""
        shape = self._video.sample_aspect_ratio
        return shape if shape and 1 / _LONGEST_PIXEL <= shape <= _LONGEST_PIXEL else Fraction(1)


def no_other_file(*_: object) -> NoReturn:
    """A file can name others, from which its data would come."""
    raise PermissionError("no other file is opened")


def video_of(source: InputContainer) -> VideoStream:
    """The first video that is not a cover. Raises UnreadableClip."""
    videos = [video for video in source.streams.video if not video.disposition & Disposition.attached_pic]
    if not videos:
        raise UnreadableClip("The file has no video. Send an MP4, MOV or WebM with one.")
    if codec_of(videos[0]) not in _FILTERS:
        raise UnreadableClip("The clip's video format cannot be read. Save it as H.264, HEVC, AV1, VP8 or VP9.")
    sides = videos[0].width, videos[0].height
    if not all(sides):
        damaged()
    if max(sides) > LONGEST_CLIP_SIDE:
        raise UnreadableClip(
            f"The clip has {sides[0]:,} x {sides[1]:,} pixels, and {LONGEST_CLIP_SIDE:,} a side are allowed. "
            "Make it smaller."
        )
    videos[0].codec_context.thread_count = 1
    return videos[0]


def codec_of(stream: Stream) -> str:
    # A stream of an unknown or forbidden codec has no context.
    return stream.codec_context.codec.canonical_name if stream.codec_context else ""


def _written(target: OutputContainer, stream: Stream, description: str) -> tuple[Stream, BitStreamFilterContext]:
    """The stream to write, and the filter in front of it, which also cleans the stream's header."""
    made = target.add_mux_stream(codec_of(stream))
    made.time_base = stream.time_base
    return made, BitStreamFilterContext(description, stream, made)


def _mux(target: OutputContainer, packet: "Packet[Any]", stream: Stream, clean: BitStreamFilterContext) -> None:
    for cleaned in clean.filter(packet):
        cleaned.stream = stream
        target.mux_one(cleaned)
