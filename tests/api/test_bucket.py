"""The contract of a bucket: whole objects, the first one stays. Both buckets keep it, Google's over a made-up GCS.

MOMALISA_TEST_BUCKET=gs://NAME/PREFIX holds a bucket of your own against it instead: an emulator's where
STORAGE_EMULATOR_HOST is set, else one in Google's cloud. The bucket has to be there, and nothing is left in it. Faults
can be had from the made-up one alone, so that their tests always go there.
"""

import math
import os
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
from momalisa_api.store.gcs import READ_BYTES, UPLOAD_BYTES, GcsBucket
from tests.support.factories import ended, running, write_card
from tests.support.gcs import FakeGcs

pytestmark = pytest.mark.anyio
ELSEWHERE = os.environ.get("MOMALISA_TEST_BUCKET")


@pytest.fixture(scope="module")
def store():
    with FakeGcs().running() as store:
        yield store


@pytest.fixture
def gcs(store, monkeypatch):
    """An empty, faultless made-up GCS, which the environment leads to."""
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
    """Each bucket there is, empty."""
    if request.param == "folder":
        bucket = FolderBucket(tmp_path / "bucket")
    elif not ELSEWHERE:
        bucket = GcsBucket(gcs.bucket, "here")
    else:
        monkeypatch.undo()
        bucket = opened(tmp_path, f"{ELSEWHERE.rstrip('/')}/{uuid.uuid4()}")
    yield bucket
    for folder in ("a/", "frames/r/", "frames/s/", "walks/w/"):
        for key in await bucket.present(folder):
            await bucket.delete(key)
    await bucket.aclose()


def opened(tmp_path, bucket):
    return open_bucket(Settings(model_card=write_card(tmp_path), bucket=bucket))


async def read(bucket, key, first, last):
    return b"".join([chunk async for chunk in bucket.stream(key, first, last)])


def asked(gcs, method):
    """How many requests of a method the made-up store has seen."""
    return sum(request.startswith(method) for request in gcs.requests)


async def test_the_first_object_under_a_key_stays(bucket):
    """A frame that was seen once must not change under a browser's eternal cache."""
    assert await bucket.put("frames/r/0.0.png", b"first")
    assert not await bucket.put("frames/r/0.0.png", b"second")
    assert await bucket.get("frames/r/0.0.png") == b"first"


async def test_the_first_file_under_a_key_stays(bucket, tmp_path):
    """Two workers may film the same walk after a takeover; whoever watches must not notice."""
    for name, size in (("small", 10), ("large", UPLOAD_BYTES + 10)):
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_bytes(b"1" * size)
        second.write_bytes(b"2" * size)
        assert await bucket.put_file(f"walks/w/{name}", first)
        assert not await bucket.put_file(f"walks/w/{name}", second)
        assert set(await bucket.get(f"walks/w/{name}")) == set(b"1")


async def test_of_many_writers_at_once_one_wins(bucket):
    """Two replicas may bring the same frame in the same moment."""
    wins = []

    async def write(content: bytes) -> None:
        wins.append(await bucket.put("a/b", content))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(write, bytes([number]) * 100_000)
    assert wins.count(True) == 1
    assert len(set(await bucket.get("a/b"))) == 1
    assert await bucket.present("a/") == {"a/b"}


async def test_a_folder_keeps_nothing_of_those_who_lost(tmp_path):
    """What is written aside is gone when the writing is over, whoever won."""
    bucket = FolderBucket(tmp_path)
    assert [await bucket.put("a/b", b"1"), await bucket.put("a/b", b"2")] == [True, False]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


async def test_what_is_present_is_listed_by_its_key(bucket):
    """Planning asks once a recipe, not once a frame."""
    await bucket.put("frames/r/0.5.png", b"")
    await bucket.put("frames/s/0.5.png", b"")
    assert await bucket.present("frames/r/") == {"frames/r/0.5.png"}
    assert await bucket.present("frames/") == frozenset()
    assert await bucket.present("frames/unknown/") == frozenset()


