"""Where a process receives uploads: nothing of it is left behind, however a process ends."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from momalisa_api.web.upload_folder import claimed_folder

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
