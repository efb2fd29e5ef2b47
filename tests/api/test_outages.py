"""Outages of bucket and PostgreSQL: callers get a problem, watchers wait, the log has two lines, and all recovers."""

import asyncio
import json
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

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
from momalisa_api.store.bucket import StoredObject
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.engine import open_engine, transaction
from momalisa_api.store.fair_queue import FairQueue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.gcs import GcsBucket
from momalisa_api.store.progress import Progress
from momalisa_api.store.tables import keys
from momalisa_api.walks.walk import State
from tests.support.api_process import answers, serving
from tests.support.deployment import free_port, wait_until
from tests.support.factories import FakeFleet, spec
from tests.support.gcs import FakeGcs
from tests.support.postgres import Postgres, clean_engine, server

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 9, "spacing": "uniform"}


def test_an_outage_is_logged_once_at_its_beginning_and_once_at_its_end():
    """A thousand callers may be affected, but an operator needs only two lines."""
    outage = Outage("bucket", quiet_s=0)
    with capture_logs() as log:
        outage.answered()
        for _ in range(1000):
            outage.missed(OSError("no route to host"))
        for _ in range(1000):
            outage.answered()
    [begin, end] = log
    assert (begin["log_level"], begin["part"], begin["reason"]) == ("warning", "bucket", "no route to host")
    assert (end["log_level"], end["part"], end["away_s"]) == ("info", "bucket", 0.0)


def test_failures_between_successes_are_one_outage():
    """It ends after some time without failures; otherwise half of the calls would each log a line."""
    outage = Outage("bucket", quiet_s=3600)
    with capture_logs() as log:
        for _ in range(100):
            outage.missed(TimeoutError())
            outage.answered()
    assert [line["reason"] for line in log] == ["TimeoutError"]


async def test_a_failing_disk_is_an_unavailable_bucket(tmp_path):
    """Operators fix a full or broken disk; visitors should retry. Here a file blocks the folder's path."""
    bucket = FolderBucket(tmp_path)
    (tmp_path / "frames").write_bytes(b"")
    film = tmp_path / "film"
    film.write_bytes(b"film")

    async def read() -> None:
        async for _ in bucket.stream(StoredObject("frames/r/0.png", 9, "", None), 0, 9):
            pass

    with capture_logs() as log:
        for request in (
            lambda: bucket.put("frames/r/0.png", b""),
            lambda: bucket.put_file("frames/r/0.png", film),
            lambda: bucket.get("frames/r/0.png"),
            lambda: bucket.look("frames/r/0.png"),
            lambda: bucket.delete("frames/r/0.png"),
            read,
        ):
            with pytest.raises(BucketUnavailable):
                await request()
    assert [line["event"] for line in log] == ["dependency unavailable"]
    (tmp_path / "frames").unlink()
    assert await bucket.put("frames/r/0.png", b"")


@contextmanager
def listening(settings: Settings, fleet: FakeFleet) -> Iterator[str]:
    """The URL of an API with a fake fleet, behind a real server."""
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
    """A fake GCS, which the environment points to, with a short time limit."""
    monkeypatch.setitem(GcsBucket.__init__.__kwdefaults__, "patience_s", 0.5)
    with FakeGcs().running() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield store


def done(url: str) -> str:
    """The URL of a finished walk."""
    walk = httpx.post(f"{url}/api/v1/walks", json=REQUEST).json()
    wait_until(lambda: httpx.get(url + walk["url"]).json()["state"] == "done")
    return str(url + walk["url"])


@pytest.mark.parametrize("refused", [".", "alt=media"])
def test_pictures_of_a_failing_bucket_are_a_problem_and_not_half_a_response(store, fleet, settings, refused):
    """Also if the store still reports the size but sends no byte: the status must not be sent before."""
    fleet.add()
    with listening(settings.model_copy(update={"bucket": f"gs://{store.bucket}"}), fleet) as url:
        walk = done(url)
        assert httpx.get(f"{walk}/frames.zip").status_code == 200
        store.fail(refused, times=math.inf)
        for name in ("frames/0.png", "frames.zip", "walk.gif", "poster.webp"):
            response = httpx.get(f"{walk}/{name}", timeout=20)
            assert (response.status_code, response.headers["retry-after"]) == (503, "10")
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["type"] == "urn:momalisa:problem:bucket-unavailable"
        store.clear_faults()
        for name in ("frames/0.png", "frames.zip", "walk.gif", "poster.webp"):
            assert httpx.get(f"{walk}/{name}").status_code == 200


def test_an_interrupted_download_is_an_error_for_the_caller_without_a_stack_trace(store, fleet, settings, caplog):
    """Half a film must never count as a film, and a hundred interrupted ones must not fill the log."""
    fleet.add()
    with listening(settings.model_copy(update={"bucket": f"gs://{store.bucket}"}), fleet) as url:
        walk = done(url)
        # Much larger than one read from the bucket and the buffers of sockets.
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
    """A separate server, since it stops now and then."""
    with server() as postgres:
        yield postgres


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalogue.sqlite"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.url


async def test_a_statement_that_the_database_refuses_is_not_an_outage(url):
    """A bug that looked like an outage would be retried for ever."""
    row = {"name": "somebody", "digest": "0", "made_at": datetime.now(UTC)}
    async with clean_engine(url) as engine:
        with capture_logs() as log:
            with pytest.raises(DBAPIError):
                async with transaction(engine) as connection:
                    await connection.execute(text("SELECT nothing FROM nowhere"))
            with pytest.raises(IntegrityError):
                async with transaction(engine) as connection:
                    await connection.execute(insert(keys).values([row, row]))
    assert log == []


