"""The contract of a bucket: whole objects, the first one stays."""

import anyio
import pytest

from momalisa_api.bucket import FolderBucket, NotInBucket

pytestmark = pytest.mark.anyio


@pytest.fixture
def bucket(tmp_path):
    return FolderBucket(tmp_path / "bucket")


async def test_the_first_object_under_a_key_stays(bucket):
    """A frame that was seen once must not change under a browser's eternal cache."""
    assert await bucket.put("frames/r/0.0.png", b"first")
    assert not await bucket.put("frames/r/0.0.png", b"second")
    assert await bucket.get("frames/r/0.0.png") == b"first"


async def test_of_many_writers_at_once_one_wins_and_nothing_is_left_over(bucket, tmp_path):
    """Two replicas may bring the same frame in the same moment."""
    wins = []

    async def write(content: bytes) -> None:
        wins.append(await bucket.put("a/b", content))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(write, bytes([number]) * 100_000)
    assert wins.count(True) == 1
    assert len(set(await bucket.get("a/b"))) == 1
    assert [path.name for path in (tmp_path / "bucket" / "a").iterdir()] == ["b"]


async def test_what_is_present_is_listed_by_its_key(bucket):
    """Planning asks once a recipe, not once a frame."""
    await bucket.put("frames/r/0.5.png", b"")
    await bucket.put("frames/s/0.5.png", b"")
    assert await bucket.present("frames/r/") == {"frames/r/0.5.png"}
    assert await bucket.present("frames/unknown/") == frozenset()


async def test_a_range_streams_its_bytes_alone(bucket, tmp_path):
    """Both ends included, as HTTP has it; more than one chunk long."""
    content = bytes(range(256)) * 4096
    source = tmp_path / "film"
    source.write_bytes(content)
    assert await bucket.put_file("walks/w/walk.mp4", source)
    assert await bucket.size("walks/w/walk.mp4") == len(content)
    streamed = [chunk async for chunk in bucket.stream("walks/w/walk.mp4", 1000, 600_000)]
    assert b"".join(streamed) == content[1000:600_001]
    assert len(streamed) > 1


async def test_a_key_that_is_missing_or_leads_out_is_an_error(bucket):
    """Keys are ours; one that climbs out of the folder is a bug, not a file."""
    with pytest.raises(NotInBucket):
        await bucket.get("frames/none")
    with pytest.raises(NotInBucket):
        await bucket.size("frames/none")
    with pytest.raises(ValueError, match="leads out"):
        await bucket.put("../outside", b"")
