"""The contract of buckets: objects are complete, and the first one under a key stays. For the folder and for GCS.

The tests use a fake GCS. MOMALISA_TEST_BUCKET=gs://NAME/PREFIX runs them with a real bucket instead, or with an
emulator's if STORAGE_EMULATOR_HOST is set. The bucket must exist, and the tests leave nothing in it. Tests of faults
always use the fake.
"""

import contextlib
import math
import os
import subprocess
import sys
import uuid

import anyio
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from momalisa_api.app import open_bucket
from momalisa_api.problems import BucketUnavailable
from momalisa_api.settings import Settings
from momalisa_api.store.bucket import NotInBucket
from momalisa_api.store.folder import CHUNK_BYTES, FolderBucket
from momalisa_api.store.gcs import PATIENCE_S, READ_BYTES, THREADS, TIMEOUT_S, UPLOAD_BYTES, GcsBucket
from tests.support.factories import ended, running, write_card
from tests.support.gcs import FakeGcs

pytestmark = pytest.mark.anyio
REAL_BUCKET = os.environ.get("MOMALISA_TEST_BUCKET")


@pytest.fixture(scope="module")
def store():
    with FakeGcs().running() as store:
        yield store


@pytest.fixture
def gcs(store, monkeypatch):
    """An empty fake GCS without faults, which the environment points to."""
    store.reset()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
    return store


@pytest.fixture
async def gcs_bucket(gcs):
    bucket = GcsBucket(gcs.bucket, "here")
    yield bucket
    await bucket.aclose()


@pytest.fixture(params=["folder", "gcs"])
async def bucket(request, tmp_path, gcs, monkeypatch):
    """Each kind of bucket, empty."""
    if request.param == "folder":
        bucket = FolderBucket(tmp_path / "bucket")
    elif not REAL_BUCKET:
        bucket = GcsBucket(gcs.bucket, "here")
    else:
        monkeypatch.undo()
        bucket = opened(tmp_path, f"{REAL_BUCKET.rstrip('/')}/{uuid.uuid4()}")
    yield bucket
    for folder in ("a/", "frames/r/", "frames/s/", "walks/w/"):
        for key in await bucket.present(folder):
            await bucket.delete(key)
    await bucket.aclose()


def opened(tmp_path, bucket):
    return open_bucket(Settings(model_card=write_card(tmp_path), bucket=bucket))


async def read(bucket, key, first, last):
    return b"".join([chunk async for chunk in bucket.stream(await bucket.look(key), first, last)])


def count_requests(gcs, method):
    """How many requests with this method the fake has received."""
    return sum(request.startswith(method) for request in gcs.requests)


async def test_the_first_object_under_a_key_stays(bucket):
    """Browsers cache frames for good, so a frame must never change."""
    assert await bucket.put("frames/r/0.0.png", b"first")
    assert not await bucket.put("frames/r/0.0.png", b"second")
    assert await bucket.get("frames/r/0.0.png") == b"first"


async def test_the_first_file_under_a_key_stays(bucket, tmp_path):
    """Two workers may film the same walk after a takeover; visitors must not notice."""
    for name, size in (("small", 10), ("large", UPLOAD_BYTES + 10)):
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_bytes(b"1" * size)
        second.write_bytes(b"2" * size)
        assert await bucket.put_file(f"walks/w/{name}", first)
        assert not await bucket.put_file(f"walks/w/{name}", second)
        assert set(await bucket.get(f"walks/w/{name}")) == set(b"1")


async def test_of_many_concurrent_writes_one_succeeds(bucket):
    """Two replicas may render the same frame at the same time."""
    wins = []

    async def write(content: bytes) -> None:
        wins.append(await bucket.put("a/b", content))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(write, bytes([number]) * 100_000)
    assert wins.count(True) == 1
    assert len(set(await bucket.get("a/b"))) == 1
    assert await bucket.present("a/") == {"a/b"}


async def test_a_folder_keeps_no_temporary_files(tmp_path):
    """They are removed after each write, successful or not."""
    bucket = FolderBucket(tmp_path)
    assert [await bucket.put("a/b", b"1"), await bucket.put("a/b", b"2")] == [True, False]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


async def test_the_objects_of_a_folder_are_listed_by_key(bucket):
    """Planning needs one request per recipe, not one per frame."""
    await bucket.put("frames/r/0.5.png", b"")
    await bucket.put("frames/s/0.5.png", b"")
    assert await bucket.present("frames/r/") == {"frames/r/0.5.png"}
    assert await bucket.present("frames/") == frozenset()
    assert await bucket.present("frames/unknown/") == frozenset()


