"""From a stored clip to its pictures, upright and in the size of a walk, the times that they are shown, and its sound.

Runs in the program `clip_decoder` only. PyAV is an optional dependency.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation
from PIL import Image

from momalisa_api.pictures.clip_format import UnreadableClip, demuxer_of
from momalisa_api.pictures.clip_sound import write_sound
from momalisa_api.pictures.limits import check_disk
from momalisa_api.pictures.orientation import is_sideways, transpose_of
from momalisa_api.pictures.remux import OPEN_OPTIONS, codec_of, no_other_file, video_of

# The unit of times: frames of all common rates begin at whole ones.
_CLOCK_HZ: Final = 90_000
SOUND_FILE: Final = "sound.mp4"
# Some files count frames that no decoder shows. A clip that lacks more than this share is damaged.
_MOST_MISSING: Final = Fraction(1, 10)
_QUALITIES: Final = (95, 90, 85, 80, 70, 60, 45, 30)
_HD_LINES: Final = 720
_UNSPECIFIED: Final = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a clip: each `every`-th frame, `count` in all.

    size: of the pictures, None for their times only; picture_bytes: what one picture may have.
    """

    every: int
    count: int
    size: tuple[int, int] | None = None
    picture_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ClipTrack:
    """When the wanted frames of a clip are shown, in units of 1/90,000 s. end: of the last one; sound: has it any."""

    times: list[int]
    end: int
    sound: bool


def decoded(source: Path, folder: Path, wanted: Wanted) -> ClipTrack:
    """Write the wanted frames of a stored clip as 0.jpg, 1.jpg ... into a folder, and its sound as sound.mp4.

    Raises UnreadableClip for a damaged one, MemoryError within a limit on memory, and CannotWrite.
    """
    try:
        with source.open("rb") as content:
            found = demuxer_of(content)
            with av.open(content, "r", format=found, options=OPEN_OPTIONS, io_open=no_other_file) as container:
                return _Decoding(container, folder, wanted).run()
    except (UnreadableClip, MemoryError):
        raise
    except (av.FFmpegError, OSError, ValueError, OverflowError, ArithmeticError) as error:
        check_disk(error)
        raise _damaged() from error


class _Decoding:
    """One clip while it is read."""

    def __init__(self, source: InputContainer, folder: Path, wanted: Wanted) -> None:
        self._source = source
        self._folder = folder
        self._wanted = wanted
        self._video = video_of(source)
        self._sounds = [sound for sound in source.streams.audio if codec_of(sound)][:1]
        self._all: list[int] = []
        self._begin: Fraction | None = None
        self._end = 0

    def run(self) -> ClipTrack:
        heard: list[Packet[Any]] = []
        for packet in self._source.demux([self._video, *self._sounds]):
            if packet.stream is not self._video:
                heard += [packet] if packet.size and packet.pts is not None else []
                continue
            for frame in self._frames_of(packet):
                self._take(frame)
        times = self._all[:: self._wanted.every][: self._wanted.count]
        if len(times) < self._wanted.count * (1 - _MOST_MISSING) or len(times) < 2:
            raise _damaged()
        if heard:
            write_sound(heard, self._folder / SOUND_FILE, self._origin(heard))
        shift = round((self._first - self._origin(heard)) * _CLOCK_HZ)
        return ClipTrack([time + shift for time in times], max(self._end, times[-1] + 1) + shift, bool(heard))

    def _frames_of(self, packet: "Packet[Any]") -> Iterator[av.VideoFrame]:
        """The frames that a packet completes. One that cannot be decoded is left out."""
        try:
            yield from packet.decode()
        except av.FFmpegError:
            return

    def _take(self, frame: av.VideoFrame) -> None:
        """Note when a frame is shown, and write it if it is wanted."""
        if frame.pts is None or frame.time_base is None:
            return
        at, base = frame.pts * frame.time_base, frame.time_base
        self._begin = at if self._begin is None else self._begin
        ticks = round((at - self._begin) * _CLOCK_HZ)
        self._all.append(max(ticks, self._all[-1] + 1) if self._all else ticks)
        # WebM does not tell how long its last frame is shown.
        usual = self._all[-1] - self._all[-2] if len(self._all) > 1 else 1
        self._end = self._all[-1] + (round(frame.duration * base * _CLOCK_HZ) if frame.duration else usual)
        number, off = divmod(len(self._all) - 1, self._wanted.every)
        if self._wanted.size and not off and number < self._wanted.count:
            picture = _upright(frame, self._wanted.size)
            (self._folder / f"{number}.jpg").write_bytes(_packed(picture, self._wanted.picture_bytes))

    @property
    def _first(self) -> Fraction:
        return self._begin or Fraction(0)

    def _origin(self, heard: "list[Packet[Any]]") -> Fraction:
        """When the clip begins: with its first frame or its first sound. What is before 0 is not played."""
        sounds = [max(Fraction(0), Fraction(packet.pts or 0) * Fraction(packet.time_base)) for packet in heard[:1]]
        return min([self._first, *sounds])


def _upright(frame: av.VideoFrame, size: tuple[int, int]) -> Image.Image:
    """A frame as players show it, in RGB, scaled to a size. Untagged HD is BT.709, as players take it.

    HDR is mapped to the range of BT.709: phones record it, and it would look pale.
    """
    turn = transpose_of(frame)
    untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    width, height = reversed(size) if is_sideways(turn) else size
    hdr = frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
    scaled = frame.reformat(
        width,
        height,
        dst_color_trc=ColorTrc.BT709 if hdr else None,
        dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if untagged_hd else None,
        interpolation=Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
        threads=1,
    )
    picture: Image.Image = scaled.to_image()  # type: ignore[no-untyped-call]
    return picture if turn is None else picture.transpose(turn)


def _packed(picture: Image.Image, most: int) -> bytes:
    """A picture as a JPEG with all its colours, in the best quality that has at most so many bytes."""
    packed = b""
    for quality in _QUALITIES:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, subsampling=0)
        packed = out.getvalue()
        if len(packed) <= most:
            break
    return packed


def _damaged() -> UnreadableClip:
    return UnreadableClip("The clip of this walk is damaged. Save it again, upload it, and request the walk again.")
