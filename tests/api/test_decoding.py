"""What becomes of a visitor's picture: formats, colours, orientation, metadata, and files made to do harm."""

import os
import random
import resource
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from PIL import Image, PngImagePlugin

from momalisa_api.pictures.decoder import DECODING_CPU_S, OUTPUT_BYTES, decode
from momalisa_api.pictures.decoders import GAVE_UP, Decoders
from momalisa_api.pictures.limits import MEMORY_BYTES, OPEN_FILES, restrict
from momalisa_api.pictures.multipart import NoFile, boundary_of, file_in
from momalisa_api.pictures.normalize import UnreadablePicture, normalized
from momalisa_api.problems import BadPicture
from tests.support.pictures import encoded, mutated, png_chunk, png_of, scene, swapped_profile

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
LIMITS = (DECODING_CPU_S, OUTPUT_BYTES)
MUTATIONS = int(os.environ.get("MOMALISA_TEST_MUTATIONS", "240"))

pytestmark = pytest.mark.anyio


def _webp_of(width: int, height: int) -> bytes:
    """A WebP whose extended header names a size that its picture does not have."""
    inner = encoded(scene(), "WEBP", lossless=True)[12:]
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + (10).to_bytes(4, "little") + b"\0\0\0\0" + sizes + inner
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WEBP" + chunks


def _avif_of(width: int, height: int) -> bytes:
    """An AVIF whose property of the size (ispe) names another one."""
    content = bytearray(encoded(scene(), "AVIF"))
    at = content.index(b"ispe") + 8
    content[at : at + 8] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(content)


def _gif_of(width: int, height: int) -> bytes:
    """A GIF with a size in its header that its picture does not have."""
    content = encoded(scene(), "GIF")
    return content[:6] + width.to_bytes(2, "little") + height.to_bytes(2, "little") + content[10:]


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """The colours near the four corners, row by row, each channel rounded to 0, 128 or 255."""
    width, height = picture.size
    places = [(x, y) for y in (height // 5, height * 4 // 5) for x in (width // 5, width * 4 // 5)]
    colours = [picture.getpixel(place) for place in places]
    return [tuple(min((0, 128, 255), key=lambda near: abs(near - channel)) for channel in found) for found in colours]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encoded(scene(), "JPEG", quality=95), id="jpeg"),
        pytest.param(encoded(scene(), "PNG"), id="png"),
        pytest.param(encoded(scene(), "WEBP", lossless=True), id="webp"),
        pytest.param(encoded(scene(), "AVIF", quality=95), id="avif"),
        pytest.param(encoded(scene().convert("P", palette=Image.Palette.ADAPTIVE), "GIF"), id="gif"),
        pytest.param(encoded(scene().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), id="palette"),
        pytest.param(encoded(scene().convert("CMYK"), "JPEG", quality=95), id="cmyk"),
        pytest.param(encoded(scene(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48))]), id="animated"),
    ],
)
def test_every_format_becomes_the_same_picture(content: bytes):
    """A stop is a picture, and not a file format. Of an animation it is the first frame."""
    picture = normalized(content)
    assert (picture.mode, picture.size, picture.info) == ("RGB", (64, 48), {})
    assert corners(picture) == [RED, GREEN, BLUE, WHITE]


def test_sixteen_bits_of_grey_keep_their_brightness():
    """Pillow's own conversion makes everything above 255 white."""
    row = b"\0" + (32896).to_bytes(2, "big") * 4
    content = png_of(4, 4, png_chunk(b"IDAT", zlib.compress(row * 4)), bits=16, colour=0)
    assert normalized(content).getpixel((1, 1)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode: str):
    """A pipeline takes no alpha, and black corners around a cut-out would end up in the walk."""
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    assert normalized(encoded(clear, "PNG", **({"transparency": 0} if mode == "P" else {}))).getpixel((4, 4)) == WHITE


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(3, [WHITE, BLUE, GREEN, RED]), (6, [BLUE, RED, WHITE, GREEN]), (8, [GREEN, WHITE, RED, BLUE])],
)
def test_a_photo_is_turned_upright(orientation: int, turned: list[tuple[int, ...]]):
    """Phones store pictures as the sensor saw them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = normalized(encoded(scene(), "JPEG", exif=exif, quality=95))
    assert corners(picture) == turned
    assert picture.size == ((64, 48) if orientation == 3 else (48, 64))


def test_colours_are_converted_to_srgb():
    """A photo in the colours of a phone's display looks pale without its profile."""
    profile = swapped_profile()
    assert corners(normalized(encoded(scene(), "PNG", icc_profile=profile)))[:2] == [GREEN, RED]
    assert corners(normalized(encoded(scene(), "PNG", icc_profile=profile[:300])))[:2] == [RED, GREEN]


