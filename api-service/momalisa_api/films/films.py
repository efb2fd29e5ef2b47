"""What all films share: their options, sizes and limits. The encoders are in outputs.py and mp4.py.

Equal frames give equal bytes, except for x264 below 128 pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from momalisa_api.films.provenance import DigitalSource

_PREVIEW_SIDE_PX: Final = 256
_SHARED_WIDTH_PX: Final = 1200
_LONGEST_FRAME_MS: Final = 60_000
# A worker's container has room on its disk for the largest GIF, MP4 and preview (mp4.py) at the same time.
MAX_GIF_BYTES: Final = 256 * 1024 * 1024


# The unit of the times of a clip's frames.
CLOCK_HZ: Final = 90_000


@dataclass(frozen=True, slots=True)
class FilmTimes:
    """When the frames of a walk along a clip are shown, in units of 1/90,000 s from the beginning of its film.

    times: rising; there may be fewer than frames, and then the last ones are left out. end: of the last one; sound: an
    MP4 file with the clip's sound alone, on the same time line.
    """

    times: tuple[int, ...]
    end: int
    sound: Path | None = None

    def duration(self, number: int) -> int:
        """How long a frame is shown."""
        last = number + 1 == len(self.times)
        return (self.end if last else self.times[number + 1]) - self.times[number]

    def shown_s(self, number: int) -> tuple[float, float]:
        """From when to when a frame is shown, in seconds."""
        begin = self.times[number]
        return begin / CLOCK_HZ, (begin + self.duration(number)) / CLOCK_HZ


class VideoUnavailable(RuntimeError):
    """This installation cannot make MP4. str(error) says what to install."""


class FilmTooLarge(Exception):
    """The film has more bytes than its limit."""


@dataclass(frozen=True)
class FilmOptions:
    """How a film is made.

    count: pictures of the walk, 1 or more; frame_ms: display time of one frame, 1 to 60,000 ms (a GIF rounds it to
    centiseconds, 20 ms at least); there_and_back: whether the film plays back to the start; comment_bytes: room for
    the metadata in UTF-8, which are known only after the last picture; source: where its pictures come from; times:
    when its frames are shown, if they have not all the same time.
    """

    count: int
    frame_ms: int = 80
    there_and_back: bool = False
    comment_bytes: int = 0
    source: DigitalSource = DigitalSource.TRAINED
    times: FilmTimes | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a film needs at least one frame, not {self.count}")
        if not 1 <= self.frame_ms <= _LONGEST_FRAME_MS:
            raise ValueError(f"frame_ms must be 1 to {_LONGEST_FRAME_MS}, not {self.frame_ms}")

    @property
    def way_back(self) -> range:
        """The numbers of the frames that follow the last one. The ends are not repeated."""
        return range(self.count - 2, 0, -1) if self.there_and_back else range(0)

    def padded(self, comment: str) -> str:
        """The comment with spaces at its end, which JSON allows. Raises ValueError if the room is too small."""
        room = self.comment_bytes - len(comment.encode())
        if room < 0:
            raise ValueError(f"the metadata need {-room} bytes more than {self.comment_bytes}")
        return comment + " " * room


def can_make_video() -> bool:
    """Whether this installation can make MP4 and preview: PyAV is installed (extra `video`) with x264."""
    try:
        from momalisa_api.films import mp4  # noqa: F401
    except ImportError:
        return False
    return True


def shared_poster_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a walk's JPEG poster in pixels: as the frames, at most 1200 wide, never enlarged."""
    scale = min(1.0, _SHARED_WIDTH_PX / width)
    return round(width * scale), max(1, round(height * scale))


def mp4_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a walk's MP4 in pixels: as the frames, with odd sides larger by one."""
    return width + width % 2, height + height % 2


def preview_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a walk's preview in pixels: as the frames, at most 256 a side, never enlarged, both even."""
    scale = min(1.0, _PREVIEW_SIDE_PX / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