async def test_a_list_of_several_pages_is_complete(bucket, gcs):
    """A recipe can have more frames than one response of the store lists."""
    gcs.page_limit = 3
    keys = {f"frames/r/{number}.png" for number in range(10)}
    for key in keys:
        await bucket.put(key, b"")
    assert await bucket.present("frames/r/") == keys


async def test_a_range_streams_only_its_bytes(bucket, tmp_path):
    """Both ends included, as in HTTP; in several chunks, and correct where chunks meet."""
    content = bytes(range(256)) * (READ_BYTES // 128) + b"tail"
    source = tmp_path / "film"
    source.write_bytes(content)
    assert await bucket.put_file("walks/w/walk.mp4", source)
    found = await bucket.look("walks/w/walk.mp4")
    assert (found.key, found.size) == ("walks/w/walk.mp4", len(content))
    end = len(content) - 1
    for border in (CHUNK_BYTES, READ_BYTES):
        for first, last in ((0, border - 1), (0, border), (border - 1, border), (border, end)):
            assert await read(bucket, "walks/w/walk.mp4", first, last) == content[first : last + 1]
    streamed = [chunk async for chunk in bucket.stream(found, 1000, end)]
    assert b"".join(streamed) == content[1000:]
    assert len(streamed) > 1


async def test_a_range_ends_with_the_object(bucket):
    """The last byte of a range may be beyond the end, and an empty object has no last byte."""
    await bucket.put("a/short", b"0123456789")
    await bucket.put("a/empty", b"")
    assert await read(bucket, "a/short", 5, 1000) == b"56789"
    assert await read(bucket, "a/short", 10, 1000) == b""
    assert await read(bucket, "a/empty", 0, -1) == b""
    assert (await bucket.look("a/empty")).size == 0


async def test_a_missing_key_has_its_own_error(bucket):
    """A missing object is not the same as a bucket that does not respond."""
    for request in (bucket.get("frames/none"), bucket.look("frames/none"), read(bucket, "frames/none", 0, 9)):
        with pytest.raises(NotInBucket):
            await request


async def test_a_key_outside_the_folder_is_an_error(bucket, tmp_path):
    """Users cannot choose keys, so such a key is a bug."""
    (tmp_path / "file").touch()
    for key in ("../outside", "/outside", "frames/../../outside"):
        with pytest.raises(ValueError, match="points outside"):
            await bucket.put(key, b"")
        with pytest.raises(ValueError, match="points outside"):
            await bucket.put_file(key, tmp_path / "file")


async def test_a_deleted_object_is_gone_and_can_be_written_again(bucket):
    """A purge may run twice, and a purged walk may be requested and rendered again."""
    await bucket.put("a/b", b"first")
    await bucket.delete("a/b")
    await bucket.delete("a/b")
    with pytest.raises(NotInBucket):
        await bucket.get("a/b")
    assert await bucket.put("a/b", b"second")


async def test_another_object_under_a_key_has_another_version(bucket):
    """A purged walk that is rendered again, elsewhere, has other bytes: readers must never get halves of both."""
    await bucket.put("a/b", b"1" * 10)
    first = await bucket.look("a/b")
    assert await bucket.look("a/b") == first == (await bucket.listed("a/"))["a/b"]
    assert first.modified
    assert first.modified.microsecond == 0
    await bucket.delete("a/b")
    await bucket.put("a/b", b"2" * 10)
    assert (await bucket.look("a/b")).version != first.version
    with pytest.raises(NotInBucket):
        _ = [chunk async for chunk in bucket.stream(first, 5, 9)]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_refusal_is_retried_and_nothing_is_written_twice(gcs, gcs_bucket, tmp_path, status):
    """Stores sometimes refuse requests under load; walks must not fail because of it."""
    await gcs_bucket.put("a/before", b"there")
    gcs.fail(".", status, times=2)
    assert await gcs_bucket.put("a/b", b"frame")
    gcs.fail("GET", status, times=2)
    assert await gcs_bucket.get("a/before") == b"there"
    gcs.fail("GET", status)
    assert await gcs_bucket.present("a/") == {"a/before", "a/b"}
    assert gcs.arrived["here/a/b"] == 1


async def test_a_write_whose_response_was_lost_stores_one_object(gcs, gcs_bucket):
    """The retry finds the object of the first try: it is stored once, and the result only says that it exists."""
    gcs.drop("multipart")
    assert not await gcs_bucket.put("a/b", b"frame")
    assert (gcs.arrived["here/a/b"], gcs.stored["here/a/b"]) == (2, 1)
    assert await gcs_bucket.get("a/b") == b"frame"


async def test_a_deletion_whose_response_was_lost_succeeds(gcs, gcs_bucket):
    """The retry finds nothing, which is the requested result."""
    await gcs_bucket.put("a/b", b"frame")
    gcs.drop("DELETE")
    await gcs_bucket.delete("a/b")
    assert not gcs.objects
    assert count_requests(gcs, "DELETE") == 2


async def test_an_interrupted_download_is_continued(gcs, gcs_bucket):
    """Half a frame must never count as a frame."""
    content = os.urandom(200_000)
    await gcs_bucket.put("a/b", content)
    gcs.drop("alt=media", times=2)
    assert await gcs_bucket.get("a/b") == content
    gcs.drop("alt=media")
    assert await read(gcs_bucket, "a/b", 7, 150_000) == content[7:150_001]


@pytest.fixture
def film(tmp_path):
    """A file of three chunks."""
    source = tmp_path / "walk.mp4"
    source.write_bytes(os.urandom(2 * UPLOAD_BYTES + 1000))
    return source


async def test_a_large_film_is_uploaded_in_chunks_that_are_resumed(gcs, gcs_bucket, film):
    """A refusal or a lost response in between costs one chunk, not the whole upload."""
    gcs.fail("PUT", 503)
    assert await gcs_bucket.put_file("walks/w/walk.mp4", film)
    gcs.drop("PUT", times=2)
    assert await gcs_bucket.put_file("walks/w/preview.mp4", film)
    assert await gcs_bucket.get("walks/w/walk.mp4") == film.read_bytes()
    assert await gcs_bucket.get("walks/w/preview.mp4") == film.read_bytes()
    assert set(gcs.arrived.values()) == {1}
    assert (count_requests(gcs, "POST"), count_requests(gcs, "PUT")) == (2, 3 + 1 + 3 + 2)


async def test_a_lost_response_to_the_last_chunk_does_not_matter(gcs, gcs_bucket, film):
    """The session is complete then and returns its result: this caller has stored the film, once."""
    gcs.drop(f"-{film.stat().st_size - 1}/")
    assert await gcs_bucket.put_file("walks/w/walk.mp4", film)
    assert count_requests(gcs, "PUT") == 3 + 1
    assert gcs.stored["here/walks/w/walk.mp4"] == gcs.arrived["here/walks/w/walk.mp4"] == 1


async def test_an_upload_that_lost_its_session_starts_again(gcs, gcs_bucket, film):
    """A session may be gone (404, 410), or may have kept a part of a chunk, which the library cannot continue."""
    gcs.fail("PUT", 410)
    gcs.keeps_bytes = 1000
    assert await gcs_bucket.put_file("walks/w/walk.mp4", film)
    assert count_requests(gcs, "POST") == 3
    assert await gcs_bucket.get("walks/w/walk.mp4") == film.read_bytes()
    assert gcs.arrived["here/walks/w/walk.mp4"] == 1


async def test_of_two_large_films_the_first_complete_one_stays(gcs, gcs_bucket, film, tmp_path):
    """Both uploads start while there is no object; the precondition is checked again at the end."""
    other = tmp_path / "other"
    other.write_bytes(b"0" * (UPLOAD_BYTES + 1))
    stored = []

    async def send(source) -> None:
        stored.append(await gcs_bucket.put_file("walks/w/walk.mp4", source))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, film)
        tasks.start_soon(send, other)
    assert sorted(stored) == [False, True]
    assert gcs.stored["here/walks/w/walk.mp4"] == 1


