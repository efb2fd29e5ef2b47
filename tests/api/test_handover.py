"""What a visitor did before signing in becomes the user's: with every table, in both databases."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from momalisa_api.pictures.decoders import RemuxedClip
from momalisa_api.settings import Settings
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.clips import ClipStore
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.gallery import Gallery
from momalisa_api.store.handover import COUNTED, Handover
from momalisa_api.store.pictures import PictureStore
from momalisa_api.store.schema import opened
from momalisa_api.store.tables import metadata, notices, uploads
from tests.support.factories import FakeFleet, running, spec
from tests.support.oidc import Provider, sign_in, with_sign_in

pytestmark = pytest.mark.anyio
# Fresh owners in each run, as the tests share a PostgreSQL.
VISITOR, USER = "cookie:0123456789", "user:" + "0" * 40


async def test_everything_of_a_visitor_becomes_the_users(url: str, tmp_path: Path):
    """Walks, uploads, and limits. What both have stays the user's own; a second time changes nothing."""
    async with opened(url) as engine:
        catalogue, gallery = Catalogue(engine), Gallery(engine)
        bucket, kept = FolderBucket(tmp_path / "bucket"), timedelta(hours=1)
        pictures, clips = PictureStore(engine, bucket, kept), ClipStore(engine, bucket, kept)
        specs = [spec(seed=seed) for seed in (7001, 7002, 7003)]
        await catalogue.request(specs[0], VISITOR, listed=False)
        await catalogue.request(specs[1], VISITOR, listed=True)
        await catalogue.request(specs[1], USER, listed=False)
        await catalogue.request(specs[2], USER, listed=True)
        (tmp_path / "file").write_bytes(b"a picture")
        for owner, identity in ((VISITOR, "a" * 64), (VISITOR, "b" * 64), (USER, "b" * 64)):
            await pictures.add(owner, identity, 8, 8, tmp_path / "file")
            await clips.add(owner, RemuxedClip(tmp_path / "file", identity, "mp4", 2.0, 8, 8, 20, has_sound=False))
        now = datetime.now(UTC)
        async with engine.begin() as connection:
            await connection.execute(insert(uploads).values(owner=VISITOR, size=5, uploaded_at=now))
            for walk in specs[:2]:
                row = {"walk_id": walk.id, "owner": VISITOR, "kind": "mail", "target": "a@b.c", "tries": 0}
                await connection.execute(insert(notices).values(**row, id=walk.id[:32], created_at=now))
        for _ in range(2):
            await Handover(engine).move(VISITOR, USER)
            listed = [await gallery.is_listed(each.id, USER) for each in specs]
            assert listed == [False, False, True]
            assert [(await pictures.get(USER, letter * 64)).id[0] for letter in "ab"] == ["a", "b"]
            assert {clip.id[0] for clip in await clips.of_owner(USER)} == {"a", "b"}
            # A second row of one picture would stop this.
            await pictures.add(USER, "b" * 64, 8, 8, tmp_path / "file")
            async with engine.connect() as connection:
                assert await connection.scalar(select(func.count()).where(notices.c.owner == USER)) == 2
                for table in metadata.sorted_tables:
                    if "owner" in table.c:
                        assert not await connection.scalar(select(func.count()).where(table.c.owner == VISITOR)), table
        for each in specs:
            await catalogue.remove(each.id)
        for letter in "ab":
            await clips.delete(USER, letter * 64)


def test_no_table_of_owners_is_forgotten():
    """Whoever adds one decides what becomes of its rows, in store/handover.py and in the test above."""
    owned = {table.name for table in metadata.sorted_tables if "owner" in table.c}
    assert owned == {"asks", "notices", "pictures", "clips"} | {table.name for table in COUNTED}


async def test_a_visitor_claims_walks_at_sign_in_or_leaves_them(
    settings: Settings, fleet: FakeFleet, provider: Provider
):
    """Only what this browser's cookie owns, and only if the visitor says so."""
    async with running(with_sign_in(settings, provider), fleet) as client:
        walk = (await client.post("/api/v1/walks", json={"start": "a", "end": "b", "frames": 2})).json()
        await sign_in(client)
        assert (await client.get("/api/v1/walks?owner=me")).json()["walks"] == []
        await sign_in(client, query="?claim=true")
        assert [each["id"] for each in (await client.get("/api/v1/walks?owner=me")).json()["walks"]] == [walk["id"]]
        await client.post("/api/v1/sign-out")
        assert (await client.get("/api/v1/walks?owner=me")).json()["walks"] == []
