"""Walks along a clip, from the request to the film, with fake replicas that send each frame back as it is."""

import io
from pathlib import Path
from typing import Any

import anyio
import av
import httpx
import pytest

from momalisa_api.pictures.decoders import ClipDecoders
from momalisa_api.problems import WalkFailed
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.schema import opened
from momalisa_api.work import clip_sources
from momalisa_api.work.clip_sources import ClipSources
from tests.support.clips import clip, number_of
from tests.support.factories import CARD, FakeReplica, ended, running

pytestmark = pytest.mark.anyio
TIMES_MS = [0, 40, 80, 160, 240, 280, 320, 520, 560, 600, 640]
STYLES = {
    **CARD,
    "model": "styles",
    "engine": "style",
    "size_multiple": 2,
    "width": 64,
    "height": 64,
    "scheduler": "none",
    "schedulers": ["none"],
    "styles": [{"name": "woodcut", "title": "Woodcut"}],
}


@pytest.fixture
def replica(fleet) -> FakeReplica:
    return fleet.add(card=STYLES, features=("restyle", "clip"))


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"model_card": None})


async def uploaded(client: httpx.AsyncClient, content: bytes) -> str:
    sent = await client.post("/api/v1/clips", content=content)
    assert sent.status_code == 201, sent.text
    return str(sent.json()["id"])


async def walked(client: httpx.AsyncClient, clip_id: str) -> dict[str, Any]:
    body = {"kind": "clip", "clip": clip_id, "style": "woodcut"}
    # Once a replica has told what it can do.
    with anyio.fail_after(10):
        while (answer := await client.post("/api/v1/walks", json=body)).status_code == 503:
            await anyio.sleep(0.01)
    assert answer.status_code in (200, 201), answer.text
    return await ended(client, answer.json())


async def test_a_walk_along_a_clip_has_its_frames_in_order_its_times_and_its_sound(settings, fleet, replica):
    """Each frame says its number, so that one in a wrong place is seen."""
    async with running(settings, fleet) as client:
        walk = await walked(client, await uploaded(client, clip(times_ms=TIMES_MS, sound="aac")))
        assert (walk["state"], walk["spec"]["frames"], walk["private"]) == ("done", 11, True), walk["error"]
        film = (await client.get(f"{walk['url']}/walk.mp4")).content
        preview = (await client.get(f"{walk['url']}/preview.mp4")).content
    assert (walk["extras"], walk["warnings"], walk["smoothness"]["jumps"]) == ([], [], [])
    with av.open(io.BytesIO(film)) as container:
        frames = list(container.decode(video=0))
        assert container.streams.audio
    assert [round(1000 * frame.time) for frame in frames] == TIMES_MS
    assert [number_of(frame.to_image()) for frame in frames] == list(range(11))
    with av.open(io.BytesIO(preview)) as container:
        assert not container.streams.audio
        assert len(list(container.decode(video=0))) == 11
    for recipe, fractions in replica.render_calls:
        assert "clip" not in recipe, "where it is stored is not told"
        assert fractions == sorted(fractions)
        assert fractions[-1] - fractions[0] < 0.31, "neighbours are in one shard"


async def test_a_clip_is_decoded_once_for_all_shards_of_a_worker(settings, fleet, replica, monkeypatch):
    """And once more for the times of the film."""
    decoded: list[bool] = []

    class Counted(ClipDecoders):
        async def decode(self, source, folder, wanted):
            decoded.append("size" in wanted)
            return await super().decode(source, folder, wanted)

    monkeypatch.setattr(clip_sources, "ClipDecoders", Counted)
    async with running(settings, fleet) as client:
        walk = await walked(client, await uploaded(client, clip(times_ms=[40 * number for number in range(30)])))
    assert walk["state"] == "done", walk["error"]
    assert len(replica.render_calls) == 8
    assert sorted(decoded) == [False, True]


async def test_a_walk_whose_clip_is_lost_or_damaged_fails_with_what_to_do(settings, fleet, replica):
    """It must not be tried for ever, and no replica is to blame."""
    async with running(settings, fleet) as client:
        for change, says in ((None, "no longer stored"), (b"", "damaged")):
            identity = await uploaded(client, clip(times_ms=TIMES_MS, size=(64, 48 + 2 * len(says))))
            for file in (Path(settings.bucket) / "uploads").iterdir():
                content = file.read_bytes()
                file.unlink()
                if change is not None:
                    at = content.index(b"mdat") + 100
                    file.write_bytes(content[:at] + bytes(len(content) - at))
            walk = await walked(client, identity)
            assert walk["state"] == "failed"
            assert says in walk["error"]
            assert "pload it" in walk["error"]
    assert not replica.render_calls


async def test_a_clip_that_was_dropped_for_others_is_decoded_again(settings, fleet, replica, tmp_path):
    """The disk has room for some clips, and shards of many walks take turns."""
    async with running(settings, fleet) as client:
        walk = await walked(client, await uploaded(client, clip(times_ms=TIMES_MS)))
        other = await walked(client, await uploaded(client, clip(times_ms=TIMES_MS[:5])))
    (tmp_path / "clips").mkdir()
    async with opened(settings.database_url) as engine:
        catalogue, bucket = Catalogue(engine), FolderBucket(Path(settings.bucket))
        sources = ClipSources(catalogue, bucket, tmp_path / "clips", max_bytes=0)
        recipes = [(await catalogue.get(each["id"])).recipes[0] for each in (walk, other)]
        first = await sources.of(walk["id"], recipes[0], [0.5])
        assert len(await sources.of(other["id"], recipes[1], [0.0, 1.0])) == 2
        assert len(list((tmp_path / "clips").iterdir())) == 1
        assert await sources.of(walk["id"], recipes[0], [0.5]) == first
        await sources.drop_unused()
        assert len(list((tmp_path / "clips").iterdir())) == 1
        await sources.drop_unused(kept_s=0)
        assert not list((tmp_path / "clips").iterdir()), "a walk may have been deleted since"
        with pytest.raises(WalkFailed, match="no longer stored"):
            await sources.of("0" * 32, recipes[1], [0.5])


class FullDisk(ClipDecoders):
    """A disk that is full after the first picture of a clip, once."""

    tries = 0

    async def decode(self, source, folder, wanted):
        self.tries += 1
        if self.tries == 1:
            (folder / "1.jpg").symlink_to("/dev/full")
        return await super().decode(source, folder, wanted)


async def test_a_full_disk_fails_no_walk(settings, fleet, replica, monkeypatch):
    """Neither the clip nor a replica is to blame: the shards are tried again."""
    monkeypatch.setattr(clip_sources, "ClipDecoders", FullDisk)
    async with running(settings, fleet) as client:
        walk = await walked(client, await uploaded(client, clip(times_ms=TIMES_MS)))
    assert walk["state"] == "done", walk["error"]
    assert replica.refusals == 0