async def test_a_locked_sqlite_file_is_an_outage(tmp_path):
    """As is a full disk: retrying may help, and there is no bug."""
    async with clean_engine(f"sqlite:///{tmp_path}/catalogue.sqlite", sqlite_wait_ms=50) as engine:
        async with engine.connect() as holder:
            await holder.execute(text("BEGIN IMMEDIATE"))
            with pytest.raises(CatalogueUnavailable):
                await Catalogue(engine).request(spec(), "somebody")
        assert await Catalogue(engine).request(spec(), "somebody")


async def test_a_stopped_server_is_an_outage_and_new_connections_are_opened_afterwards(postgres):
    """Every pooled connection is dead by then, and no caller may get one."""
    async with clean_engine(postgres.url) as engine:
        fair_queue = FairQueue(engine)
        with capture_logs() as log:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(fair_queue.counts)
            postgres.stop()
            for _ in range(20):
                with pytest.raises(CatalogueUnavailable) as problem:
                    await fair_queue.counts()
            postgres.start()
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(fair_queue.counts)
    assert (problem.value.status, problem.value.headers["Retry-After"]) == (503, "10")
    assert [line["event"] for line in log] == ["dependency unavailable"]


async def test_an_interrupted_transaction_is_an_outage(postgres):
    """Its result is unknown, so the caller retries; all transactions are safe to repeat."""
    async with clean_engine(postgres.url) as engine:

        async def cut() -> None:
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT 1"))
                await anyio.to_thread.run_sync(postgres.restart)
                await connection.execute(text("SELECT 1"))

        with pytest.raises(CatalogueUnavailable):
            await cut()
        assert await FairQueue(engine).counts()


async def test_a_frozen_server_is_an_outage_too(postgres):
    """A lost machine closes no connection; callers must not wait for the timeout of TCP."""
    async with clean_engine(postgres.url, answer_s=1.0) as engine:
        fair_queue = FairQueue(engine)
        await fair_queue.counts()
        with postgres.frozen():
            for _ in range(2):
                with anyio.fail_after(10), pytest.raises(CatalogueUnavailable):
                    await fair_queue.counts()
        assert await fair_queue.counts()


async def test_a_frozen_transaction_does_not_block_others(postgres):
    """A machine lost during a transaction would lock the walk's row until TCP times out, which takes hours."""
    async with clean_engine(postgres.url) as engine, clean_engine(postgres.url, answer_s=0.5) as another:
        await Catalogue(engine).request(spec(), "somebody")
        async with another.connect() as frozen:
            await frozen.execute(text("SELECT 1 FROM walks FOR UPDATE"))
            assert await Progress(engine).move(spec().id, State.WAITING, State.RENDERING)
            await frozen.invalidate()


async def test_a_transaction_rolled_back_by_a_deadlock_can_be_retried(postgres):
    """PostgreSQL ends one of two transactions that wait for each other; its walk must not fail."""
    async with clean_engine(postgres.url) as engine:
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


class EventReader(threading.Thread):
    """Reads a walk's events, line by line."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.lines = url, list[str]()
        self.start()

    def run(self) -> None:
        with httpx.stream("GET", f"{self.url}/events", timeout=30) as stream:
            self.lines.extend(filter(None, stream.iter_lines()))
        self.lines.append("the end")

    def states(self) -> list[str]:
        return [json.loads(line.removeprefix("data: "))["state"] for line in self.lines if line.startswith("data: ")]


def responses_of_all_routes(url: str, walk: str) -> list[httpx.Response]:
    """One response of every route that needs the catalogue."""
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
    async with clean_engine(url):
        pass


async def fail_in_another_process(url: str, walk_id: str) -> None:
    """Move a walk to failed, as another process might."""
    engine = open_engine(url)
    assert await Progress(engine).move(walk_id, State.WAITING, State.FAILED, error="for a test")
    await engine.dispose()


def test_the_api_reports_an_outage_of_postgresql_and_recovers(postgres, tmp_path):
    """A real process: requests get a problem, watchers wait, and the log has two lines."""
    asyncio.run(emptied(postgres.url))
    with serving(tmp_path, MOMALISA_DATABASE_URL=postgres.url) as (process, url):
        lines: list[str] = []
        drains = [threading.Thread(target=lines.extend, args=[out]) for out in (process.stdout, process.stderr)]
        for drain in drains:
            drain.start()
        wait_until(lambda: answers(url))
        walk = url + httpx.post(f"{url}/api/v1/walks", json=REQUEST).json()["url"]
        reader = EventReader(walk)
        wait_until(lambda: reader.lines)

        def count_logged(event: str) -> int:
            return sum(event in line and '"catalogue"' in line for line in lines)

        postgres.stop()
        for _ in range(5):
            for response in responses_of_all_routes(url, walk):
                assert (response.status_code, response.headers["retry-after"]) == (503, "10"), response.url
                assert response.json()["type"] == "urn:momalisa:problem:catalogue-unavailable"
        assert httpx.get(f"{url}/healthz").is_success
        assert httpx.get(f"{url}/api/v1/model").is_success
        wait_until(lambda: ": ping" in reader.lines)
        postgres.start()
        assert httpx.get(walk).status_code == 200
        asyncio.run(fail_in_another_process(postgres.url, walk.rpartition("/")[2]))
        wait_until(lambda: "the end" in reader.lines)
        wait_until(lambda: httpx.get(walk).is_success and count_logged("dependency available again"))
        process.send_signal(signal.SIGTERM)
        for drain in drains:
            drain.join(10)
    assert list(dict.fromkeys(reader.states())) == ["waiting", "failed"]
    assert (count_logged("dependency unavailable"), count_logged("dependency available again")) == (1, 1)
    assert not [line for line in lines if "Traceback" in line]
