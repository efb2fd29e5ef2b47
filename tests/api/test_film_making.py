"""All films of a walk in one pass over its frames, and what happens when a part of it fails or is cancelled."""

import threading
from collections import Counter
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from PIL import Image

from momalisa_api.films import films, make, mp4
from momalisa_api.films.kinds import FilmName
from momalisa_api.films.make import make_films
from momalisa_api.films.metadata import read_spec
from momalisa_api.store.bucket import NotInBucket
from momalisa_api.store.schema import opened
from tests.support.factories import spec
from tests.support.films import png
from tests.support.finished_walks import add_finished_walk, noise_frames

pytestmark = pytest.mark.anyio
FRAMES = noise_frames(9, 0)


class Bucket:
    """A bucket whose frames are in memory, and that keeps the films that are stored."""

    def __init__(self, frames=FRAMES):
        self.frames = frames
        self.reads = Counter()
        self.reading = self.most_reading = 0
        self.films = {}

    async def read(self, number):
        self.reads[number] += 1
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            await anyio.lowlevel.checkpoint()
            if self.frames[number] is None:
                raise NotInBucket(f"frames/{number}.png")
            return self.frames[number]
        finally:
            self.reading -= 1

    async def store(self, path):
        self.films[path.name] = path.read_bytes()


async def a_walk(tmp_path, **changes):
    async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        wanted = {"frames": 9, "width": 128, "height": 128, "spacing": "uniform", **changes}
        return await add_finished_walk(engine, spec(**wanted))


@pytest.fixture
async def walk(tmp_path):
    return await a_walk(tmp_path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "films").mkdir()
    return tmp_path / "films"


async def test_each_frame_is_read_once_and_several_at_a_time(walk, folder):
    """A remote bucket takes 50 ms for each."""
    bucket = Bucket()
    made = await make_films(bucket.read, walk, folder, bucket.store)
    assert (made.films, set(bucket.films)) == (frozenset(FilmName), set(FilmName))
    assert bucket.reads == dict.fromkeys(range(9), 1)
    assert bucket.most_reading > 4
    assert list(folder.iterdir()) == []


async def test_frames_that_are_read_ahead_have_a_limit(walk, folder, monkeypatch):
    """Frames of 2048 px have 12 MiB each."""
    monkeypatch.setattr(make, "AHEAD_BYTES", 3 * 128 * 128 * 3)
    bucket = Bucket()
    await make_films(bucket.read, walk, folder, bucket.store)
    assert bucket.most_reading == 3


async def test_the_smoothness_is_in_every_film(tmp_path, walk, folder):
    """It is known after the last frame, when the beginnings of the films are written already."""
    bucket = Bucket()
    made = await make_films(bucket.read, walk, folder, bucket.store)
    assert made.smoothness.evenness
    for name, content in bucket.films.items():
        (tmp_path / name).write_bytes(content)
        assert read_spec(tmp_path / name)["smoothness"] == made.smoothness.model_dump(mode="json")


async def test_a_walk_of_many_jumps_has_room_for_them(tmp_path, folder):
    """They are in the metadata, too. Every fourth step is four times the mean."""
    black, white = (Image.new("L", (128, 128), level) for level in (0, 255))
    frames = [black, *[white, white, white, white, black, black, black, black] * 10]
    bucket = Bucket([png(picture) for picture in frames])
    made = await make_films(bucket.read, await a_walk(tmp_path, frames=len(frames)), folder, bucket.store)
    assert (len(made.smoothness.jumps), len(made.films)) == (20, len(FilmName))


async def test_frames_that_are_not_kept_for_the_way_back_are_read_again(tmp_path, folder, monkeypatch):
    """The films are the same, however little memory there is."""
    kept, read_again = Bucket(), Bucket()
    back = await a_walk(tmp_path, mp4_there_and_back=True)
    await make_films(kept.read, back, folder, kept.store)
    monkeypatch.setattr(mp4, "KEPT_BYTES", 4 * 128 * 128 * 3 // 2)
    await make_films(read_again.read, back, folder, read_again.store)
    assert read_again.reads == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3, 5: 3, 6: 3, 7: 3, 8: 1}
    assert read_again.films == kept.films


@pytest.mark.parametrize("bad", [b"", b"not a picture", FRAMES[0][:300]])
async def test_the_error_about_an_unreadable_frame_names_it(walk, folder, bad):
    """Among 241 frames, the number is needed."""
    bucket = Bucket([*FRAMES[:7], bad, FRAMES[8]])
    with pytest.raises(ValueError, match="frame 7 cannot be read"):
        await make_films(bucket.read, walk, folder, bucket.store)
    assert (bucket.films, list(folder.iterdir())) == ({}, [])


async def test_frames_of_two_sizes_are_refused(walk, folder):
    """Scaling one silently would hide that it has another recipe."""
    bucket = Bucket([*FRAMES[:2], png(Image.new("L", (32, 32))), *FRAMES[3:]])
    with pytest.raises(ValueError, match="frame 2 is 32 x 32, not 128 x 128"):
        await make_films(bucket.read, walk, folder, bucket.store)


async def test_the_error_about_a_lost_frame_has_its_key(walk, folder):
    """The walk is planned again then."""
    bucket = Bucket([*FRAMES[:5], None, *FRAMES[6:]])
    with pytest.raises(NotInBucket, match=r"frames/5\.png"):
        await make_films(bucket.read, walk, folder, bucket.store)
    assert (bucket.reading, list(folder.iterdir())) == (0, [])


async def test_a_film_that_is_too_large_is_dropped_alone(walk, folder, monkeypatch):
    """In the middle of the walk, while the others go on."""
    monkeypatch.setattr(films, "MAX_GIF_BYTES", 1500)
    bucket = Bucket()
    made = await make_films(bucket.read, walk, folder, bucket.store)
    assert (made.too_large, FilmName.GIF in made.films) == ((FilmName.GIF,), False)
    assert set(bucket.films) == made.films == set(FilmName) - {FilmName.GIF}


async def test_films_that_cannot_be_stored_leave_nothing_behind(walk, folder):
    """No thread encodes for nobody, and the disk is free for the next walk."""
    bucket = Bucket()

    async def store(path):
        raise ConnectionError(path.name)

    with pytest.raises(ConnectionError):
        await make_films(bucket.read, walk, folder, store)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("last", [0, 4, 9])
async def test_cancelled_films_leave_nothing_behind(walk, folder, last):
    """At the beginning, in the middle, and while films are stored."""
    bucket, never = Bucket(), anyio.Event()
    here = anyio.Event()

    async def read(number):
        if number == last:
            here.set()
            await never.wait()
        return await bucket.read(number)

    async def store(_: Path):
        here.set()
        await never.wait()

    before = threading.active_count()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make_films, read, walk, folder, store)
        await here.wait()
        tasks.cancel_scope.cancel()
    assert (bucket.reading, list(folder.iterdir())) == (0, [])
    assert all(thread.name.startswith("AnyIO") for thread in threading.enumerate()[before:])