@pytest.mark.parametrize("status", [503, 403])
async def test_a_store_that_stays_unavailable_is_a_problem_with_retry_after(gcs, tmp_path, status):
    """Callers get a problem document, not a stack trace; also for errors that only operators can fix (lost access)."""
    bucket = GcsBucket(gcs.bucket, patience_s=0.5)
    gcs.fail(".", status, times=math.inf)
    for request in (bucket.put("a/b", b""), bucket.get("a/b"), bucket.look("a/b"), bucket.present("a/")):
        with pytest.raises(BucketUnavailable) as problem:
            await request
        assert (problem.value.status, problem.value.headers["Retry-After"]) == (503, "10")
    gcs.clear_faults()
    assert await bucket.put("a/b", b"")
    await bucket.aclose()


async def test_many_callers_of_an_unavailable_store_wait_once(gcs):
    """The time limit includes the wait for a thread, and the log has one line about an outage of a hundred callers."""
    bucket = GcsBucket(gcs.bucket, patience_s=0.3)
    gcs.fail(".", times=math.inf)
    problems = []

    async def request() -> None:
        with pytest.raises(BucketUnavailable) as problem:
            await bucket.look("a/b")
        problems.append(problem.value)

    with capture_logs() as log:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(request)
    assert len(problems) == 100
    assert len(log) == 1
    assert len(gcs.requests) < 200
    await bucket.aclose()