async def test_a_list_of_several_pages_is_whole(bucket, gcs):
    """A recipe can have more frames than one answer of the store holds."""
    gcs.page_limit = 3
    keys = {f"frames/r/{number}.png" for number in range(10)}
    for key in keys:
        await bucket.put(key, b"")
    assert await bucket.present("frames/r/") == keys


async def test_a_range_streams_its_bytes_alone(bucket, tmp_path):
    """Both ends included, as HTTP has it; in more than one chunk, and right where chunks meet."""
    content = bytes(range(256)) * (READ_BYTES // 128) + b"tail"
    source = tmp_path / "film"
    source.write_bytes(content)
    assert await bucket.put_file("walks/w/walk.mp4", source)
    assert await bucket.size("walks/w/walk.mp4") == len(content)
    end = len(content) - 1
    for border in (CHUNK_BYTES, READ_BYTES):
        for first, last in ((0, border - 1), (0, border), (border - 1, border), (border, end)):
            assert await read(bucket, "walks/w/walk.mp4", first, last) == content[first : last + 1]
    streamed = [chunk async for chunk in bucket.stream("walks/w/walk.mp4", 1000, end)]
    assert b"".join(streamed) == content[1000:]
    assert len(streamed) > 1


async def test_a_range_ends_where_the_object_does(bucket):
    """A film's length is asked before it is streamed; an empty one has no last byte."""
    await bucket.put("a/short", b"0123456789")
    await bucket.put("a/empty", b"")
    assert await read(bucket, "a/short", 5, 1000) == b"56789"
    assert await read(bucket, "a/short", 10, 1000) == b""
    assert await read(bucket, "a/empty", 0, -1) == b""
    assert await bucket.size("a/empty") == 0


async def test_a_key_that_is_missing_is_an_error_that_says_so(bucket):
    """A film whose frames are gone, and a frame that is gone, are told from a bucket that does not answer."""
    for asked in (bucket.get("frames/none"), bucket.size("frames/none"), read(bucket, "frames/none", 0, 9)):
        with pytest.raises(NotInBucket):
            await asked


async def test_a_key_that_leads_out_is_an_error(bucket, tmp_path):
    """Keys are ours; one that climbs out of the folder is a bug, not a file."""
    (tmp_path / "file").touch()
    for key in ("../outside", "/outside", "frames/../../outside"):
        with pytest.raises(ValueError, match="points outside"):
            await bucket.put(key, b"")
        with pytest.raises(ValueError, match="points outside"):
            await bucket.put_file(key, tmp_path / "file")


async def test_what_is_removed_is_gone_and_may_be_written_anew(bucket):
    """A purge may be told twice; a walk asked for again is rendered again."""
    await bucket.put("a/b", b"first")
    await bucket.delete("a/b")
    await bucket.delete("a/b")
    with pytest.raises(NotInBucket):
        await bucket.get("a/b")
    assert await bucket.put("a/b", b"second")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_refusal_is_asked_again_and_nothing_is_written_twice(gcs, gcs_bucket, tmp_path, status):
    """Stores shed load in passing; a walk must not fail for it."""
    await gcs_bucket.put("a/before", b"there")
    gcs.fail(".", status, times=2)
    assert await gcs_bucket.put("a/b", b"frame")
    gcs.fail("GET", status, times=2)
    assert await gcs_bucket.get("a/before") == b"there"
    gcs.fail("GET", status)
    assert await gcs_bucket.present("a/") == {"a/before", "a/b"}
    assert gcs.arrived["here/a/b"] == 1


async def test_a_write_whose_answer_was_lost_is_not_a_second_object(gcs, gcs_bucket):
    """The second try meets the first one's success: the object is there once, and the answer says so and no more."""
    gcs.drop("multipart")
    assert not await gcs_bucket.put("a/b", b"frame")
    assert (gcs.arrived["here/a/b"], gcs.stored["here/a/b"]) == (2, 1)
    assert await gcs_bucket.get("a/b") == b"frame"


async def test_a_removal_whose_answer_was_lost_has_happened(gcs, gcs_bucket):
    """The second try finds nothing, which is what was wished."""
    await gcs_bucket.put("a/b", b"frame")
    gcs.drop("DELETE")
    await gcs_bucket.delete("a/b")
    assert not gcs.objects
    assert asked(gcs, "DELETE") == 2


async def test_an_answer_that_breaks_off_is_read_on(gcs, gcs_bucket):
    """Half a frame must never be taken for a frame."""
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


async def test_a_large_film_goes_up_in_chunks_that_are_resumed(gcs, gcs_bucket, film):
    """A refusal, or an answer lost, in mid-film costs one chunk and not the film."""
    gcs.fail("PUT", 503)
    assert await gcs_bucket.put_file("walks/w/walk.mp4", film)
    gcs.drop("PUT", times=2)
    assert await gcs_bucket.put_file("walks/w/preview.mp4", film)
    assert await gcs_bucket.get("walks/w/walk.mp4") == film.read_bytes()
    assert await gcs_bucket.get("walks/w/preview.mp4") == film.read_bytes()
    assert set(gcs.arrived.values()) == {1}
    assert (asked(gcs, "POST"), asked(gcs, "PUT")) == (2, 3 + 1 + 3 + 2)


async def test_the_answer_to_the_last_chunk_may_be_lost(gcs, gcs_bucket, film):
    """The session has ended by then and says with what: the film was stored, once, by this caller."""
    gcs.drop(f"-{film.stat().st_size - 1}/")
    assert await gcs_bucket.put_file("walks/w/walk.mp4", film)
    assert asked(gcs, "PUT") == 3 + 1
    assert gcs.stored["here/walks/w/walk.mp4"] == gcs.arrived["here/walks/w/walk.mp4"] == 1


async def test_an_upload_that_lost_its_session_begins_anew(gcs, gcs_bucket, film):
    """A session may vanish (404, 410), or keep a part of a chunk, which the library cannot go on from."""
    gcs.fail("PUT", 410)
    gcs.keeps_bytes = 1000
    assert await gcs_bucket.put_file("walks/w/walk.mp4", film)
    assert asked(gcs, "POST") == 3
    assert await gcs_bucket.get("walks/w/walk.mp4") == film.read_bytes()
    assert gcs.arrived["here/walks/w/walk.mp4"] == 1


async def test_of_two_large_films_the_first_to_end_stays(gcs, gcs_bucket, film, tmp_path):
    """Both were begun while none was there; the condition is asked again at the end."""
    other = tmp_path / "other"
    other.write_bytes(b"0" * (UPLOAD_BYTES + 1))
    told = []

    async def send(source) -> None:
        told.append(await gcs_bucket.put_file("walks/w/walk.mp4", source))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, film)
        tasks.start_soon(send, other)
    assert sorted(told) == [False, True]
    assert gcs.stored["here/walks/w/walk.mp4"] == 1