def test_a_stored_picture_has_no_metadata(tmp_path: Path):
    """Photos contain where they were taken, and by which camera."""
    exif = Image.Exif()
    exif[0x010F] = "a secret camera"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a secret comment")
    for number, content in enumerate(
        (
            encoded(scene(), "JPEG", exif=exif, comment=b"a secret comment"),
            encoded(scene(), "PNG", pnginfo=text, exif=exif, icc_profile=swapped_profile()),
            encoded(scene(), "WEBP", exif=exif, xmp=b"<x:xmpmeta>a secret place</x:xmpmeta>"),
        )
    ):
        source, target = tmp_path / f"{number}", tmp_path / f"{number}.png"
        source.write_bytes(content)
        assert b"secret" in content
        assert decode(source, target) == {"width": 64, "height": 48}
        assert b"secret" not in target.read_bytes()
        chunks = [name for name, *_ in _chunks(target.read_bytes())]
        assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        at += 12 + size


@pytest.mark.parametrize(
    ("size", "becomes"), [((4096, 1024), (2048, 512)), ((3000, 1), (2048, 1)), ((30, 20), (30, 20))]
)
def test_a_large_picture_is_made_smaller(size: tuple[int, int], becomes: tuple[int, int]):
    """Frames are smaller anyway; nothing is made larger."""
    assert normalized(encoded(Image.new("RGB", size), "PNG")).size == becomes


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"a battleship", "not a picture", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture", id="svg"),
        pytest.param(b"%PDF-1.7\n%%EOF", "not a picture", id="pdf"),
        pytest.param(b"<!doctype html><script>alert(1)</script>", "not a picture", id="html"),
        pytest.param(b"\0\0\0\x18ftypheic" + b"\0" * 64, "HEIC", id="heic"),
        pytest.param(png_of(0, 0), "picture", id="0x0"),
        pytest.param(png_of(60_000, 60_000), "60,000 x 60,000", id="bomb png"),
        pytest.param(_webp_of(16_000, 16_000), "picture", id="bomb webp"),
        pytest.param(_avif_of(30_000, 30_000), "picture", id="bomb avif"),
        pytest.param(_gif_of(60_000, 60_000), "60,000 x 60,000", id="bomb gif"),
        pytest.param(encoded(scene(), "PNG")[:-100], "damaged", id="truncated png"),
        pytest.param(encoded(scene(640, 480), "JPEG")[:-900], "damaged", id="truncated jpeg"),
        pytest.param(encoded(scene(), "WEBP")[:-40], "picture", id="truncated webp"),
        pytest.param(encoded(scene(), "AVIF")[:-40], "picture", id="truncated avif"),
        pytest.param(
            png_of(8, 8, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 27)))), "picture", id="bomb in a text"
        ),
        pytest.param(
            png_of(8, 8, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 27)))),
            "picture",
            id="bomb in a profile",
        ),
    ],
)
def test_what_is_no_usable_picture_is_explained(content: bytes, reason: str):
    """Each bad input costs a clear message, and nothing else."""
    with pytest.raises(UnreadablePicture, match=reason):
        normalized(content)


def test_a_picture_that_is_also_an_archive_becomes_a_picture_only():
    """A polyglot is harmless once nothing but its pixels is left."""
    picture = normalized(encoded(scene(), "JPEG", quality=95) + b"PK\x03\x04<script>alert(1)</script>")
    assert b"script" not in encoded(picture, "PNG")


