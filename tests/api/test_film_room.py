"""Films of large walks in a small container: what is on its disk does not grow with the walk."""

from pathlib import Path

import anyio.to_thread
import pytest
import yaml
from PIL import Image

from momalisa_api.films import films
from momalisa_api.films.kinds import FilmName
from momalisa_api.films.make import make_films
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.schema import opened
from momalisa_api.work import frame_reader
from momalisa_api.work.frame_reader import FrameReader
from tests.support.factories import ended, running, spec
from tests.support.finished_walks import add_finished_walk, noise_frames

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform", "width": 128, "height": 128}


class CountingBucket(FolderBucket):
    """Counts the objects that are read."""

    reads = 0

    async def get(self, key: str) -> bytes:
        self.reads += 1
        return await super().get(key)


async def test_copies_of_frames_have_a_limit_and_the_others_are_read_again(tmp_path, monkeypatch):
    """A worker's /tmp has 512 MiB; the frames of 241 frames of 2048 px may have 3 GiB."""
    bucket, folder = CountingBucket(tmp_path / "bucket"), tmp_path / "copies"
    folder.mkdir()
    keys = [f"frames/r/{number}.png" for number in range(4)]
    for number, key in enumerate(keys):
        await bucket.put(key, bytes([number]) * 100)
    monkeypatch.setattr(frame_reader, "KEPT_BYTES", 250)
    reader = FrameReader(bucket, keys, folder)
    for _ in range(3):
        for number, frame in enumerate(reader.frames):
            assert await anyio.to_thread.run_sync(frame) == bytes([number]) * 100
    assert bucket.reads == 2 + 3 * 2
    assert sum(path.stat().st_size for path in folder.iterdir()) == 200
    reader.stop()
    with pytest.raises(InterruptedError):
        await anyio.to_thread.run_sync(reader.frames[0])


def test_containers_have_room_for_what_films_may_need():
    """tmpfs counts as memory of the container, too: what is left must do for the encoders (0.3 GiB at 1024 px)."""
    needed = frame_reader.KEPT_BYTES + films.MAX_FILM_BYTES
    worker = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["api-worker"]
    assert worker["tmpfs"] == ["/tmp:size=512m"]
    assert worker["deploy"]["resources"]["limits"]["memory"] == "1G"
    assert needed <= 512 * 2**20
    assert needed + 2**29 <= 2**30
    deployment = next(yaml.safe_load_all((ROOT / "k8s/base/worker.yaml").read_text()))
    [room] = [
        volume["emptyDir"] for volume in deployment["spec"]["template"]["spec"]["volumes"] if "emptyDir" in volume
    ]
    assert room == {"sizeLimit": "1Gi"}


async def test_one_film_at_a_time_is_on_the_disk(tmp_path):
    """Each is stored and deleted before the next one is made."""
    seen = []

    def store(path: Path) -> None:
        seen.append([other.name for other in tmp_path.glob("films/*")])
        assert path.stat().st_size

    (tmp_path / "films").mkdir()
    async with opened(f"sqlite:///{tmp_path}/catalogue.sqlite") as engine:
        walk = await add_finished_walk(engine, spec(frames=5))
    frames = [lambda png=png: png for png in noise_frames(5, 0)]
    made = make_films(frames, walk, tmp_path / "films", store)
    assert sorted(seen) == sorted([name] for name in FilmName)
    assert (made.films, made.too_large) == (frozenset(FilmName), ())


@pytest.mark.parametrize("limit", [100, 1500, 3000])
async def test_a_film_that_is_too_large_is_left_out_with_a_word(settings, fleet, monkeypatch, limit):
    """The walk is done without it: one that can never be filmed would be tried again and again."""
    monkeypatch.setattr(films, "MAX_FILM_BYTES", limit)
    fleet.add(paint=lambda recipe, fraction: noise_frames(9, 1)[round(fraction * 8)])
    async with running(settings, fleet) as client:
        walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
        assert walk["state"] == "done"
        assert set(walk["films"]) == {"poster.webp", "poster.jpg", "preview.mp4"}
        assert [warning.split()[0] for warning in walk["warnings"]] == ["walk.gif", "walk.mp4"]
        for name in ("walk.gif", "walk.mp4"):
            answer = await client.get(f"{walk['url']}/{name}")
            assert (answer.status_code, answer.json()["type"]) == (406, "urn:momalisa:problem:not-acceptable")
            assert "too large" in answer.json()["detail"]
        again = await client.post("/api/v1/walks", json=REQUEST)
    assert again.status_code == 200


def test_a_gif_is_not_too_large_for_its_way_back_alone(tmp_path, monkeypatch):
    """The size is known before the way back is written."""
    frames = [lambda png=png: png for png in noise_frames(9, 1)]
    films.make_gif(frames, tmp_path / "one-way.gif", films.FilmOptions(there_and_back=False), "")
    monkeypatch.setattr(films, "MAX_FILM_BYTES", (tmp_path / "one-way.gif").stat().st_size + 10)
    films.make_gif(frames, tmp_path / "again.gif", films.FilmOptions(there_and_back=False), "")
    with pytest.raises(films.FilmTooLarge):
        films.make_gif(frames, tmp_path / "walk.gif", films.FilmOptions(), "")
    with Image.open(tmp_path / "again.gif") as picture:
        assert picture.n_frames == 9
