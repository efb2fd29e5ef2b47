"""The bucket refuses, PostgreSQL is away: callers are told, watchers wait, the log says it once, and all goes on."""

import asyncio
import json
import math
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from structlog.testing import capture_logs

from momalisa_api.app import create_app
from momalisa_api.outages import Outage
from momalisa_api.problems import BucketUnavailable, CatalogueUnavailable
from momalisa_api.settings import Settings
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine, transaction
from momalisa_api.store.fair_queue import FairQueue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.gcs import GcsBucket
from momalisa_api.store.progress import Progress
from momalisa_api.store.queue import migrate_queue
from momalisa_api.store.schema import migrate
from momalisa_api.store.tables import keys
from momalisa_api.walks.walk import State
from tests.support.api_process import answers, serving
from tests.support.deployment import free_port, wait_until
from tests.support.factories import FakeFleet, spec
from tests.support.gcs import FakeGcs
from tests.support.postgres import Postgres, server

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_is_over():
    """A thousand callers meet the same one, and an operator wants to find two lines."""
    outage = Outage("bucket", quiet_s=0)
    with capture_logs() as said:
        outage.answered()
        for _ in range(1000):
            outage.missed(OSError("the cable is out"))
        for _ in range(1000):
            outage.answered()
    [begin, end] = said
    assert (begin["log_level"], begin["part"], begin["reason"]) == ("warning", "bucket", "the cable is out")
    assert (end["log_level"], end["part"], end["away_s"]) == ("info", "bucket", 0.0)


def test_a_part_that_answers_every_other_call_is_one_outage():
    """It is over when it has been quiet for a while, or half the calls would be a line each."""
    outage = Outage("bucket", quiet_s=3600)
    with capture_logs() as said:
        for _ in range(100):
            outage.missed(TimeoutError())
            outage.answered()
    assert [line["reason"] for line in said] == ["TimeoutError"]


async def test_a_disk_that_refuses_is_a_bucket_that_does_not_answer(tmp_path):
    """Full or broken, it is an operator's to mend; visitors are told to come back. Here a file is in the way."""
    bucket = FolderBucket(tmp_path)
    (tmp_path / "frames").write_bytes(b"")
    film = tmp_path / "film"
    film.write_bytes(b"film")

    async def read() -> None:
        async for _ in bucket.stream("frames/r/0.png", 0, 9):
            pass

    with capture_logs() as said:
        for ask in (
            lambda: bucket.put("frames/r/0.png", b""),
            lambda: bucket.put_file("frames/r/0.png", film),
            lambda: bucket.get("frames/r/0.png"),
            lambda: bucket.size("frames/r/0.png"),
            lambda: bucket.delete("frames/r/0.png"),
            read,
        ):
            with pytest.raises(BucketUnavailable):
                await ask()
    assert [line["event"] for line in said] == ["dependency unavailable"]
    (tmp_path / "frames").unlink()
    assert await bucket.put("frames/r/0.png", b"")