@pytest.mark.parametrize("status", [503, 403])
async def test_a_store_that_stays_away_is_a_problem_that_names_a_time(gcs, tmp_path, status):
    """Callers get a problem, not a stack trace; what an operator can mend (a lost grant) reads alike for visitors."""
    bucket = GcsBucket(gcs.bucket, patience_s=0.5)
    gcs.fail(".", status, times=math.inf)
    for asked in (bucket.put("a/b", b""), bucket.get("a/b"), bucket.size("a/b"), bucket.present("a/")):
        with pytest.raises(BucketUnavailable) as met:
            await asked
        assert (met.value.status, met.value.headers["Retry-After"]) == (503, "10")
    gcs.clear_faults()
    assert await bucket.put("a/b", b"")
    await bucket.aclose()


async def test_many_callers_of_a_store_that_is_away_wait_once(gcs):
    """Patience includes the wait for a thread; and a hundred callers meet one outage, which the log says once."""
    bucket = GcsBucket(gcs.bucket, patience_s=0.3)
    gcs.fail(".", times=math.inf)
    met = []

    async def ask() -> None:
        with pytest.raises(BucketUnavailable) as problem:
            await bucket.size("a/b")
        met.append(problem.value)

    with capture_logs() as said:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(ask)
    assert len(met) == 100
    assert len(said) == 1
    assert len(gcs.requests) < 200
    await bucket.aclose()


