"""Clips as sources of walks: their decoded frames, and the films that keep their times and their sound."""

import io
import itertools
from pathlib import Path

import av
import pytest
from PIL import Image

from momalisa_api.films.films import CLOCK_HZ, FilmOptions, FilmTimes
from momalisa_api.films.mp4 import FULL, Video
from momalisa_api.films.outputs import Gif
from momalisa_api.pictures.clip_decoder import decode_clip
from momalisa_api.pictures.clip_format import UnreadableClip
from momalisa_api.pictures.clip_frames import ClipTrack, Wanted, decoded
from momalisa_api.pictures.remux import Clip, remuxed
from tests.support.clips import clip, flash_and_beep, flash_before_beep_s, number_of
from tests.support.films import make

SIZE = (64, 48)
# A phone in the dark: 30 frames a second, then 15, and a pause.
TIMES_MS = [0, 33, 67, 100, 167, 233, 300, 700, 733, 767, 800]


def stored(content: bytes, folder: Path) -> Clip:
    """What is kept of an uploaded clip."""
    (folder / "upload").write_bytes(content)
    with (folder / "upload").open("rb") as upload:
        return remuxed(upload, folder / "clip")


def frames_of(content: bytes, folder: Path, *, every: int = 1, size: tuple[int, int] = SIZE) -> ClipTrack:
    found = stored(content, folder)
    return decoded(folder / "clip", folder, Wanted(every, -(-found.frames // every), size, 100_000))


def pictures_in(folder: Path) -> list[Image.Image]:
    files = sorted(folder.glob("*.jpg"), key=lambda file: int(file.stem))
    return [Image.open(io.BytesIO(file.read_bytes())) for file in files]


def film_of(track: ClipTrack, folder: Path) -> Path:
    sound = folder / "sound.mp4" if track.sound else None
    pictures = pictures_in(folder)
    options = FilmOptions(len(pictures), times=FilmTimes(tuple(track.times), track.end, sound))
    make(Video(folder / "walk.mp4", FULL, options), pictures, "")
    return folder / "walk.mp4"


def test_each_frame_has_its_own_time_and_every_second_one_too(tmp_path):
    """The rates of phones vary. Each picture says its number."""
    (tmp_path / "all").mkdir()
    (tmp_path / "half").mkdir()
    content = clip(times_ms=TIMES_MS, sound="aac")
    track = frames_of(content, tmp_path / "all")
    assert [round(1000 * at / CLOCK_HZ) for at in track.times] == TIMES_MS
    assert [number_of(picture) for picture in pictures_in(tmp_path / "all")] == list(range(11))
    half = frames_of(content, tmp_path / "half", every=2)
    assert (half.times, half.end) == (track.times[::2], track.end)
    assert [number_of(picture) for picture in pictures_in(tmp_path / "half")] == list(range(0, 11, 2))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_upright_in_the_size_of_the_walk(tmp_path, rotation, mirrored):
    """Phones note how they were held, and front cameras mirror. The red corner shows how each frame is turned."""
    found = stored(clip(times_ms=TIMES_MS, rotation=rotation, mirrored=mirrored), tmp_path)
    size = (found.width * 2, found.height * 2)
    decoded(tmp_path / "clip", tmp_path, Wanted(1, found.frames, size, 100_000))
    picture = pictures_in(tmp_path)[0]
    assert (picture.size, picture.mode) == (size, "RGB")
    x, y = {0: (0, 0), 90: (1, 0), 180: (1, 1), 270: (0, 1)}[rotation]
    red = (1 - x if mirrored else x, y)
    corners = {(x, y): picture.getpixel((x * (size[0] - 1), y * (size[1] - 1))) for x in (0, 1) for y in (0, 1)}
    assert [corner for corner, (r, g, b) in corners.items() if r > 150 and g < 100 and b < 100] == [red]


def test_white_paper_in_an_hdr_clip_is_white(tmp_path):
    """Phones record HDR. Taken as it is, it looks pale."""
    frames_of(clip(hdr=True, frames=3), tmp_path)
    assert min(low for low, _ in pictures_in(tmp_path)[0].getextrema()) > 240


@pytest.mark.parametrize(
    ("kind", "codec", "sound", "heard"),
    [
        ("mp4", "libx264", "aac", "aac"),
        ("webm", "libvpx", "libopus", "aac"),
        ("mp4", "libx264", "libmp3lame", "mp3float"),
    ],
)
def test_a_film_keeps_the_times_the_length_and_the_sound(tmp_path, kind, codec, sound, heard):
    """Within a frame, and to the millisecond for its pictures. Sound that few players play in an MP4 becomes AAC."""
    track = frames_of(clip(kind, codec, times_ms=TIMES_MS, sound=sound), tmp_path)
    with av.open(str(film_of(track, tmp_path))) as film, av.open(str(tmp_path / "clip")) as source:
        shown = [float(frame.pts * frame.time_base) for frame in film.decode(video=0)]
        assert [round(1000 * at) for at in shown] == TIMES_MS
        video, audio = film.streams.video[0], film.streams.audio[0]
        assert audio.codec_context.name == heard
        assert float(video.duration * video.time_base) == pytest.approx(track.end / CLOCK_HZ, abs=0.001)
        film.seek(0)
        begins, lengths = zip(*(_heard(each) for each in (film, source)), strict=True)
        assert begins[0] == pytest.approx(begins[1], abs=0.02)
        assert lengths[0] == pytest.approx(lengths[1], abs=0.03)


def _heard(container: av.container.InputContainer) -> tuple[float, float]:
    """When the first sound is played, and how long all of it takes, in seconds."""
    samples = list(container.decode(audio=0))
    return float(samples[0].pts * samples[0].time_base), sum(each.samples / each.sample_rate for each in samples)


@pytest.mark.parametrize("sound", [("mp4", "libx264", "aac"), ("webm", "libvpx", "libopus")])
@pytest.mark.parametrize("begins_ms", [(0, 0), (300, 0), (0, 500)])
def test_a_flash_and_a_tone_stay_together(tmp_path, sound, begins_ms):
    """Wherever pictures and sound begin, and whether the sound is copied or encoded: within a fraction of a frame."""
    track = frames_of(flash_and_beep(*sound, *begins_ms), tmp_path)
    assert abs(flash_before_beep_s(film_of(track, tmp_path))) < 0.005


def test_sound_and_pictures_lie_side_by_side_in_the_file(tmp_path):
    """A browser that plays while it loads must not wait for the end of the file to hear something."""
    content = clip(times_ms=[40 * number for number in range(200)], sound="aac")
    with av.open(str(film_of(frames_of(content, tmp_path), tmp_path))) as film:
        order = [
            packet.stream.type for packet in sorted(film.demux(), key=lambda packet: packet.pos or 0) if packet.size
        ]
    runs = [len(list(group)) for _, group in itertools.groupby(order)]
    assert max(runs) < 60, runs


def test_the_gif_of_a_clip_has_its_times_in_centiseconds(tmp_path):
    """Rounding errors do not add up: the whole takes as long as the clip."""
    track = frames_of(clip(times_ms=TIMES_MS), tmp_path)
    pictures = pictures_in(tmp_path)
    options = FilmOptions(len(pictures), times=FilmTimes(tuple(track.times), track.end))
    make(Gif(tmp_path / "walk.gif", options), pictures, "")
    with Image.open(tmp_path / "walk.gif") as film:
        shown = []
        for number in range(film.n_frames):
            film.seek(number)
            shown.append(film.info["duration"])
    assert shown[:-1] == [30, 40, 30, 70, 60, 70, 400, 30, 40, 30]


def test_a_clip_with_a_few_lost_frames_is_used_and_a_damaged_one_is_not(tmp_path):
    """Some encoders count frames that are never shown; but nobody wants a walk along half of a clip."""
    found = stored(clip(times_ms=[40 * number for number in range(40)]), tmp_path)
    track = decoded(tmp_path / "clip", tmp_path, Wanted(1, found.frames + 3))
    assert len(track.times) == 40
    with pytest.raises(UnreadableClip, match="damaged"):
        decoded(tmp_path / "clip", tmp_path, Wanted(1, found.frames + 20))
    content = (tmp_path / "clip").read_bytes()
    at = content.index(b"mdat") + 400
    (tmp_path / "clip").write_bytes(content[:at] + bytes(len(content) - at))
    told = decode_clip(tmp_path / "clip", tmp_path, {"every": 1, "count": 40})
    assert "upload it" in told["problem"]


def test_pictures_of_a_long_clip_have_fewer_bytes(tmp_path):
    """So that no clip takes more of the worker's disk than its share."""
    found = stored(clip(times_ms=TIMES_MS, size=(256, 192)), tmp_path)
    sizes = []
    for most in (100_000, 2_300):
        decoded(tmp_path / "clip", tmp_path, Wanted(1, found.frames, (256, 192), most))
        sizes.append(max(file.stat().st_size for file in tmp_path.glob("*.jpg")))
    assert sizes[1] <= 2_300 < sizes[0]
