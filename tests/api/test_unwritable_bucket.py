"""A bucket folder that cannot be written: the process says so at once, instead of accepting walks for ever."""

import os
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from momalisa_api.problems import BucketUnavailable
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.gcs import GcsBucket, NoBucket
from tests.support.factories import ended, running
from tests.support.gcs import FakeGcs

pytestmark = pytest.mark.anyio
REQUEST = {"start": "a giraffe", "end": "a battleship", "frames": 5, "spacing": "uniform"}
QUERY = "/api/v1/walk?start=a+giraffe&end=a+battleship&frames=5&spacing=uniform"


async def test_walks_are_refused_while_the_bucket_folder_cannot_be_written(settings, fleet, tmp_path):
    """Here a file blocks its path. Once it can be written, everything works without a restart."""
    bucket = tmp_path / "bucket"
    bucket.touch()
    with capture_logs() as log:
        async with running(settings, fleet) as client:
            for answer in (
                await client.get("/readyz"),
                await client.post("/api/v1/walks", json=REQUEST),
                await client.get(QUERY),
            ):
                assert answer.status_code == 503
                assert answer.json()["type"] == "urn:momalisa:problem:bucket-unavailable"
                assert "write access to the bucket folder" in answer.json()["detail"]
                assert str(tmp_path) not in answer.text, "visitors need not know the server's paths"
            assert (await client.get("/api/v1/walks")).json()["walks"] == []
            bucket.unlink()
            assert (await client.get("/readyz")).status_code == 200
            walk = await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())
    assert walk["state"] == "done"
    [line] = [line for line in log if line["event"] == "bucket cannot be written"]
    assert (line["log_level"], line["bucket"]) == ("error", str(bucket))


async def test_finished_walks_are_served_from_a_bucket_that_cannot_be_written(settings, fleet, monkeypatch):
    """A read-only copy of a bucket is still a gallery."""
    async with running(settings, fleet) as client:
        await ended(client, (await client.post("/api/v1/walks", json=REQUEST)).json())

        async def refuse(_: FolderBucket) -> None:
            raise BucketUnavailable("read-only")

        monkeypatch.setattr(FolderBucket, "check_writable", refuse)
        assert (await client.get(QUERY)).content[:3] == b"GIF"
        assert (await client.post("/api/v1/walks", json=REQUEST)).status_code == 200
        assert (await client.post("/api/v1/walks", json={**REQUEST, "seed": 1})).status_code == 503


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("of_root", [".", "frames", "walks"])
def test_a_folder_of_another_user_cannot_be_written(tmp_path, of_root):
    """The usual case: a volume, or a folder in it, belongs to root. Bits say nothing, as root ignores them."""
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from momalisa_api.store.folder import FolderBucket\n"
        "bucket = FolderBucket(Path(sys.argv[1]))\n"
        "asyncio.run(bucket.check_writable())\n"
        "os.setuid(65534)\n"
        "asyncio.run(bucket.check_writable())\n"
    )
    folder = tmp_path / "bucket"
    for name in ("frames", "walks"):
        (folder / name).mkdir(parents=True)
    for place in (folder, folder / "frames", folder / "walks"):
        os.chown(place, 65534, 65534)
    os.chown(folder / of_root, 0, 0)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert "Permission denied), so no walk can be rendered" in done.stderr


async def test_a_folder_that_can_be_written_keeps_nothing_of_the_check(tmp_path):
    """It runs every few seconds."""
    folder = tmp_path / "bucket"
    await FolderBucket(folder).check_writable()
    assert list(folder.iterdir()) == []


def test_a_remote_bucket_without_permission_to_write_ends_the_start_with_advice(monkeypatch):
    """The permission to list, which viewers have, is not enough."""
    with FakeGcs().running() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        GcsBucket(store.bucket).check()
        store.denied = frozenset({"storage.objects.create"})
        with pytest.raises(NoBucket, match=r"does not grant storage\.objects\.create; grant roles/storage.objectUser"):
            GcsBucket(store.bucket).check()
        store.fail("testPermissions", 404)
        GcsBucket(store.bucket).check()
