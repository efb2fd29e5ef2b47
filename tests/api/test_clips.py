"""Uploading clips: what the API answers, who can read them, their limits, and when they are deleted."""

import io
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import pytest
from sqlalchemy import update

from momalisa_api.pictures.decoders import RemuxedClip, Remuxers
from momalisa_api.pictures.download import Downloads
from momalisa_api.problems import BadClip, BucketUnavailable, ClipNotFound, Invalid
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.clips import ClipStore
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import clips
from momalisa_api.store.upload_limits import UploadCounter
from momalisa_api.store.uses import use_uploads
from momalisa_api.web.clip_intake import CLIP_UPLOADS, ClipIntake
from tests.support.clips import SECRETS, clip
from tests.support.factories import running, spec
from tests.support.pictures import encoded, mutated, scene
from tests.support.web_site import web_site

UPLOADS = int(os.environ.get("MOMALISA_TEST_UPLOADS", "20"))
MP4 = clip(sound="aac", metadata=SECRETS)

pytestmark = pytest.mark.anyio


def files_of(bucket: Path) -> list[str]:
    return sorted(path.name for path in (bucket / "uploads").glob("*"))


async def test_a_clip_is_its_owners_alone(settings, fleet):
    """From the upload to the deletion: for anybody else it does not exist."""
    async with running(settings, fleet) as owner:
        created = await owner.post("/api/v1/clips", content=MP4, headers={"Content-Type": "video/mp4"})
        assert created.status_code == 201, created.text
        found = created.json()
        place = created.headers["Location"]
        assert place == f"/api/v1/clips/{found['id']}"
        kept = datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["created_at"])
        assert kept == timedelta(hours=24)
        facts = {name: found[name] for name in ("seconds", "width", "height", "frames", "has_sound")}
        assert facts == {"seconds": 2.0, "width": 64, "height": 48, "frames": 20, "has_sound": True}
        file = await owner.get(found["url"])
        assert (file.status_code, file.headers["Content-Type"]) == (200, "video/mp4")
        assert file.headers["Cache-Control"].startswith("private")
        with av.open(io.BytesIO(file.content)) as container:
            assert len(list(container.decode(video=0))) == 20
        part = await owner.get(found["url"], headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")
        assert (await owner.get(found["url"].replace(".mp4", ".webm"))).status_code == 404
        assert (await owner.get(place)).json() == found
        assert (await owner.get("/api/v1/me")).json()["clips"] == 1
        cookie = dict(owner.cookies)
        for other in ({}, {"momalisa_owner": "forged"}):
            owner.cookies = other
            for answer in (await owner.get(found["url"]), await owner.get(place), await owner.delete(place)):
                assert (answer.status_code, answer.json()["type"]) == (404, "urn:momalisa:problem:clip-not-found")
        owner.cookies = cookie
        assert (await owner.get(f"/api/v1/pictures/{found['id']}")).status_code == 404
        assert (await owner.delete(place)).status_code == 204
        assert (await owner.get(found["url"])).status_code == 404
    assert files_of(Path(settings.bucket)) == []


async def test_the_same_clip_is_one_clip_however_it_is_sent(settings, fleet):
    """Its id is the hash of the stored file, which has no time in it."""
    async with running(settings, fleet) as client:
        raw = (await client.post("/api/v1/clips", content=MP4)).json()
        form = (await client.post("/api/v1/clips", files={"clip": ("x.html", MP4, "text/html")})).json()
        assert raw["id"] == form["id"]
        assert len(files_of(Path(settings.bucket))) == 1


@pytest.mark.parametrize(
    ("content", "headers", "status", "slug"),
    [
        (b"", {}, 422, "bad-clip"),
        (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", {"Content-Type": "application/vnd.apple.mpegurl"}, 422, "bad-clip"),
        (encoded(scene(), "JPEG"), {"Content-Type": "video/mp4"}, 422, "bad-clip"),
        (MP4[: len(MP4) // 2], {"Content-Type": "video/mp4"}, 422, "bad-clip"),
        (b"no form", {"Content-Type": "multipart/form-data; boundary=x"}, 422, "bad-clip"),
        (b'{"url": 1}', {"Content-Type": "application/json"}, 422, "invalid-request"),
        (b'{"url": "http://127.0.0.1/x.mp4"}', {"Content-Type": "application/json"}, 422, "address-refused"),
    ],
)
async def test_a_bad_clip_is_a_problem_that_says_what_to_do(settings, fleet, content, headers, status, slug):
    """Nothing is stored, and no process is lost."""
    async with running(settings, fleet) as client:
        answer = await client.post("/api/v1/clips", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:momalisa:problem:{slug}"), answer.text
    assert files_of(Path(settings.bucket)) == []


async def test_damaged_files_of_all_kinds_get_answers(settings, fleet):
    """Through the whole service: a problem or an upload, never a 5xx, and the next upload works.

    MOMALISA_TEST_UPLOADS sets the number of cases.
    """
    dice = random.Random(29)
    pictures = [encoded(scene(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")]
    unlimited = {"uploads_per_owner_per_day": 1_000_000, "upload_mb_per_owner_per_day": 1_000_000}
    async with running(settings.model_copy(update=unlimited), fleet) as client:
        for number in range(UPLOADS):
            path, content = (("pictures", pictures[number // 2 % 4]), ("clips", MP4))[number % 2]
            answer = await client.post(f"/api/v1/{path}", content=mutated(content, dice))
            assert answer.status_code in (201, 422), answer.text
        assert (await client.post("/api/v1/clips", content=MP4)).status_code == 201
        assert (await client.post("/api/v1/pictures", content=pictures[0])).status_code == 201


async def test_clips_and_pictures_share_their_daily_limits(settings, fleet):
    """Otherwise each new kind of upload would double what one owner may send."""
    async with running(settings.model_copy(update={"uploads_per_owner_per_day": 2}), fleet) as client:
        await client.post("/api/v1/clips", content=b"x")
        for path, status in (("pictures", 422), ("clips", 429), ("pictures", 429)):
            answer = await client.post(f"/api/v1/{path}", content=b"x")
            assert answer.status_code == status


async def test_a_clip_behind_a_url_is_stored_like_an_upload(settings, tmp_path):
    """Only its content decides what it is: a playlist is none, whatever it is called."""
    async with opened(settings.database_url) as engine, web_site() as site:

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        source = Downloads(frozenset({site.port}), resolve, allowed=lambda address: address == "127.0.0.1")
        bucket, kept = FolderBucket(tmp_path), timedelta(hours=1)
        store, counted = ClipStore(engine, bucket, kept), UploadCounter(engine)
        intake = ClipIntake(settings, store, counted, Remuxers(), source, tmp_path)
        site.serve("/cat.html", MP4)
        site.serve("/list.mp4", f"#EXTM3U\nhttp://cats.example:{site.port}/cat.html\n".encode())
        url = f"http://cats.example:{site.port}"
        found = await intake.fetch(f"{url}/cat.html", "key:a", "a network")
        assert await store.get("key:a", found.id) == found
        with pytest.raises(BadClip, match="not a clip"):
            await intake.fetch(f"{url}/list.mp4", "key:a", "a network")
    assert len(files_of(tmp_path)) == 1
    assert CLIP_UPLOADS.max_bytes == 100_000_000


@pytest.fixture
def new(tmp_path) -> RemuxedClip:
    (tmp_path / "clip").write_bytes(MP4)
    return RemuxedClip(tmp_path / "clip", "0" * 64, "webm", 2.0, 64, 48, 20, has_sound=False)


class _FullBucket(FolderBucket):
    async def delete(self, key: str) -> None:
        raise BucketUnavailable("not now")


async def test_a_clip_is_deleted_when_its_time_is_over(url, tmp_path, new):
    """Also one whose deletion broke off. Nobody can read it from the first moment on."""
    async with opened(url) as engine:
        bucket, owner, other = FolderBucket(tmp_path), f"key:{tmp_path.name}", f"key:{tmp_path.name}2"
        store = ClipStore(engine, bucket, timedelta(hours=1))
        broken = ClipStore(engine, _FullBucket(tmp_path), timedelta(hours=1))
        await store.add(owner, new)
        await store.add(other, new)
        await store.delete_expired()
        assert len(await bucket.present("uploads/")) == 2
        with pytest.raises(BucketUnavailable):
            await broken.delete(owner, new.id)
        with pytest.raises(ClipNotFound):
            await store.get(owner, new.id)
        again = await store.add(owner, new)
        assert await store.delete_expired() == 1
        assert await store.get(owner, new.id) == again
        async with engine.begin() as connection:
            over = update(clips).values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
            await connection.execute(over.where(clips.c.owner.in_([owner, other])))
        with pytest.raises(ClipNotFound):
            await store.get(owner, new.id)
        assert await store.delete_expired() == 2
        assert await bucket.present("uploads/") == set()


async def test_a_clip_that_a_walk_uses_is_kept_as_long_as_the_walk(url, tmp_path, new):
    """It is locked when the walk is accepted: neither its owner nor the time takes it away from there on."""
    async with opened(url) as engine:
        bucket, owner = FolderBucket(tmp_path), f"key:{tmp_path.name}"
        catalogue, store = Catalogue(engine), ClipStore(engine, bucket, timedelta(hours=1))
        kept = await store.add(owner, new)
        walk, _ = await catalogue.request(spec((tmp_path.name, "a wave")), owner)

        async def use(of: str) -> None:
            async with engine.begin() as connection:
                await use_uploads(connection, walk.id, of, pictures=(), clips=[new.id])

        with pytest.raises(Invalid, match="A clip of this walk has expired"):
            await use("key:another")
        await use(owner)
        await use(owner)
        await store.delete(owner, new.id)
        with pytest.raises(ClipNotFound):
            await store.get(owner, new.id)
        with pytest.raises(Invalid):
            await use(owner)
        await store.delete_expired()
        assert await catalogue.keys_of_clips(walk.id) == {new.id: kept.key}
        assert await bucket.present("uploads/") == {kept.key}
        await Erasures(engine, bucket).erase_owner(owner, "0" * 32)
        assert await store.delete_expired() == 1
        assert await bucket.present("uploads/") == set()
