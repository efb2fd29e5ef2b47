"""Films, decoded again with Pillow and PyAV: their frames, durations and metadata."""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageSequence, ImageStat

from momalisa_api.films import films, gif
from momalisa_api.films.films import FilmOptions
from momalisa_api.films.outputs import save_poster, save_shared_poster
from tests.support.films import make_gif, make_mp4, make_preview, make_still

METADATA = '{"stops": ["a giraffe 🦒", "<b>\\n../é\uffff"], "seed": 7}'
Film = Callable[[list[Image.Image], Path], None]
FILMS: dict[str, Film] = {
    "walk.gif": lambda pictures, target: make_gif(pictures, target, METADATA),
    "walk.mp4": lambda pictures, target: make_mp4(pictures, target, METADATA),
    "preview.mp4": lambda pictures, target: make_preview(pictures, target, METADATA),
    "poster.webp": lambda pictures, target: make_still(pictures, target, save_poster, METADATA),
    "poster.jpg": lambda pictures, target: make_still(pictures, target, save_shared_poster, METADATA),
}


def walk(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """A disc that crosses a coloured gradient: more than 256 colours per frame."""
    pictures = []
    for index in range(count):
        shade = Image.linear_gradient("L").resize(size)
        picture = Image.merge("RGB", (shade, shade.rotate(180), Image.new("L", size, 60 + 160 * index // count)))
        x = size[0] * index // count
        ImageDraw.Draw(picture).ellipse((x, 8, x + 16, 24), fill=(230, 40, 20))
        pictures.append(picture)
    return pictures


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two pictures, in steps of 255."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return sum(means) / len(means)


def rgb(frame: av.VideoFrame) -> Image.Image:
    """A decoded video frame as a picture."""
    picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    return picture


def shown(path: Path) -> list[Image.Image]:
    """Every frame of a GIF or an MP4, as RGB."""
    if path.suffix == ".gif":
        with Image.open(path) as picture:
            return [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
    with av.open(str(path)) as container:
        return [rgb(frame) for frame in container.decode(video=0)]


def test_a_gif_shows_every_frame_there_and_back_and_its_ends_once(tmp_path: Path) -> None:
    """An end shown twice would make the loop stutter, and a missing frame would make it jump."""
    pictures = walk(7)
    make_gif(pictures, tmp_path / "walk.gif", METADATA)
    frames = shown(tmp_path / "walk.gif")
    assert len(frames) == 12
    for decoded, index in zip(frames, [0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1], strict=True):
        assert min(range(7), key=lambda other: difference(decoded, pictures[other])) == index
        assert difference(decoded, pictures[index]) < 2


def test_equal_frames_stay_separate_frames(tmp_path: Path) -> None:
    """Pillow merges equal neighbours into one longer frame, but a GIF of 25 frames must have 48."""
    still = walk(1)[0]
    for name in ("walk.gif", "walk.mp4", "preview.mp4"):
        FILMS[name]([still] * 5, tmp_path / name)
    assert [len(shown(tmp_path / name)) for name in ("walk.gif", "walk.mp4", "preview.mp4")] == [8, 5, 8]


@pytest.mark.parametrize(("frame_ms", "shown_ms"), [(80, 80), (84, 80), (200, 200), (20, 20), (10, 20), (1, 20)])
def test_a_gif_loops_for_ever_at_its_pace(tmp_path: Path, frame_ms: int, shown_ms: int) -> None:
    """GIFs count in centiseconds, and browsers show a delay of 10 ms as 100 ms."""
    make_gif(walk(3), tmp_path / "walk.gif", frame_ms=frame_ms)
    with Image.open(tmp_path / "walk.gif") as picture:
        assert picture.info["loop"] == 0
        assert {frame.info["duration"] for frame in ImageSequence.Iterator(picture)} == {shown_ms}


def test_other_decoders_read_the_gif_as_pillow_does(tmp_path: Path) -> None:
    """The encoder assembles the blocks itself, so FFmpeg must decode the same pictures."""
    make_gif(walk(5, (61, 47)), tmp_path / "walk.gif")
    with av.open(str(tmp_path / "walk.gif")) as container:
        others = [rgb(frame) for frame in container.decode(video=0)]
    frames = shown(tmp_path / "walk.gif")
    assert len(others) == len(frames) == 8
    assert all(difference(one, other) == 0 for one, other in zip(others, frames, strict=True))


def test_a_picture_of_few_colours_stays_exact_in_a_gif(tmp_path: Path) -> None:
    """Flat areas must not shimmer: colours that fit into the palette are not approximated."""
    pictures = [Image.new("RGB", (32, 32), (index, 130, 255 - index)) for index in range(4)]
    ImageDraw.Draw(pictures[1]).rectangle((3, 3, 9, 9), fill=(1, 2, 3))
    make_gif(pictures, tmp_path / "walk.gif", there_and_back=False)
    assert [frame.tobytes() for frame in shown(tmp_path / "walk.gif")] == [picture.tobytes() for picture in pictures]


def test_a_small_spot_keeps_its_colour_in_a_gif() -> None:
    """A palette from a sample of pixels could miss a red dot on a green picture."""
    size = (256, 256)
    shade = Image.linear_gradient("L")
    picture = Image.merge("RGB", (Image.new("L", size, 0), shade, shade.rotate(90)))
    picture.putpixel((101, 103), (255, 0, 0))
    red, green, blue = gif.quantize(picture).convert("RGB").getpixel((101, 103))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15


def test_a_muted_picture_keeps_more_than_a_few_colours() -> None:
    """If an octree's grid is too coarse, the free palette entries must go to the colours of the picture."""
    muted = [100 + value // 6 for value in range(256)]
    shades = Image.radial_gradient("L").point(muted), Image.linear_gradient("L").point(muted)
    picture = Image.merge("RGB", (*shades, shades[1].rotate(90)))
    octree = picture.quantize(256, Image.Quantize.FASTOCTREE)
    assert difference(gif.quantize(picture), picture) < 0.5 * difference(octree, picture)


@given(st.integers(2, 300))
def test_there_and_back_is_2n_minus_2_frames_each_a_neighbour_of_the_last(count: int) -> None:
    """In a loop, every step of the film is one step of the walk, for any number of frames."""
    order = [*range(count), *FilmOptions(count, there_and_back=True).way_back]
    assert len(order) == 2 * count - 2
    assert not FilmOptions(count).way_back
    assert all(abs(one - other) == 1 for one, other in zip(order, [*order[1:], order[0]], strict=True))


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_an_mp4_is_h264_that_browsers_play_and_shows_each_frame_once(tmp_path: Path, size: tuple[int, int]) -> None:
    """yuv420p with even sides, tagged BT.709, index first; other formats are black or pale in some browsers."""
    pictures = walk(9, size)
    make_mp4(pictures, tmp_path / "walk.mp4", frame_ms=70)
    with av.open(str(tmp_path / "walk.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (64, 48)
        assert (context.colorspace, context.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert (context.color_primaries, context.color_trc) == (ColorPrimaries.BT709, ColorTrc.BT709)
        frames = list(container.decode(video=0))
    assert [round(1000 * (frame.time or 0)) for frame in frames] == [70 * index for index in range(9)]
    for frame, picture in zip(frames, pictures, strict=True):
        assert difference(rgb(frame).resize(size), picture) < 5


@pytest.mark.parametrize("there_and_back", [True, False])
def test_the_spec_may_choose_whether_a_film_goes_back(tmp_path: Path, there_and_back: bool) -> None:
    """The spec has an option for each kind of film."""
    make_gif(walk(5), tmp_path / "walk.gif", there_and_back=there_and_back)
    make_mp4(walk(5), tmp_path / "walk.mp4", there_and_back=there_and_back)
    expected = 8 if there_and_back else 5
    assert len(shown(tmp_path / "walk.gif")) == len(shown(tmp_path / "walk.mp4")) == expected


@pytest.mark.parametrize("name", ["walk.mp4", "preview.mp4"])
def test_a_video_starts_before_it_is_loaded(tmp_path: Path, name: str) -> None:
    """If the index (moov) is behind the data (mdat), browsers wait for the whole file."""
    FILMS[name](walk(5), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (230, 40, 20), (20, 60, 200), (91, 146, 82)])
def test_a_video_keeps_its_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    """Converted with one matrix and tagged with another, red turns orange: 10 steps and more."""
    make_mp4([Image.new("RGB", (32, 32), colour)] * 2, tmp_path / "walk.mp4")
    decoded = shown(tmp_path / "walk.mp4")[1].getpixel((16, 16))
    assert isinstance(decoded, tuple)
    assert max(abs(one - other) for one, other in zip(decoded, colour, strict=True)) <= 3


@pytest.mark.parametrize(
    ("size", "small"), [((600, 400), (256, 170)), ((100, 300), (86, 256)), ((128, 128), (128, 128)), ((5, 3), (4, 4))]
)
def test_a_preview_is_small_and_goes_there_and_back(
    tmp_path: Path, size: tuple[int, int], small: tuple[int, int]
) -> None:
    """The gallery plays dozens of them at once; small walks are not enlarged."""
    make_preview(walk(4, size), tmp_path / "preview.mp4")
    assert [frame.size for frame in shown(tmp_path / "preview.mp4")] == [small] * 6


def test_the_poster_is_the_middle_of_the_walk(tmp_path: Path) -> None:
    """The middle frame is the most typical one: neither a giraffe nor a battleship."""
    pictures = walk(5, (700, 350))
    make_still(pictures, tmp_path / "poster.webp", save_poster)
    with Image.open(tmp_path / "poster.webp") as poster:
        assert (poster.format, poster.size) == ("WEBP", (512, 256))
        assert min(range(5), key=lambda index: difference(poster, pictures[index].resize((512, 256)))) == 2


@pytest.mark.parametrize(("size", "shared"), [((64, 48), (64, 48)), ((1500, 900), (1200, 720)), ((65, 131), (65, 131))])
def test_the_shared_poster_has_the_size_that_is_announced(
    tmp_path: Path, size: tuple[int, int], shared: tuple[int, int]
) -> None:
    """Pages with link previews use the announced size for their layout; small posters are not enlarged."""
    pictures = walk(3, size)
    make_still(pictures, tmp_path / "poster.jpg", save_shared_poster)
    with Image.open(tmp_path / "poster.jpg") as poster:
        assert (poster.format, poster.size) == ("JPEG", shared)
        assert films.shared_poster_size(*size) == shared
        assert min(range(3), key=lambda index: difference(poster, pictures[index].resize(shared))) == 1


def test_every_film_contains_its_spec(tmp_path: Path) -> None:
    """A film found years later can be rendered again: emoji, markup and control characters included."""
    for name, make in FILMS.items():
        make(walk(3), tmp_path / name)
    with Image.open(tmp_path / "walk.gif") as picture:
        assert picture.info["comment"].decode() == METADATA
    for name in ("walk.mp4", "preview.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert container.metadata["comment"] == METADATA
    for name in ("poster.webp", "poster.jpg"):
        with Image.open(tmp_path / name) as picture:
            comment = picture.getexif().get_ifd(0x8769)[0x9286]
        assert comment.removeprefix(b"UNICODE\x00").decode("utf-16-le") == METADATA


@pytest.mark.parametrize("name", ["poster.webp", "poster.jpg"])
@pytest.mark.parametrize("metadata", [METADATA, "", "x" * 32_000])
def test_the_comment_of_a_still_has_the_type_that_exif_requires(tmp_path: Path, name: str, metadata: str) -> None:
    """UNDEFINED, with a character code of 8 bytes (Exif 2.32, 4.6.5): exiftool warns about other types."""
    make_still(walk(3), tmp_path / name, save_poster if name == "poster.webp" else save_shared_poster, metadata)
    with Image.open(tmp_path / name) as picture:
        tiff = picture.info["exif"].removeprefix(b"Exif\x00\x00")
    assert tiff[:4] == b"II*\x00"
    [(kind, count, at)] = [(kind, count, at) for tag, kind, count, at in exif_entries(tiff) if tag == 0x9286]
    assert kind == 7
    assert tiff[at : at + count] == b"UNICODE\x00" + metadata.encode("utf-16-le")


def exif_entries(tiff: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value or offset of every entry: of the first directory, and of the Exif directory in it."""
    directories = [struct.unpack_from("<I", tiff, 4)[0]]
    for at in directories:
        tags = []
        for number in range(struct.unpack_from("<H", tiff, at)[0]):
            entry = struct.unpack_from("<HHII", tiff, at + 2 + 12 * number)
            tags.append(entry[0])
            directories += [entry[3]] if entry[0] == 0x8769 else []
            yield entry
        assert tags == sorted(tags), "TIFF requires the entries of a directory in this order"


def test_eight_long_prompts_fit_into_a_film(tmp_path: Path) -> None:
    """The longest possible spec: GIF comments consist of blocks of 255 bytes, and the last one may be full."""
    for length in (254, 255, 256, 510, 32_000, 33_000):
        metadata = "é" + "x" * (length - 2)
        make_gif(walk(2), tmp_path / "walk.gif", metadata)
        make_mp4(walk(2), tmp_path / "walk.mp4", metadata)
        make_still(walk(2), tmp_path / "poster.jpg", save_shared_poster, metadata)
        with Image.open(tmp_path / "walk.gif") as picture, av.open(str(tmp_path / "walk.mp4")) as container:
            assert picture.info["comment"].decode() == container.metadata["comment"] == metadata
        assert len(shown(tmp_path / "walk.gif")) == 2


@pytest.mark.parametrize("name", FILMS)
def test_the_same_frames_make_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Two workers that finish one walk must not disagree about its films."""
    for copy in ("one", "other"):
        FILMS[name](walk(5), tmp_path / f"{copy}-{name}")
    assert (tmp_path / f"one-{name}").read_bytes() == (tmp_path / f"other-{name}").read_bytes()


@pytest.mark.parametrize("options", [{"frame_ms": 0}, {"frame_ms": -80}, {"frame_ms": 60_001}, {"count": 0}])
def test_invalid_film_options_are_refused(options: dict[str, int]) -> None:
    """This should happen before a walk is rendered, not when its film is made."""
    with pytest.raises(ValueError, match=r"not -?[0-9]+"):
        FilmOptions(**{"count": 2, **options})  # type: ignore[arg-type]


WITHOUT_PYAV = """
import sys
sys.modules["av"] = None
from pathlib import Path
from PIL import Image
from momalisa_api.films import films
from momalisa_api.films.outputs import Gif
assert not films.can_make_video()
gif = Gif(Path(sys.argv[1], "walk.gif"), films.FilmOptions(3))
for _ in range(3):
    gif.add(Image.open(sys.argv[2]))
gif.finish("", lambda: None)
"""


def test_without_pyav_the_gif_is_the_same(tmp_path: Path) -> None:
    """Video is an extra."""
    picture = walk(1)[0]
    picture.save(tmp_path / "frame.png")
    script = [sys.executable, "-W", "error", "-c", WITHOUT_PYAV, str(tmp_path), str(tmp_path / "frame.png")]
    subprocess.run(script, check=True)
    make_gif([picture] * 3, tmp_path / "with.gif", "", there_and_back=False)
    assert (tmp_path / "with.gif").read_bytes() == (tmp_path / "walk.gif").read_bytes()


def test_video_is_available_in_the_tests() -> None:
    """The tests of MP4 above need it."""
    assert films.can_make_video()
