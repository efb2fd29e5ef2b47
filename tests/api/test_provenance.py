"""Every film and frame says that it is synthetic, in a form that other programs read."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from momalisa_api.films import provenance
from momalisa_api.films.kinds import FilmName
from momalisa_api.films.metadata import read_spec
from momalisa_api.films.outputs import save_poster, save_shared_poster
from momalisa_api.films.provenance import DigitalSource
from tests.support import exiftool
from tests.support.factories import ended, painted, running
from tests.support.films import make_gif, make_mp4, make_still, png

pytestmark = pytest.mark.anyio
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TAG = "XMP-iptcExt:DigitalSourceType"
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 3, "spacing": "uniform"}


def xmp_in(file: Path) -> bytes:
    """The XMP packet of a file, found without the code that has written it."""
    content = file.read_bytes()
    if file.suffix == ".mp4":
        at, found = 0, b""
        while at < len(content):
            [size] = struct.unpack_from(">I", content, at)
            if content[at + 4 : at + 8] == b"uuid":
                found = content[at + 24 : at + size]
            at += size
        assert at == len(content), "the boxes do not cover the file"
        return found
    if file.suffix == ".gif":
        return content.partition(b"!\xff\x0bXMP DataXMP")[2].partition(b"\x01\xff\xfe")[0]
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        stored = picture.info.get("xmp", picture.info.get("XML:com.adobe.xmp", b""))
    return stored.encode() if isinstance(stored, str) else bytes(stored)


async def test_every_film_and_frame_of_a_walk_says_that_it_is_synthetic(settings, fleet, tmp_path):
    """Platforms label pictures by this field. The walk's spec can still be read from the films."""
    files = []
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        for name in (*FilmName, "frames/1.png"):
            files.append(tmp_path / Path(name).name)
            files[-1].write_bytes((await client.get(f"{walk['url']}/{name}")).content)
        archive = zipfile.ZipFile(io.BytesIO((await client.get(f"{walk['url']}/frames.zip")).content))
    files.append(Path(archive.extract("002.png", tmp_path)))
    for file, found in zip(files, exiftool.read(files, TAG), strict=True):
        assert found[TAG] == f"{TERMS}trainedAlgorithmicMedia", (file.name, found)
        assert not [tag for tag in found if tag.endswith(("Warning", "Error"))], found
        assert f"{TERMS}trainedAlgorithmicMedia".encode() in xmp_in(file)
    for file in files[:5]:
        assert read_spec(file)["stops"] == ["a giraffe", "a battleship"]
    rendered = painted({"width": 32, "height": 32, "seed": walk["seed"]}, 0.5)
    with Image.open(io.BytesIO(rendered)) as before, Image.open(tmp_path / "1.png") as after:
        assert before.tobytes() == after.tobytes()


def test_what_a_picture_went_into_says_so_in_every_format(tmp_path):
    """A composite is another term of the vocabulary than what a model has made of words alone."""
    pictures = [Image.new("RGB", (32, 32), (shade, 90, 130)) for shade in (0, 99, 200)]
    source = DigitalSource.COMPOSITE
    make_gif(pictures, tmp_path / "walk.gif", source=source)
    make_mp4(pictures, tmp_path / "walk.mp4", source=source)
    make_still(pictures, tmp_path / "poster.webp", save_poster, source=source)
    make_still(pictures, tmp_path / "poster.jpg", save_shared_poster, source=source)
    (tmp_path / "1.png").write_bytes(provenance.png_with_xmp(png(pictures[0]), provenance.xmp_of(source)))
    files = sorted(tmp_path.iterdir())
    assert [found.get(TAG) for found in exiftool.read(files, TAG)] == [
        f"{TERMS}compositeWithTrainedAlgorithmicMedia"
    ] * 5


def test_what_is_not_a_png_is_stored_as_it_came():
    """The error of a broken frame belongs to whoever reads it, with the number of the frame."""
    assert provenance.png_with_xmp(b"no picture", b"<x/>") == b"no picture"
