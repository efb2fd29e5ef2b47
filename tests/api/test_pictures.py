"""Uploading pictures: what the API answers, who can read them, the limits of an owner, and when they are deleted."""

import io
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
from PIL import Image
from sqlalchemy import insert, select, update

from momalisa_api.pictures.decoders import Decoders
from momalisa_api.pictures.download import Downloads
from momalisa_api.problems import (
    BadPicture,
    BodyTooLarge,
    BucketUnavailable,
    PictureNotFound,
    QuotaExceeded,
    UploadTooSlow,
)
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.erasures import Erasures
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.pictures import PictureStore
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import picture_uses, pictures, walks
from momalisa_api.store.upload_limits import UploadCounter, UploadLimits
from momalisa_api.web import upload_intake
from momalisa_api.web.picture_intake import PICTURE_UPLOADS, PictureIntake
from momalisa_api.work.retention import Retention
from tests.support.factories import running, spec
from tests.support.pictures import encoded, png_of, scene
from tests.support.web_site import web_site

JPEG = encoded(scene(), "JPEG", quality=95)
LIMITS = UploadLimits(3, 1_000, 2)

pytestmark = pytest.mark.anyio


def files_of(bucket: Path) -> list[str]:
    return sorted(path.name for path in (bucket / "uploads").glob("*"))


async def test_an_upload_is_its_owners_alone(settings, fleet):
    """From the upload to the deletion: for anybody else the picture does not exist."""
    async with running(settings, fleet) as owner:
        created = await owner.post("/api/v1/pictures", content=JPEG, headers={"Content-Type": "text/html"})
        assert created.status_code == 201, created.text
        picture = created.json()
        assert created.headers["Location"] == f"/api/v1/pictures/{picture['id']}"
        kept = datetime.fromisoformat(picture["expires_at"]) - datetime.fromisoformat(picture["created_at"])
        assert kept == timedelta(hours=24)
        file = await owner.get(picture["url"])
        assert (file.status_code, file.headers["Content-Type"]) == (200, "image/png")
        assert file.headers["Cache-Control"].startswith("private")
        assert Image.open(io.BytesIO(file.content)).size == (picture["width"], picture["height"]) == (64, 48)
        assert (await owner.get(created.headers["Location"])).json() == picture
        cookie = dict(owner.cookies)
        for other in ({}, {"momalisa_owner": "forged"}):
            owner.cookies = other
            for answer in (
                await owner.get(picture["url"]),
                await owner.get(created.headers["Location"]),
                await owner.delete(created.headers["Location"]),
            ):
                assert (answer.status_code, answer.json()["type"]) == (404, "urn:momalisa:problem:picture-not-found")
        owner.cookies = cookie
        assert (await owner.delete(created.headers["Location"])).status_code == 204
        assert (await owner.get(picture["url"])).status_code == 404
    assert files_of(Path(settings.bucket)) == []


async def test_the_same_picture_is_one_picture_however_it_is_sent(settings, fleet):
    """Its id is the hash of the stored file; another owner has a picture of their own."""
    async with running(settings, fleet) as client:
        raw = (await client.post("/api/v1/pictures", content=JPEG)).json()
        form = (await client.post("/api/v1/pictures", files={"picture": ("x.svg", JPEG, "image/svg+xml")})).json()
        assert raw["id"] == form["id"]
        assert len(files_of(Path(settings.bucket))) == 1
        client.cookies = {}
        other = (await client.post("/api/v1/pictures", content=JPEG)).json()
        assert other["id"] == raw["id"]
        assert (await client.delete(f"/api/v1/pictures/{other['id']}")).status_code == 204
        assert len(files_of(Path(settings.bucket))) == 1


