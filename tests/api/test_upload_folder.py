"""Where a process receives uploads and makes films: nothing of it is left behind, however a process ends."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from momalisa_api.films import make
from momalisa_api.web.upload_folder import UPLOAD_FOLDERS, claimed_folder
from momalisa_api.work import studio
from tests.support.factories import ended, running

HOLDING = """
import sys
from momalisa_api.web.upload_folder import claimed_folder
with claimed_folder() as folder:
    (folder / "body").write_bytes(b"half a picture")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_uploads_of_a_killed_process_are_removed_at_the_next_start(tmp_path: Path):
    """They are pictures of visitors, who were told that these are kept for a day. Running processes keep theirs."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        with claimed_folder() as mine:
            assert (theirs / "body").exists()
            assert mine != theirs
        assert not mine.exists()
        process.kill()
    assert (theirs / "body").exists()
    with claimed_folder() as mine:
        assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.anyio
async def test_films_are_made_in_the_folder_of_their_process(settings, fleet, tmp_path, monkeypatch):
    """Frames and films of walks that were deleted since would otherwise stay for ever if the process is killed."""
    folders = list[Path]()

    async def watched(read, walk, folder, *more):
        folders.append(folder.relative_to(tmp_path))
        return await make.make_films(read, walk, folder, *more)

    monkeypatch.setattr(studio, "make_films", watched)
    async with running(settings, fleet) as client:
        request = {"start": "a", "end": "b", "frames": 2, "spacing": "uniform"}
        walk = await ended(client, (await client.post("/api/v1/walks", json=request)).json())
    assert walk["state"] == "done"
    assert [folder.parts[0].startswith(UPLOAD_FOLDERS) for folder in folders] == [True]
    assert not list(tmp_path.glob(f"{UPLOAD_FOLDERS}*"))
