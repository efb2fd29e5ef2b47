"""`momalisa walk` with picture files among its stops."""

import hashlib
import json
from pathlib import Path

import pytest

from momalisa_api.cli import main
from tests.support.walk_server import LINK, WALK, walk_server


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the current folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"a photo")
    return file


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main.main(["walk", *arguments])
    return int(end.value.code or 0)


def test_files_with_the_suffix_of_a_picture_are_uploaded(photo):
    """All other stops are prompts: also one that happens to be the name of a file."""
    (photo.parent / "a giraffe").write_bytes(b"private")
    requests, uploads = list[dict[str, object]](), list[bytes]()
    with walk_server(requests=requests, uploads=uploads) as url:
        stops = ["photo.jpg", "a giraffe", "photo.jpg@1,2,30,40", "photo.jpg@0,0,9,9=two = 2 cats", "photo.jpg=a cat"]
        assert run(*stops, "--strength", "0.5", "--url", url, "--out", "film.gif") == 0
    picture = hashlib.sha256(b"a photo").hexdigest()
    [request] = requests
    assert request["strength"] == 0.5
    assert request["stops"] == [
        {"picture": picture, "prompt": ""},
        "a giraffe",
        {"picture": picture, "prompt": "", "crop": {"x": 1, "y": 2, "width": 30, "height": 40}},
        {"picture": picture, "prompt": "two = 2 cats", "crop": {"x": 0, "y": 0, "width": 9, "height": 9}},
        {"picture": picture, "prompt": "a cat"},
    ]
    assert uploads == [b"a photo"] * 4


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ("phto.jpg", "file not found: phto.jpg"),
        ("photo.jpg@1,2", "must be X,Y,WIDTH,HEIGHT in pixels, not 1,2"),
        ("IMG_1.HEIC", "IMG_1.HEIC is a HEIC photo: save it as JPEG first"),
    ],
)
def test_a_file_that_cannot_be_used_is_no_prompt(photo, capsys, stop, message):
    """A model would paint something for "phto.jpg", and nobody would know why."""
    Path("IMG_1.HEIC").write_bytes(b"a photo")
    assert run(stop, "a giraffe", "--url", "http://127.0.0.1:9") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("private", [True, False])
def test_a_private_walk_ends_with_a_link(photo, capsys, private):
    """The command's cookie is gone afterwards: only the link opens the walk."""
    requests = list[dict[str, object]]()
    answer = json.dumps({**WALK, "private": private}).encode()
    with walk_server(answer, requests=requests) as url:
        assert run("a", "b", "--url", url, "--out", "film.gif", *(["--private"] if private else [])) == 0
    assert requests[0].get("listed", True) is not private
    assert (LINK in capsys.readouterr().out) is private
