"""Deletion by owners, and what they take along before: nothing is left of theirs, and nothing of others is lost."""

import io
import json
import zipfile
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from sqlalchemy import func, select, update

from momalisa_api.problems import BucketUnavailable
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.erasures import LATE, Erasures
from momalisa_api.store.expiry import Expiry, Kept
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import asks, charges, erasures, landings, metadata, pictures, uploads, walks
from momalisa_api.walks.rounds import first_layout
from momalisa_api.walks.walk import State, Walk
from tests.support.factories import ended, running, spec
from tests.support.finished_walks import add_finished_walk
from tests.support.pictures import encoded, scene

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 3, "spacing": "uniform"}
DAY = timedelta(days=1)
NOW = timedelta()


def files_in(folder: Path | str) -> set[str]:
    root = Path(folder)
    return {str(path.relative_to(root)) for path in root.glob("*/**/*") if path.is_file()}


@asynccontextmanager
async def visitors(settings: Any, fleet: Any):
    """Two owners."""
    async with (
        running(settings, fleet) as first,
        httpx.AsyncClient(transport=first._transport, base_url="http://api") as second,
    ):
        yield first, second


async def made(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    return await ended(client, (await client.post("/api/v1/walks", json={**REQUEST, **changes})).json())


async def test_a_deleted_walk_leaves_nothing(settings, fleet):
    """Neither its frames and films nor the request, the walk and its search words."""
    async with visitors(settings, fleet) as (owner, _):
        walk = await made(owner, listed=False)
        assert len(files_in(settings.bucket)) > 8
        gone = await owner.delete(walk["url"], params={"erase": True})
        assert (gone.status_code, gone.content) == (204, b"")
        assert files_in(settings.bucket) == set()
        async with opened(settings.database_url) as engine:
            await Erasures(engine, FolderBucket(Path(settings.bucket)), late=NOW).sweep(walk["id"])
            async with engine.connect() as connection:
                for table in (walks, asks, landings, erasures):
                    assert await connection.scalar(select(func.count()).select_from(table)) == 0, table.name
        for tail in ("", "/walk.gif", "/frames/0.png", "/request"):
            assert (await owner.get(walk["url"] + tail)).status_code == 404, tail


async def test_what_others_requested_stays_for_them(settings, fleet):
    """The walk itself, and frames that another walk shares."""
    async with visitors(settings, fleet) as (owner, other):
        shared, longer = await made(owner), await made(owner, frames=5)
        await other.post("/api/v1/walks", json=REQUEST)
        stranger = await other.delete(longer["url"], params={"erase": True})
        assert (stranger.status_code, stranger.json()["type"]) == (403, "urn:momalisa:problem:not-owner")
        for walk in (shared, longer):
            assert (await owner.delete(walk["url"], params={"erase": True})).status_code == 204
        assert (await owner.get(longer["url"])).status_code == 404
        assert (await owner.get(f"{shared['url']}/request")).json()["mine"] is False
        for tail in ("", "/walk.gif", "/frames/0.png", "/frames/1.png", "/frames/2.png"):
            assert (await other.get(shared["url"] + tail)).status_code == 200, tail
        frames = [name for name in files_in(settings.bucket) if name.startswith("frames/") and name.endswith(".png")]
        assert len(frames) == 3


async def test_a_walk_that_is_deleted_while_it_is_rendered_leaves_nothing(settings, fleet):
    """Its worker stops; frames that were stored meanwhile are found by the second look."""
    replica = fleet.add(frame_s=0.05)
    async with visitors(settings, fleet) as (owner, _):
        walk = (await owner.post("/api/v1/walks", json={**REQUEST, "frames": 40})).json()
        with anyio.fail_after(5):
            while replica.sent < 3:
                await anyio.sleep(0.01)
        assert (await owner.delete(walk["url"], params={"erase": True})).status_code == 204
        with anyio.fail_after(5):
            while not replica.closed:
                await anyio.sleep(0.01)
        assert replica.sent < 40
    bucket = FolderBucket(Path(settings.bucket))
    recipe = spec(frames=40).recipes(0)[0]
    await bucket.put(f"{recipe.folder}0.123.png", b"stored by a worker that did not know of the deletion")
    async with opened(settings.database_url) as engine:
        await Erasures(engine, bucket).sweep()
        async with engine.begin() as connection:
            last = (await connection.execute(select(erasures))).one()
            assert last.due_at - last.erased_at == LATE, "they are looked for again"
            await connection.execute(update(erasures).values(due_at=datetime.now(UTC)))
        assert await Erasures(engine, bucket, late=NOW).sweep() == 1
        assert await Erasures(engine, bucket, late=NOW).sweep() == 0
    assert files_in(settings.bucket) == set()


class _Broken(FolderBucket):
    """A bucket that stops in the middle of a deletion."""

    left = 2

    async def delete(self, key: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise BucketUnavailable("not now")
        await super().delete(key)


async def finished(engine: Any, bucket: FolderBucket, **changes: Any) -> Walk:
    """A finished walk with frames, one film and thumbnails in the bucket."""
    walk = await add_finished_walk(engine, spec(**{"frames": 3, **changes}), films=["walk.gif"])
    for key in [frame.key for frame in walk.frames] + [f"walks/{walk.id}/{name}" for name in ("walk.gif", "sheet.png")]:
        await bucket.put(key, b"x")
    return walk


async def test_a_deletion_that_broke_off_is_finished_later(url, tmp_path):
    """The walk is gone at once; its files follow when the bucket answers again."""
    async with opened(url) as engine:
        broken = _Broken(tmp_path)
        walk = await finished(engine, broken, seed=100)
        with pytest.raises(BucketUnavailable):
            await Erasures(engine, broken).purge(walk.id)
        assert not await Catalogue(engine).knows(walk.id)
        assert 0 < len(files_in(tmp_path)) < 5
        assert await Erasures(engine, FolderBucket(tmp_path), late=NOW).sweep() >= 1
        assert files_in(tmp_path) == set()


async def test_a_walk_that_is_requested_again_keeps_its_files(url, tmp_path):
    """Its id and its frames are those of the deleted one."""
    async with opened(url) as engine:
        bucket, late = FolderBucket(tmp_path), Erasures(engine, FolderBucket(tmp_path))
        walk = await finished(engine, bucket, seed=101)
        await late.purge(walk.id)
        again = await finished(engine, bucket, seed=101)
        assert again.id == walk.id
        before = files_in(tmp_path)
        await late.sweep(walk.id)
        assert files_in(tmp_path) == before
        await late.purge(walk.id)
        assert files_in(tmp_path) == set()


async def test_an_owner_takes_everything_along_and_deletes_it(settings, fleet):
    """Walks, films and pictures of one owner, and nothing of another one."""
    async with visitors(settings, fleet) as (owner, other):
        await made(other, listed=False)
        before = files_in(settings.bucket)
        kept = (await other.post("/api/v1/pictures", content=encoded(scene(), "JPEG"))).json()
        before |= files_in(settings.bucket)
        walk = await made(owner, listed=False, start='<b>&"')
        picture = (await owner.post("/api/v1/pictures", content=encoded(scene(), "PNG"))).json()
        await owner.delete((await made(owner, listed=False, seed=9))["url"])
        me = (await owner.get("/api/v1/me")).json()
        assert (me["kind"], me["walks"], me["pictures"]) == ("cookie", 1, 1)
        packed = await owner.get("/api/v1/me/archive.zip")
        assert packed.headers["cache-control"].startswith("private")
        archive = zipfile.ZipFile(io.BytesIO(packed.content))
        assert archive.testzip() is None
        films = {f"walks/{walk['id']}/{name}" for name in walk["films"]}
        listed = {"index.html", f"walks/{walk['id']}/walk.json", f"pictures/{picture['id']}.png"}
        assert set(archive.namelist()) == films | listed
        facts = json.loads(archive.read(f"walks/{walk['id']}/walk.json"))
        assert facts["spec"] == walk["spec"]
        assert "scope" not in json.dumps(facts)
        page = archive.read("index.html").decode()
        assert all(f'href="{name}"' in page for name in films)
        assert "&lt;b&gt;&amp;&quot; → a battleship" in page
        assert archive.read(f"pictures/{picture['id']}.png") == (await owner.get(picture["url"])).content
        tail = await owner.get("/api/v1/me/archive.zip", headers={"Range": "bytes=100-"})
        assert (tail.status_code, tail.content) == (206, packed.content[100:])
        cookie = owner.cookies["momalisa_owner"]
        gone = await owner.delete("/api/v1/me")
        assert gone.status_code == 204
        assert "momalisa_owner" not in owner.cookies
        owner.cookies.set("momalisa_owner", cookie)
        me = (await owner.get("/api/v1/me")).json()
        assert (me["walks"], me["pictures"]) == (0, 0)
        assert files_in(settings.bucket) == before
        assert (await other.get(kept["url"])).status_code == 200
        async with opened(settings.database_url) as engine, engine.connect() as connection:
            owned = [table for table in metadata.sorted_tables if "owner" in table.c and table.name != "keys"]
            mine = [table.c.owner == f"cookie:{cookie.split('.')[0]}" for table in owned]
            counts = [await connection.scalar(select(func.count()).where(one)) for one in mine]
            left = {table.name for table, count in zip(owned, counts, strict=True) if count}
        # Limits count these for a day.
        assert left <= {charges.name, uploads.name, "notice_charges"}
        assert {asks, pictures} <= set(owned)


async def test_nothing_is_the_own_of_an_anonymous_caller(settings, fleet):
    """All of them share one owner: one could delete the walks of the others."""
    async with running(settings, fleet) as client:
        await client.get("/api/v1/walk?start=a&end=b&frames=2")
        for method, path in (("DELETE", "/api/v1/me"), ("GET", "/api/v1/me/archive.zip")):
            refused = await client.request(method, path)
            assert (refused.status_code, refused.json()["type"]) == (403, "urn:momalisa:problem:no-identity")
        assert (await client.get("/api/v1/me")).json()["walks"] == 0


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        (Kept(), {"frame", "film", "sheet", "walk"}),
        (Kept(frames=DAY), {"film", "walk"}),
        (Kept(films=DAY), {"frame", "sheet", "walk"}),
        (Kept(walks=DAY), set()),
        (Kept(frames=DAY, films=DAY), {"walk"}),
    ],
)
async def test_what_is_kept_for_some_time_is_removed_afterwards(url, tmp_path, kept, left):
    """Of a walk that ended before; one that has just ended keeps everything, also the frames that both share."""
    async with opened(url) as engine:
        bucket, catalogue = FolderBucket(tmp_path), Catalogue(engine)
        erased = Erasures(engine, bucket, late=NOW)
        old, new = await finished(engine, bucket, seed=102), await finished(engine, bucket, seed=102, frames=5)
        await _age(engine, old, 2 * DAY)
        expiry = Expiry(engine, bucket, erased, kept)
        while await expiry.remove_due():
            pass
        await erased.sweep()
        names = files_in(tmp_path)
        theirs = {f"walks/{new.id}/walk.gif", f"walks/{new.id}/sheet.png", *(frame.key for frame in new.frames)}
        assert theirs <= names
        found = {"film"} if f"walks/{old.id}/walk.gif" in names else set()
        found |= {"sheet"} if f"walks/{old.id}/sheet.png" in names else set()
        found |= {"walk"} if await catalogue.knows(old.id) else set()
        if found >= {"walk"}:
            walk = await catalogue.get(old.id)
            found |= {"frame"} if walk.frames_ready else set()
            assert ("film" in found) is bool(walk.films_ready)
        assert found == left
        await erased.erase(walks.c.id.in_([old.id, new.id]))
        await erased.sweep()