@pytest.mark.parametrize(
    ("content", "headers", "status", "slug"),
    [
        (b"", {}, 422, "bad-picture"),
        (b"<svg/>", {"Content-Type": "image/svg+xml"}, 422, "bad-picture"),
        (png_of(0, 0), {}, 422, "bad-picture"),
        (JPEG[:-200], {"Content-Type": "image/jpeg"}, 422, "bad-picture"),
        (b"no form", {"Content-Type": "multipart/form-data; boundary=x"}, 422, "bad-picture"),
        (b"no form", {"Content-Type": "multipart/form-data"}, 422, "bad-picture"),
        (bytes(PICTURE_UPLOADS.max_bytes + 1), {}, 413, "body-too-large"),
        (b'{"url": 1}', {"Content-Type": "application/json"}, 422, "invalid-request"),
        (b'{"url": "\\ud800"}', {"Content-Type": "application/json"}, 422, "invalid-request"),
        (b"{" * 9000, {"Content-Type": "application/json"}, 413, "body-too-large"),
        (b'{"url": "http://127.0.0.1/x.png"}', {"Content-Type": "application/json"}, 422, "address-refused"),
    ],
)
async def test_a_bad_upload_is_a_problem_that_says_what_to_do(settings, fleet, content, headers, status, slug):
    """Nothing is stored, and the caller keeps the cookie for the next try."""
    async with running(settings, fleet) as client:
        answer = await client.post("/api/v1/pictures", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:momalisa:problem:{slug}"), answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "momalisa_owner" in client.cookies
    assert files_of(Path(settings.bucket)) == []


async def test_uploads_count_whether_or_not_they_are_pictures(settings, fleet):
    """Ten thousand tiny files would otherwise start ten thousand decoders."""
    async with running(settings.model_copy(update={"uploads_per_owner_per_day": 3}), fleet) as client:
        await client.post("/api/v1/pictures", content=b"x")
        answers = [(await client.post("/api/v1/pictures", content=b"x")) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [422, 422, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) > 80_000
        assert (await client.delete(f"/api/v1/pictures/{'0' * 64}")).status_code == 404


async def test_one_network_cannot_take_all_places_for_uploads(settings, fleet, monkeypatch):
    """A new cookie for each upload would otherwise be enough to keep all others waiting."""
    monkeypatch.setattr(upload_intake, "UPLOADS_WAITING", 0)
    async with running(settings, fleet) as client:
        answer = await client.post("/api/v1/pictures", content=JPEG)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:momalisa:problem:queue-full")
        monkeypatch.setattr(upload_intake, "UPLOADS_WAITING", 1)
        answer = await client.post("/api/v1/pictures", content=JPEG)
        assert (answer.status_code, answer.json()["type"]) == (429, "urn:momalisa:problem:quota-exceeded")


async def test_many_uploads_at_a_time_are_all_stored(settings, fleet):
    """More than there are places: the others wait, and none is refused."""
    async with running(settings, fleet) as client:
        await client.post("/api/v1/pictures", content=b"x")
        answers: list[httpx.Response] = []

        async def upload(shade: int) -> None:
            picture = encoded(Image.new("L", (8, 8), shade), "PNG")
            answers.append(await client.post("/api/v1/pictures", content=picture))

        async with anyio.create_task_group() as tasks:
            for shade in range(20):
                tasks.start_soon(upload, shade)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 20


async def test_a_picture_behind_a_url_is_stored_like_an_upload(settings, tmp_path):
    """Its limits are those of uploads, and only decoding decides what it is."""
    async with (
        opened(settings.database_url) as engine,
        web_site() as site,
        aclosing(Decoders()) as decoders,
    ):

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        source = Downloads(frozenset({site.port}), resolve, allowed=lambda address: address == "127.0.0.1")
        store = PictureStore(engine, FolderBucket(tmp_path), timedelta(hours=1))
        intake = PictureIntake(settings, store, UploadCounter(engine), decoders, source, tmp_path)
        site.serve("/cat.html", JPEG)
        site.serve("/page.jpg", b"<!doctype html>")
        site.serve("/huge.jpg", bytes(PICTURE_UPLOADS.max_bytes + 1))
        url = f"http://cats.example:{site.port}"
        found = await intake.fetch(f"{url}/cat.html", "key:a", "a network")
        assert await store.get("key:a", found.id) == found
        with pytest.raises(BadPicture, match="not a picture"):
            await intake.fetch(f"{url}/page.jpg", "key:a", "a network")
        with pytest.raises(BodyTooLarge):
            await intake.fetch(f"{url}/huge.jpg", "key:a", "a network")
    assert len(files_of(tmp_path)) == 1


async def test_a_slow_upload_gives_its_place_back(settings, tmp_path):
    """Clients that send nothing would otherwise take all places."""
    async with opened(settings.database_url) as engine:
        store = PictureStore(engine, FolderBucket(tmp_path), timedelta(hours=1))
        kind = replace(PICTURE_UPLOADS, upload_s=0.01)
        intake = PictureIntake(
            settings, store, UploadCounter(engine), Decoders(), Downloads(frozenset()), tmp_path, kind
        )

        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            for _ in range(PICTURE_UPLOADS.at_once + 1):
                tasks.start_soon(_assert_too_slow, intake, chunks())


async def test_an_upload_that_trickles_is_refused_and_counts(settings, tmp_path, monkeypatch):
    """Each of its chunks comes in time, and all of them would take two minutes."""
    monkeypatch.setattr(upload_intake, "MAX_PAUSE_S", 0.05)
    limited = settings.model_copy(update={"uploads_per_owner_per_day": 1})
    async with opened(settings.database_url) as engine:
        store = PictureStore(engine, FolderBucket(tmp_path), timedelta(hours=1))
        intake = PictureIntake(limited, store, UploadCounter(engine), Decoders(), Downloads(frozenset()), tmp_path)

        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await anyio.sleep(0.02)

        await _assert_too_slow(intake, chunks())
        with pytest.raises(QuotaExceeded):
            await intake.receive(chunks(), "key:a", "a network")


async def _assert_too_slow(intake: PictureIntake, chunks: AsyncIterator[bytes]) -> None:
    with pytest.raises(UploadTooSlow):
        await intake.receive(chunks, "key:a", "a network")


async def stored(store: PictureStore, folder: Path, owner: str = "key:a") -> str:
    file = folder / "picture.png"
    file.write_bytes(encoded(scene(), "PNG"))
    return (await store.add(owner, "0" * 64, 64, 48, file)).id


async def test_limits_hold_for_uploads_at_the_same_time(url, tmp_path):
    """They are checked in the transaction that counts the upload. Other owners are not affected."""
    async with opened(url) as engine:
        counter = UploadCounter(engine)
        owner = f"key:{tmp_path.name}"
        refused: list[QuotaExceeded] = []

        async def admit() -> None:
            try:
                await counter.admit(owner, None, 100, LIMITS)
            except QuotaExceeded as problem:
                refused.append(problem)

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(admit)
        assert len(refused) == 5
        await counter.admit(f"{owner}2", None, 1_000, LIMITS)
        with pytest.raises(QuotaExceeded, match="3 uploads or 0 MB"):
            await counter.admit(f"{owner}2", None, 1, LIMITS)


async def test_uploads_of_one_network_count_together(url, tmp_path):
    """A new cookie for each upload would otherwise be a new owner with all its limits."""
    network = f"network of {tmp_path.name}"
    async with opened(url) as engine:
        counter = UploadCounter(engine)
        admitted: list[str] = []

        async def admit(owner: str) -> None:
            with suppress(QuotaExceeded):
                await counter.admit(owner, network, 1, LIMITS)
                admitted.append(owner)

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(admit, f"cookie:{tmp_path.name} {number}")
        assert len(admitted) == LIMITS.count * LIMITS.owners_per_network
        with pytest.raises(QuotaExceeded, match="6 uploads or 0 MB from your network address"):
            await counter.admit("cookie:one more", network, 1, LIMITS)
        await counter.admit("cookie:one more", "another network", 1, LIMITS)


async def test_an_expired_picture_is_deleted_unless_a_walk_uses_it(url, tmp_path):
    """Retention is a promise; a walk that was made of a picture needs it for as long as it is kept."""
    async with opened(url) as engine:
        bucket = FolderBucket(tmp_path)
        store = PictureStore(engine, bucket, timedelta(seconds=-1))
        catalogue = Catalogue(engine)
        walk, _ = await catalogue.request(spec(("a picture of mine", "a wave")), "key:a")
        identity = await stored(store, tmp_path)
        async with engine.begin() as connection:
            key = await connection.scalar(select(pictures.c.key).where(pictures.c.owner == "key:a"))
            await connection.execute(insert(picture_uses).values(picture=key, walk_id=walk.id))
        await Retention({"expired pictures deleted": store.delete_expired}).delete_expired()
        found = await store.get("key:a", identity)
        assert await bucket.present("uploads/") == {found.key}
        await store.delete("key:a", identity)
        with pytest.raises(PictureNotFound):
            await store.get("key:a", identity)
        assert await bucket.present("uploads/") == {found.key}
        await Erasures(engine, bucket).erase(walks.c.id == walk.id)
        await Retention({"expired pictures deleted": store.delete_expired}).delete_expired()
        assert await bucket.present("uploads/") == set()


class _FullBucket(FolderBucket):
    async def delete(self, key: str) -> None:
        raise BucketUnavailable("not now")


async def test_a_deletion_that_broke_off_is_finished_later(url, tmp_path):
    """The file must go in the end, and a new upload of the same picture must not lose its own."""
    async with opened(url) as engine:
        broken = PictureStore(engine, _FullBucket(tmp_path), timedelta(hours=1))
        identity = await stored(broken, tmp_path)
        with pytest.raises(BucketUnavailable):
            await broken.delete("key:a", identity)
        with pytest.raises(PictureNotFound):
            await broken.get("key:a", identity)
        bucket = FolderBucket(tmp_path)
        store = PictureStore(engine, bucket, timedelta(hours=1))
        await stored(store, tmp_path)
        await Retention({"expired pictures deleted": store.delete_expired}).delete_expired()
        found = await store.get("key:a", identity)
        assert await bucket.present("uploads/") == {found.key}
        await store.delete("key:a", identity)


async def test_an_expired_picture_cannot_be_read_before_it_is_deleted(settings, fleet):
    """Workers delete every minute, and may be down."""
    async with running(settings, fleet) as client:
        picture = (await client.post("/api/v1/pictures", content=JPEG)).json()
        async with opened(settings.database_url) as engine, engine.begin() as connection:
            await connection.execute(update(pictures).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        assert (await client.get(picture["url"])).status_code == 404
        again = (await client.post("/api/v1/pictures", content=JPEG)).json()
        assert (await client.get(again["url"])).status_code == 200