def _decoders() -> list[psutil.Process]:
    """The processes of this one that decode pictures, and their forks."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "momalisa_api.pictures.decoder" in child.cmdline()]


async def test_the_decoder_keeps_its_limits(tmp_path: Path):
    """A hostile picture can reach the memory and the time of one process, and the next picture is decoded as ever."""
    source, target = tmp_path / "source", tmp_path / "target.png"
    # 268 megapixels of WebP: the library may want two gigabytes before the size can be checked.
    source.write_bytes(_webp_of(16_383, 16_383))
    async with aclosing(Decoders(at_once=1)) as decoders:
        with pytest.raises(BadPicture):
            await decoders.decode(source, target)
        source.write_bytes(encoded(scene(), "JPEG", quality=95))
        with pytest.raises(BadPicture, match=GAVE_UP):
            await Decoders(limit_s=0.001).decode(source, target)
        [kept] = _decoders()
        found = await decoders.decode(source, target)
        assert _decoders() == [kept], "the process that forks is the same"
        kept.kill()
        kept.wait()
        assert await decoders.decode(source, target) == found, "one that was killed meanwhile is replaced"
    assert not _decoders()
    assert (found.width, found.height, found.size) == (64, 48, target.stat().st_size)
    assert corners(Image.open(target)) == [RED, GREEN, BLUE, WHITE]


def test_a_decoder_cannot_have_the_memory_of_the_machine():
    """Nor more than some files, nor endless time."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=restrict, initargs=LIMITS) as pool:
        with pytest.raises(MemoryError):
            pool.submit(bytes, 2 * MEMORY_BYTES).result()
        assert pool.submit(resource.getrlimit, resource.RLIMIT_CPU).result() == (DECODING_CPU_S, DECODING_CPU_S)
        assert pool.submit(resource.getrlimit, resource.RLIMIT_NOFILE).result() == (OPEN_FILES, OPEN_FILES)


def _decode_case(folder: Path, content: bytes) -> str:
    source, target = folder / f"{os.getpid()}", folder / f"{os.getpid()}.png"
    source.write_bytes(content)
    answer = decode(source, target)
    return str(answer.get("problem", "")) or f"{answer['width']}x{answer['height']}"


def test_damaged_files_end_no_decoder(tmp_path: Path):
    """A seeded mutator over five formats: each case is a picture or a problem, in one process with the real limits.

    MOMALISA_TEST_MUTATIONS sets the number of cases.
    """
    dice = random.Random(17)
    animation = encoded(scene(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    whole = [
        encoded(scene(), "PNG"),
        encoded(scene(), "JPEG"),
        encoded(scene(), "WEBP", lossless=True),
        animation,
        encoded(scene(), "AVIF"),
    ]
    cases = [mutated(whole[number % len(whole)], dice) for number in range(MUTATIONS)]
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=restrict, initargs=LIMITS) as pool:
        # A process that ends raises BrokenProcessPool here.
        answers = list(pool.map(_decode_case, [tmp_path] * len(cases), cases, chunksize=20))
    assert {"64x48"} < set(answers)
    assert sum("picture" in answer for answer in answers) > MUTATIONS // 4


def test_the_file_of_a_form_is_found():
    """Browsers send forms; other fields may come before the file."""
    boundary = boundary_of('Multipart/Form-Data; boundary="a b"')
    assert boundary == "a b"
    body = (
        b'preamble\r\n--a b\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
        b'--a b\r\nContent-Disposition: form-data; name="picture"; filename="x.svg"\r\nContent-Type: image/svg+xml'
        b"\r\n\r\n\x89PNG\r\n\r\n--a\r\n--a b--\r\n"
    )
    assert file_in(body, boundary) == b"\x89PNG\r\n\r\n--a"
    assert file_in(body[body.index(b"--a b") :], boundary) == b"\x89PNG\r\n\r\n--a"
    assert boundary_of("image/png") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nno file\r\n--x--',
        b"-" * 99,
    ],
)
def test_a_form_without_a_file_is_explained(body: bytes):
    """A form field without a file is what forgetful scripts send."""
    with pytest.raises(NoFile):
        file_in(body, "x")


@pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 71}"])
def test_a_form_without_a_valid_boundary_is_explained(content_type: str):
    """Scripts that set the header by hand forget the boundary."""
    with pytest.raises(NoFile):
        boundary_of(content_type)


def test_a_jpeg_of_forty_megapixels_is_accepted_and_more_is_not():
    """The limit is on pixels, whatever the file's size."""
    with pytest.raises(UnreadablePicture, match="40,000,000"):
        normalized(png_of(8001, 5000))
    with pytest.raises(UnreadablePicture, match="damaged"):
        normalized(png_of(8000, 5000))