@contextmanager
def listening(settings: Settings, fleet: FakeFleet) -> Iterator[str]:
    """Where an api over a made-up fleet answers, behind a real server."""
    app = create_app(settings.model_copy(update={"replicas": fleet.addresses}), fleet.client)
    port = free_port()
    web = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        wait_until(lambda: web.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        web.should_exit = True
        thread.join(10)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    """A made-up GCS that the environment leads to; patience with it is short here."""
    monkeypatch.setitem(GcsBucket.__init__.__kwdefaults__, "patience_s", 0.5)
    with FakeGcs().running() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield store


def done(url: str) -> str:
    """The url of a walk that is done."""
    walk = httpx.post(f"{url}/api/v1/walks", json=REQUEST).json()
    wait_until(lambda: httpx.get(url + walk["url"]).json()["state"] == "done")
    return str(url + walk["url"])


@pytest.mark.parametrize("refused", [".", "alt=media"])
def test_pictures_of_a_bucket_that_refuses_are_a_problem_and_no_half_answer(store, fleet, settings, refused):
    """Also where the store still knows the size, but gives no byte: the status must not be sent before."""
    fleet.add()
    with listening(settings.model_copy(update={"bucket": f"gs://{store.bucket}"}), fleet) as url:
        walk = done(url)
        assert httpx.get(f"{walk}/frames.zip").status_code == 200
        store.fail(refused, times=math.inf)
        for name in ("frames/0.png", "frames.zip", "walk.gif", "poster.webp"):
            away = httpx.get(f"{walk}/{name}", timeout=20)
            assert (away.status_code, away.headers["retry-after"]) == (503, "10")
            assert away.headers["content-type"] == "application/problem+json"
            assert away.json()["type"] == "urn:momalisa:problem:bucket-unavailable"
        store.clear_faults()
        for name in ("frames/0.png", "frames.zip", "walk.gif", "poster.webp"):
            assert httpx.get(f"{walk}/{name}").status_code == 200


def test_a_picture_that_breaks_off_is_seen_by_its_caller_and_is_no_stack_trace(store, fleet, settings, caplog):
    """Half a film must never be taken for a film; and a hundred of them must not bury the log."""
    fleet.add()
    with listening(settings.model_copy(update={"bucket": f"gs://{store.bucket}"}), fleet) as url:
        walk = done(url)
        # Many times what is read from the bucket at once, and what sockets buffer.
        [name] = [name for name in store.objects if name.endswith("walk.gif")]
        store.objects[name].content = bytes(64 * 2**20)
        with httpx.stream("GET", f"{walk}/walk.gif", timeout=20) as answer:
            pieces = answer.iter_raw()
            assert next(pieces)
            store.fail(".", times=math.inf)
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server of our own: it goes away now and then."""
    with server() as postgres:
        yield postgres


@asynccontextmanager
async def migrated(url: str, **limits: Any) -> AsyncIterator[Any]:
    """An engine over the newest schema, with no walk in it."""
    engine = open_engine(url, **limits)
    try:
        await migrate(engine)
        await migrate_queue(engine)
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM walks"))
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalogue.sqlite"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.url


async def test_what_a_database_refuses_is_no_outage(url):
    """A bug of ours that read like an outage would be waited for, for ever."""
    row = {"name": "somebody", "digest": "0", "made_at": datetime.now(UTC)}
    async with migrated(url) as engine:
        with capture_logs() as said:
            with pytest.raises(DBAPIError):
                async with transaction(engine) as connection:
                    await connection.execute(text("SELECT nothing FROM nowhere"))
            with pytest.raises(IntegrityError):
                async with transaction(engine) as connection:
                    await connection.execute(insert(keys).values([row, row]))
    assert said == []


async def test_a_sqlite_file_that_somebody_holds_is_an_outage(tmp_path):
    """So is a full disk: a thing to come back for, and no bug."""
    async with migrated(f"sqlite:///{tmp_path}/catalogue.sqlite", sqlite_wait_ms=50) as engine:
        async with engine.connect() as holder:
            await holder.execute(text("BEGIN IMMEDIATE"))
            with pytest.raises(CatalogueUnavailable):
                await Catalogue(engine).request(spec(), "somebody")
        assert await Catalogue(engine).request(spec(), "somebody")


async def test_a_server_that_is_away_is_told_and_a_new_connection_made_when_it_is_back(postgres):
    """Every pooled connection is dead by then, and nobody may meet it."""
    async with migrated(postgres.url) as engine:
        turns = FairQueue(engine)
        with capture_logs() as said:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(turns.counts)
            postgres.stop()
            for _ in range(20):
                with pytest.raises(CatalogueUnavailable) as met:
                    await turns.counts()
            postgres.start()
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(turns.counts)
    assert (met.value.status, met.value.headers["Retry-After"]) == (503, "10")
    assert [line["event"] for line in said] == ["dependency unavailable"]


async def test_a_transaction_that_is_cut_in_two_is_an_outage(postgres):
    """Whether it was done, nobody knows: the caller asks again, and everything here may be asked twice."""
    async with migrated(postgres.url) as engine:

        async def cut() -> None:
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT 1"))
                await anyio.to_thread.run_sync(postgres.restart)
                await connection.execute(text("SELECT 1"))

        with pytest.raises(CatalogueUnavailable):
            await cut()
        assert await FairQueue(engine).counts()


async def test_a_server_that_froze_is_an_outage_too(postgres):
    """A machine that is gone breaks no connection; callers must not hang on it for as long as TCP does."""
    async with migrated(postgres.url, answer_s=1.0) as engine:
        turns = FairQueue(engine)
        await turns.counts()
        with postgres.frozen():
            for _ in range(2):
                with anyio.fail_after(10), pytest.raises(CatalogueUnavailable):
                    await turns.counts()
        assert await turns.counts()


async def test_who_freezes_in_a_transaction_holds_nobody_up(postgres):
    """A machine that is gone in mid-transaction would keep the walk's row for as long as TCP does, which is hours."""
    async with migrated(postgres.url) as engine, migrated(postgres.url, answer_s=0.5) as another:
        await Catalogue(engine).request(spec(), "somebody")
        async with another.connect() as frozen:
            await frozen.execute(text("SELECT 1 FROM walks FOR UPDATE"))
            assert await Progress(engine).move(spec().id, State.WAITING, State.RENDERING)
            await frozen.invalidate()


async def test_who_is_rolled_back_for_another_asks_again(postgres):
    """Two that wait for each other's rows: PostgreSQL ends one of them, which is no reason to fail its walk."""
    async with migrated(postgres.url) as engine:
        for number in range(2):
            await Catalogue(engine).request(spec(seed=number), "somebody")
        met, ended = asyncio.Barrier(2), list[CatalogueUnavailable]()

        async def touch(first: int, second: int) -> None:
            change = text("UPDATE walks SET revision = revision + 1 WHERE id = :id")
            try:
                async with transaction(engine) as connection:
                    await connection.execute(change, {"id": spec(seed=first).id})
                    await met.wait()
                    await connection.execute(change, {"id": spec(seed=second).id})
            except CatalogueUnavailable as unavailable:
                ended.append(unavailable)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(touch, 0, 1)
            tasks.start_soon(touch, 1, 0)
    assert len(ended) == 1


class Listener(threading.Thread):
    """Who watches a walk's events, line by line."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.heard = url, list[str]()
        self.start()

    def run(self) -> None:
        with httpx.stream("GET", f"{self.url}/events", timeout=30) as stream:
            self.heard.extend(filter(None, stream.iter_lines()))
        self.heard.append("the end")

    def states(self) -> list[str]:
        return [json.loads(line.removeprefix("data: "))["state"] for line in self.heard if line.startswith("data: ")]


def asked_everywhere(url: str, walk: str) -> list[httpx.Response]:
    """One answer of every route that needs the catalogue."""
    with httpx.Client(timeout=10) as client:
        return [
            client.get(walk),
            client.get(f"{walk}/events"),
            client.get(f"{walk}/frames/0.png"),
            client.get(f"{walk}/frames.zip"),
            client.get(f"{walk}/walk.gif"),
            client.delete(walk),
            client.get(f"{url}/api/v1/walks"),
            client.get(f"{url}/api/v1/walks", headers={"Authorization": "Bearer momalisa_key"}),
            client.post(f"{url}/api/v1/walks", json=REQUEST),
            client.get(f"{url}/api/v1/walk?start=a&end=b"),
            client.get(f"{url}/metrics"),
        ]


async def emptied(url: str) -> None:
    async with migrated(url):
        pass


async def failed_elsewhere(url: str, walk_id: str) -> None:
    """What another process may do."""
    engine = open_engine(url)
    assert await Progress(engine).move(walk_id, State.WAITING, State.FAILED, error="for a test")
    await engine.dispose()


def test_an_api_whose_postgres_is_away_tells_its_callers_and_goes_on_by_itself(postgres, tmp_path):
    """A process, from outside: a problem for who calls, patience for who watches, two lines in the log."""
    asyncio.run(emptied(postgres.url))
    with serving(tmp_path, MOMALISA_DATABASE_URL=postgres.url) as (process, url):
        lines: list[str] = []
        drains = [threading.Thread(target=lines.extend, args=[out]) for out in (process.stdout, process.stderr)]
        for drain in drains:
            drain.start()
        wait_until(lambda: answers(url))
        walk = url + httpx.post(f"{url}/api/v1/walks", json=REQUEST).json()["url"]
        listener = Listener(walk)
        wait_until(lambda: listener.heard)

        def said(event: str) -> int:
            return sum(event in line and '"catalogue"' in line for line in lines)

        postgres.stop()
        for _ in range(5):
            for away in asked_everywhere(url, walk):
                assert (away.status_code, away.headers["retry-after"]) == (503, "10"), away.url
                assert away.json()["type"] == "urn:momalisa:problem:catalogue-unavailable"
        assert httpx.get(f"{url}/healthz").is_success
        assert httpx.get(f"{url}/api/v1/model").is_success
        wait_until(lambda: ": ping" in listener.heard)
        postgres.start()
        assert httpx.get(walk).status_code == 200
        asyncio.run(failed_elsewhere(postgres.url, walk.rpartition("/")[2]))
        wait_until(lambda: "the end" in listener.heard)
        wait_until(lambda: httpx.get(walk).is_success and said("dependency available again"))
        process.send_signal(signal.SIGTERM)
        for drain in drains:
            drain.join(10)
    assert list(dict.fromkeys(listener.states())) == ["waiting", "failed"]
    assert (said("dependency unavailable"), said("dependency available again")) == (1, 1)
    assert not [line for line in lines if "Traceback" in line]
