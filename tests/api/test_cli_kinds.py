"""`momalisa into`, `restyle`, `clip` and `apart`: what they upload, request and save."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from momalisa_api.cli import main
from tests.support.walk_server import WALK, walk_server

WALK_ID = "66ec43256477540dc236522cabd07085"
PHOTO = hashlib.sha256(b"a photo").hexdigest()
FILM = hashlib.sha256(b"a film").hexdigest()


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a photo and a film."""
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(b"a photo")
    Path("film.mov").write_bytes(b"a film")
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main.main(list(arguments))
    return int(end.value.code or 0)


def walk_of(kind: str, **fields: Any) -> bytes:
    """The answer of a server: a finished walk of a kind."""
    spec = {"frames": 3, "motion": "circle", "style": "mosaic", "kind": kind}
    return json.dumps({**WALK, "kind": kind, "seed": None, "spec": spec, **fields}).encode()


@pytest.mark.parametrize(
    ("command", "request_", "saved"),
    [
        (
            "into photo.jpg@1,2,30,40 --motion circle --amplitude .5 --frames 9",
            {
                "picture": {"picture": PHOTO, "crop": {"x": 1, "y": 2, "width": 30, "height": 40}},
                **{"motion": "circle", "amplitude": 0.5, "frames": 9},
            },
            "into.mp4",
        ),
        ("restyle photo.jpg --style mosaic", {"picture": {"picture": PHOTO}, "style": "mosaic"}, "restyle.png"),
        (
            "restyle photo.jpg --prompt waves --strength 0.6 --seed 3 -o film.gif",
            {"picture": {"picture": PHOTO}, "prompt": "waves", "strength": 0.6, "seed": 3},
            "film.gif",
        ),
        (
            "clip film.mov --style-picture photo.jpg --size 480 --model styles",
            {"clip": FILM, "style_picture": {"picture": PHOTO}, "size": 480, "model": "styles"},
            "clip.mp4",
        ),
        (
            "apart photo.jpg --most 5 --threshold .3",
            {"picture": {"picture": PHOTO}, "most": 5, "threshold": 0.3},
            "apart.gif",
        ),
    ],
)
def test_each_command_requests_its_kind_and_saves_a_film(files, capsys, command, request_, saved):
    """What is not given is left to the server."""
    kind = command.partition(" ")[0]
    requests = list[dict[str, Any]]()
    with walk_server(walk_of(kind), requests=requests) as url:
        assert run(*command.split(), "--url", url) == 0
    assert requests == [{"kind": kind, **request_}]
    assert (files / saved).read_bytes() == b"a film"
    assert capsys.readouterr().out.startswith(f"{saved}: 3 frames, ")


@pytest.mark.parametrize(
    ("picture", "sent"),
    [
        ("https://example.com/a.jpg?size=1,2", {"url": "https://example.com/a.jpg?size=1,2"}),
        (f"{WALK_ID}#12", {"walk": WALK_ID, "frame": 12}),
        (f"https://example.com/walks/{WALK_ID}#12", {"walk": WALK_ID, "frame": 12}),
    ],
)
def test_a_picture_can_be_on_the_web_or_in_another_walk(picture, sent):
    """The server fetches it."""
    uploads, requests = list[bytes](), list[dict[str, Any]]()
    with walk_server(walk_of("into"), uploads=uploads, requests=requests) as url:
        assert run("into", f"{picture}@0,0,8,8", "--url", url) == 0
    assert [json.loads(upload) for upload in uploads] == [sent]
    assert requests[0]["picture"]["crop"] == {"x": 0, "y": 0, "width": 8, "height": 8}


def test_the_still_of_a_restyled_picture_is_its_last_frame():
    """The walk has 3 frames."""
    paths = list[str]()
    with walk_server(walk_of("restyle"), paths=paths) as url:
        assert run("restyle", "photo.jpg", "--style", "mosaic", "--url", url, "-o", "portrait.png") == 0
    assert paths == ["/api/v1/walks/1/frames/2.png"]


def test_extras_are_saved_in_a_folder_and_nowhere_else(files):
    """A server must not choose where files are written."""
    names = ("depth.png", "cutout.png", "../evil.png", "evil.sh")
    extras = [{"name": name, "url": f"/api/v1/walks/1/extras/{name}", "media_type": "image/png"} for name in names]
    with walk_server(walk_of("into", extras=extras)) as url:
        assert run("into", "photo.jpg", "--extras", "extras", "--url", url) == 0
    assert sorted(path.name for path in (files / "extras").iterdir()) == ["cutout.png", "depth.png"]
    assert not (files / "evil.png").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("into phto.jpg", "file not found: phto.jpg"),
        ("into photo.jpg@1,2", "the part of photo.jpg must be X,Y,WIDTH,HEIGHT in pixels, not 1,2"),
        ("restyle photo.jpg", "one of the arguments --style --prompt --style-picture is required"),
        ("restyle photo.jpg --style a --prompt b", "not allowed with argument --style"),
        ("clip film.mpeg --style a", "file not found: film.mpeg"),
        ("clip film.mov --style a -o still.png", "the file name must end in"),
        ("into photo.jpg --extras photo.jpg", "photo.jpg is not a folder"),
    ],
)
def test_a_command_that_cannot_work_is_refused_before_it_calls_a_server(capsys, command, message):
    """Nothing listens at the URL: a call would end with 3."""
    assert run(*command.split(), "--url", "http://127.0.0.1:9") == 2
    assert message in capsys.readouterr().err