CALLS = {
    "put": lambda bucket, _: bucket.put("a/new", b"1"),
    "get": lambda bucket, _: bucket.get("a/there"),
    "look": lambda bucket, _: bucket.look("a/there"),
    "stream": lambda bucket, _: read(bucket, "a/there", 0, 9),
    "list": lambda bucket, _: bucket.present("a/"),
    "delete": lambda bucket, _: bucket.delete("a/there"),
    "resumable": lambda bucket, film: bucket.put_file("a/film", film),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_connection_that_stalls_once_is_tried_again(gcs, film, name):
    """Load balancers lose connections silently. Here each of the call's requests stalls once."""
    bucket = GcsBucket(gcs.bucket, timeout_s=(1.0, 0.1))
    await bucket.put("a/there", b"0123456789")
    for line in (".", "alt=media", "PUT"):
        gcs.stall(line)
    with anyio.fail_after(20):
        assert await CALLS[name](bucket, film) is not False
    gcs.clear_faults()
    await bucket.aclose()


def test_patience_lasts_for_a_second_try_after_a_stalled_connection():
    """With the values of a real deployment."""
    assert sum(TIMEOUT_S) + TIMEOUT_S[1] <= PATIENCE_S


@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"", b"null"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_page_of_a_proxy_is_no_response_of_the_store(gcs, film, name, body, monkeypatch):
    """A proxy answers 200 with a page of its own, or nothing, once: the call is tried again, and nothing is lost."""
    bucket = GcsBucket(gcs.bucket, timeout_s=(1.0, 5.0))
    await bucket.put("a/there", b"0123456789")
    for line in (".", "alt=media", "PUT"):
        gcs.intercept(line, body)
    answer = await CALLS[name](bucket, film)
    assert answer in (None, True, b"0123456789", {"a/there"}) or answer.size == 10
    gcs.intercept(".", body, times=math.inf)
    monkeypatch.setattr("momalisa_api.store.gcs.SLOWEST_BYTES_PER_S", 2**40)
    impatient = GcsBucket(gcs.bucket, patience_s=0.3)
    with pytest.raises(BucketUnavailable):
        await CALLS[name](impatient, film)
    for opened in (bucket, impatient):
        await opened.aclose()


async def test_stalled_calls_do_not_hold_up_others_beyond_their_patience(gcs):
    """The time limit of a call includes its wait for a thread, and a connection that stalls."""
    bucket = GcsBucket(gcs.bucket, patience_s=0.5, timeout_s=(60.0, 60.0))
    await bucket.put("a/b", b"1")
    gcs.stall("GET", times=math.inf)
    unavailable = []

    async def request() -> None:
        with pytest.raises(BucketUnavailable):
            await bucket.get("a/b")
        unavailable.append(1)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(THREADS + 2):
                tasks.start_soon(request)
    assert len(unavailable) == THREADS + 2
    gcs.clear_faults()
    with anyio.fail_after(20):
        while True:
            with contextlib.suppress(BucketUnavailable):
                assert await bucket.get("a/b") == b"1"
                break
    await bucket.aclose()


@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_lets_go_of_a_stalled_connection(gcs, film, name):
    """A worker that stops has six seconds."""
    bucket = GcsBucket(gcs.bucket, timeout_s=(60.0, 60.0))
    await bucket.put("a/there", b"0123456789")
    gcs.stall(".")
    before = len(gcs.requests)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(CALLS[name], bucket, film)
            while len(gcs.requests) == before:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    gcs.clear_faults()
    await bucket.aclose()


async def test_a_cancelled_upload_sends_no_more_chunks(gcs, gcs_bucket, film):
    """Its thread must not go on for the minutes that a large film takes."""
    gcs.stall("PUT")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gcs_bucket.put_file, "a/film", film)
        while not count_requests(gcs, "PUT"):
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    gcs.clear_faults()
    await gcs_bucket.aclose()
    gcs_bucket._threads.shutdown(wait=True)
    assert count_requests(gcs, "PUT") == 1


async def test_a_cancelled_request_does_not_wait_for_the_store(gcs, gcs_bucket):
    """A drain has ten seconds; an outage has no limit."""
    gcs.fail(".", times=math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gcs_bucket.get, "a/b")
        with anyio.fail_after(10):
            while not gcs.requests:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert len(gcs.requests) < 5