async def _age(engine: Any, walk: Walk, age: timedelta) -> None:
    async with engine.begin() as connection:
        ended_at = datetime.now(UTC) - age
        await connection.execute(update(walks).where(walks.c.id == walk.id).values(finished_at=ended_at))


async def test_frames_that_only_expired_walks_use_are_removed(url, tmp_path):
    """The last of them takes the frames along, in whatever order."""
    async with opened(url) as engine:
        bucket = FolderBucket(tmp_path)
        erased = Erasures(engine, bucket, late=NOW)
        both = [await finished(engine, bucket, seed=103, frames=frames) for frames in (3, 5)]
        for walk in both:
            await _age(engine, walk, 2 * DAY)
        expiry = Expiry(engine, bucket, erased, Kept(frames=DAY))
        while await expiry.remove_due():
            pass
        assert {name for name in files_in(tmp_path) if name.startswith("frames/")} == set()
        await erased.erase(walks.c.id.in_([walk.id for walk in both]))


async def test_a_private_walk_that_nobody_requests_is_deleted_after_a_day(url, tmp_path):
    """Its owner withdrew: nobody can read it. A public one stays, as today."""
    async with opened(url) as engine:
        bucket = FolderBucket(tmp_path)
        private, public = spec(seed=104, frames=3).in_scope("a" * 32), spec(seed=104, frames=3)
        for one in (private, public):
            walk = await add_finished_walk(engine, one)
            await Catalogue(engine).withdraw(walk.id, "cookie:somebody")
        expiry = Expiry(engine, bucket, Erasures(engine, bucket), Kept())
        assert await expiry.remove_due() == 0
        for one in (private, public):
            await _age(engine, await Catalogue(engine).get(one.id), 2 * DAY)
        assert await expiry.remove_due() == 1
        assert await Catalogue(engine).revisions([private.id, public.id]) == {public.id: 5}


