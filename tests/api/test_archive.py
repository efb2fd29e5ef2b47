"""ZIP archives that are made while they are sent: valid, in any part, and without room for the whole."""

import io
import tempfile
import tracemalloc
import zipfile

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momalisa_api.films.archive import RECENT, Archive, Checksums
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.schema import opened
from momalisa_api.walks.walk import State
from momalisa_api.web.routes.conditions import Conditions
from momalisa_api.web.routes.media import get_frames_zip
from tests.support.factories import ended, running, spec
from tests.support.finished_walks import add_finished_walk

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 5, "spacing": "uniform"}


async def bytes_of(contents: list[bytes], first: int = 0, last: int | None = None) -> bytes:
    archive = Archive([(f"{number}.png", len(content)) for number, content in enumerate(contents)])

    async def read(number: int) -> bytes:
        return contents[number]

    end = archive.size - 1 if last is None else last
    return b"".join([chunk async for chunk in archive.part(first, end, read, {})])


@pytest.mark.parametrize("contents", [[], [b""], [b"one", b"", b"three" * 1000]])
async def test_an_archive_can_be_unpacked(contents):
    """By a reader that this project did not write; the size is that which was announced."""
    packed = await bytes_of(contents)
    assert len(packed) == Archive([(f"{n}.png", len(content)) for n, content in enumerate(contents)]).size
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == contents
        assert archive.namelist() == [f"{number}.png" for number in range(len(contents))]


async def test_a_continued_download_reads_what_is_missing():
    """The directory has the checksums of all files, also of those that a client has already."""
    contents, reads = [b"first", b"second", b"third"], list[int]()
    archive, checksums = Archive([(f"{n}.png", len(content)) for n, content in enumerate(contents)]), Checksums()

    async def read(number: int) -> bytes:
        reads.append(number)
        return contents[number]

    async def part(first: int, last: int) -> bytes:
        return b"".join([chunk async for chunk in archive.part(first, last, read, checksums.of("1"))])

    middle = archive.size // 3
    packed = await part(0, middle) + await part(middle + 1, archive.size - 1)
    assert zipfile.ZipFile(io.BytesIO(packed)).testzip() is None
    assert set(reads) == {0, 1, 2}
    reads.clear()
    assert packed.endswith(await part(archive.size - 22, archive.size - 1))
    assert reads == []


def test_checksums_of_old_archives_are_forgotten():
    """Else memory would grow with every archive."""
    checksums = Checksums()
    for number in range(RECENT):
        checksums.of(str(number))[0] = 1
    assert checksums.of("0") == {0: 1}
    checksums.of("another")
    assert (checksums.of("0"), checksums.of("1")) == ({0: 1}, {})


@given(st.data())
async def test_any_part_of_an_archive_is_that_part_of_the_whole(data):
    """Downloads continue where they stopped."""
    contents = [b"first", b"", b"third" * 9]
    whole = await bytes_of(contents)
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, len(whole) - 1))
    assert await bytes_of(contents, first, last) == whole[first : last + 1]


async def test_an_archive_of_more_than_four_gibibytes_can_be_unpacked(tmp_path):
    """Its last files have no place in the original format. Here, most of it is a hole in the file."""
    sizes = {"large.png": 2**32 - 5, "small.png": 3}
    archive = Archive(list(sizes.items()))

    async def read(number: int) -> bytes:
        return b"abc" if number else b""

    with (tmp_path / "frames.zip").open("wb") as file:
        # What comes after the large file: the second one, and the directory.
        tail = [chunk async for chunk in archive.part(30 + 9 + sizes["large.png"], archive.size - 1, read, {})]
        file.seek(archive.size - sum(map(len, tail)))
        file.writelines(tail)
    with zipfile.ZipFile(tmp_path / "frames.zip") as unpacked:
        assert [info.file_size for info in unpacked.infolist()] == list(sizes.values())
        assert unpacked.read("small.png") == b"abc"


async def test_the_frames_of_the_largest_walk_need_neither_disk_nor_memory(tmp_path, monkeypatch):
    """A container has 64 MiB of /tmp, and the frames of a walk of 241 frames of 512 px have 180 MiB."""
    size = 512 * 512 * 3
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        walk = await add_finished_walk(engine, spec(frames=241))
        bucket = FolderBucket(tmp_path / "bucket")
        for frame in walk.frames:
            path = tmp_path / "bucket" / frame.key
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(size)
        response = await get_frames_zip(await Catalogue(engine).get(walk.id), bucket, Checksums(), Conditions())
    assert walk.state is State.DONE
    tracemalloc.start()
    try:
        sent = 0
        async for chunk in response.body_iterator:
            sent += len(chunk)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == int(response.headers["content-length"]) > 241 * size
    assert most < 8 * size


async def test_a_part_of_the_frames_is_continued(settings, fleet):
    """As curl and browsers do after a lost connection."""
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        url = f"{walk['url']}/frames.zip"
        whole = await client.get(url)
        middle = len(whole.content) // 2
        kept = [path async for path in anyio.Path(settings.bucket).rglob("frames.zip")]
        rest = await client.get(url, headers={"Range": f"bytes={middle}-", "If-Range": whole.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, whole.content[middle:])
    assert kept == []