async def test_prefixes_separate_deployments(gcs, gcs_bucket):
    """Two deployments may share a bucket."""
    other = GcsBucket(gcs.bucket, "/over/there/")
    assert await gcs_bucket.put("a/b", b"here")
    assert await other.put("a/b", b"there")
    assert await other.present("a/") == {"a/b"}
    assert set(gcs.objects) == {"here/a/b", "over/there/a/b"}
    await other.aclose()


async def test_the_setting_selects_the_bucket(gcs, tmp_path):
    """One string: the path of a folder, or gs:// and a name."""
    assert isinstance(opened(tmp_path, str(tmp_path / "bucket")), FolderBucket)
    bucket = opened(tmp_path, f"gs://{gcs.bucket}/some/prefix")
    await bucket.put("a/b", b"")
    assert set(gcs.objects) == {"some/prefix/a/b"}
    await bucket.aclose()


@pytest.mark.parametrize("bucket", ["", "gs://", "gs:///prefix", "s3://pictures", "https://storage.googleapis.com/b"])
def test_an_unknown_kind_of_bucket_is_refused_at_start(bucket, tmp_path):
    """A mistyped scheme must not become the name of a folder."""
    with pytest.raises(ValidationError, match="use a folder or gs://"):
        Settings(model_card=write_card(tmp_path), bucket=bucket)


def test_a_missing_or_inaccessible_bucket_ends_the_start_with_advice(gcs, tmp_path):
    """Operators should see the error at start, not with the first walk."""
    with pytest.raises(SystemExit, match="There is no bucket gs://elsewhere"):
        opened(tmp_path, "gs://elsewhere")
    gcs.fail(".", 403)
    with pytest.raises(SystemExit, match="denies access"):
        opened(tmp_path, f"gs://{gcs.bucket}")


async def test_the_api_starts_while_the_bucket_is_unavailable(gcs):
    """An API that starts during an outage must work when the outage is over."""
    gcs.fail(".", times=math.inf)
    bucket = GcsBucket(gcs.bucket, check_s=0.3)
    bucket.check()
    gcs.clear_faults()
    assert await bucket.put("a/b", b"")
    await bucket.aclose()


async def test_a_walk_is_stored_in_gcs_as_in_a_folder(gcs, fleet, settings):
    """Frames and films; each is written once, and an inaccessible one is a problem with Retry-After."""
    with_gcs = settings.model_copy(update={"bucket": f"gs://{gcs.bucket}/live"})
    async with running(with_gcs, fleet) as client:
        response = await client.post(
            "/api/v1/walks", json={"stops": ["a red star", "a blue wave"], "frames": 5, "spacing": "uniform"}
        )
        walk = await ended(client, response.json())
        gif = await client.get(f"{walk['url']}/walk.gif")
        part = await client.get(f"{walk['url']}/walk.gif", headers={"Range": "bytes=5-9"})
        assert (walk["state"], gif.content[:3], part.content) == ("done", b"GIF", gif.content[5:10])
        gcs.fail(".", 403, times=math.inf)
        unavailable = await client.get(f"{walk['url']}/walk.gif")
    assert sum(name.startswith("live/frames/") for name in gcs.arrived) == 6, (
        "five frames, and a mark of the fingerprint"
    )
    assert set(gcs.arrived.values()) == {1}
    assert (unavailable.status_code, unavailable.headers["Retry-After"]) == (503, "10")
    assert unavailable.json()["type"] == "urn:momalisa:problem:bucket-unavailable"


WRITING = """
import io, sys
from pathlib import Path
from momalisa_api.store.folder import FolderBucket
class Slow(io.BytesIO):
    def read(self, *_):
        if self.tell():
            print("half", flush=True)
            sys.stdin.read()
        return super().read(4)
FolderBucket(Path(sys.argv[1]))._write("uploads/a.png", Slow(b"a picture"))
"""


def test_a_process_that_is_killed_while_it_writes_leaves_nothing(tmp_path):
    """No row of the catalogue would name what it leaves, so no deletion would ever find it."""
    command = [sys.executable, "-c", WRITING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert [path.name for path in tmp_path.rglob("*")] == ["uploads"]


async def test_a_system_without_unnamed_files_stores_them_too(tmp_path, monkeypatch):
    """macOS, and some network file systems."""
    monkeypatch.delattr(os, "O_TMPFILE")
    bucket = FolderBucket(tmp_path)
    assert [await bucket.put("uploads/a.png", content) for content in (b"first", b"second")] == [True, False]
    assert await bucket.get("uploads/a.png") == b"first"
    assert [path.name for path in tmp_path.rglob("*")] == ["uploads", "a.png"]