async def test_a_walk_without_files_says_so_and_can_be_requested_again(settings, fleet):
    """After the time of the settings: 410 with what to do, and not a page of broken pictures."""
    async with running(settings, fleet) as client:
        walk = await made(client)
        async with opened(settings.database_url) as engine:
            bucket = FolderBucket(Path(settings.bucket))
            await _age(engine, await Catalogue(engine).get(walk["id"]), 2 * DAY)
            expiry = Expiry(engine, bucket, Erasures(engine, bucket), Kept(frames=DAY, films=DAY))
            assert await expiry.remove_due() == 2
        await anyio.lowlevel.checkpoint()
        now = (await client.get(walk["url"])).json()
        assert (now["state"], now["films"], now["frames_ready"]) == ("done", {}, [])
        assert "frames and films of this walk have been deleted" in now["message"]
        assert (await client.get("/api/v1/walks")).json()["walks"] == []
        assert len((await client.get("/api/v1/walks?owner=me")).json()["walks"]) == 1
        for tail in ("/walk.gif", "/frames/0.png", "/frames.zip"):
            gone = await client.get(walk["url"] + tail)
            assert (gone.status_code, gone.json()["type"]) == (410, "urn:momalisa:problem:gone"), tail
        again = await made(client)
        assert (again["state"], again["message"], len(again["frames_ready"])) == ("done", None, 3)
        assert (await client.get(walk["url"] + "/walk.gif")).status_code == 200


async def test_the_end_of_a_walk_is_recorded_until_it_starts_again(url):
    """Its time to be kept begins then."""
    async with opened(url) as engine:
        catalogue, progress = Catalogue(engine), Progress(engine)
        walk, _ = await catalogue.request(spec(seed=105), "cookie:a")

        async def ended_at() -> datetime | None:
            async with engine.connect() as connection:
                return await connection.scalar(select(walks.c.finished_at).where(walks.c.id == walk.id))

        await progress.plan(walk, first_layout(walk.spec), [], [[0]])
        assert await ended_at() is None
        await catalogue.withdraw(walk.id, "cookie:a")
        assert await ended_at() is not None
        assert await catalogue.restart(await catalogue.get(walk.id), "cookie:a", frames=25)
        assert await ended_at() is None
        await progress.move(walk.id, State.WAITING, State.FAILED, error="x")
        assert await ended_at() is not None
        await catalogue.remove(walk.id)