async def test_whoever_is_cancelled_does_not_wait_for_the_store_to_come_back(gcs, gcs_bucket):
    """A drain has ten seconds; an outage has as many as it likes."""
    gcs.fail(".", times=math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gcs_bucket.get, "a/b")
        with anyio.fail_after(10):
            while not gcs.requests:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert len(gcs.requests) < 5


async def test_a_prefix_is_a_bucket_of_its_own(gcs, gcs_bucket):
    """Two deployments may share a bucket."""
    other = GcsBucket(gcs.bucket, "/over/there/")
    assert await gcs_bucket.put("a/b", b"here")
    assert await other.put("a/b", b"there")
    assert await other.present("a/") == {"a/b"}
    assert set(gcs.objects) == {"here/a/b", "over/there/a/b"}
    await other.aclose()


async def test_the_setting_says_which_bucket(gcs, tmp_path):
    """One string: a folder's path, or gs:// and a name."""
    assert isinstance(opened(tmp_path, str(tmp_path / "bucket")), FolderBucket)
    bucket = opened(tmp_path, f"gs://{gcs.bucket}/some/prefix")
    await bucket.put("a/b", b"")
    assert set(gcs.objects) == {"some/prefix/a/b"}
    await bucket.aclose()


@pytest.mark.parametrize("bucket", ["", "gs://", "gs:///prefix", "s3://pictures", "https://storage.googleapis.com/b"])
def test_a_bucket_of_no_kind_we_know_is_refused_at_start(bucket, tmp_path):
    """A mistyped scheme must not become a folder by that name."""
    with pytest.raises(ValidationError, match="use a folder or gs://"):
        Settings(model_card=write_card(tmp_path), bucket=bucket)


def test_a_bucket_that_is_not_there_or_not_ours_ends_the_start_with_what_to_do(gcs, tmp_path):
    """Better at start than with the first walk."""
    with pytest.raises(SystemExit, match="There is no bucket gs://elsewhere"):
        opened(tmp_path, "gs://elsewhere")
    gcs.fail(".", 403)
    with pytest.raises(SystemExit, match="denies access"):
        opened(tmp_path, f"gs://{gcs.bucket}")


async def test_a_bucket_that_is_away_at_the_start_is_waited_for(gcs):
    """An api that starts in an outage must be there when it is over."""
    gcs.fail(".", times=math.inf)
    bucket = GcsBucket(gcs.bucket, check_s=0.3)
    bucket.check()
    gcs.clear_faults()
    assert await bucket.put("a/b", b"")
    await bucket.aclose()


async def test_a_walk_lies_in_the_cloud_as_it_would_in_a_folder(gcs, fleet, settings):
    """The whole way, frames and films; each is written once, and one that is out of reach is a problem with a time."""
    there = settings.model_copy(update={"bucket": f"gs://{gcs.bucket}/live"})
    async with running(there, fleet) as client:
        asked = await client.post(
            "/api/v1/walks", json={"stops": ["a red star", "a blue wave"], "frames": 5, "spacing": "uniform"}
        )
        walk = await ended(client, asked.json())
        gif = await client.get(f"{walk['url']}/walk.gif")
        part = await client.get(f"{walk['url']}/walk.gif", headers={"Range": "bytes=5-9"})
        assert (walk["state"], gif.content[:3], part.content) == ("done", b"GIF", gif.content[5:10])
        gcs.fail(".", 403, times=math.inf)
        away = await client.get(f"{walk['url']}/walk.gif")
    assert sum(name.startswith("live/frames/") for name in gcs.arrived) == 5
    assert set(gcs.arrived.values()) == {1}
    assert (away.status_code, away.headers["Retry-After"]) == (503, "10")
    assert away.json()["type"] == "urn:momalisa:problem:bucket-unavailable"
