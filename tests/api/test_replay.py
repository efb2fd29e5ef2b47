"""`momalisa replay`: the walk of a film again, from what the film carries."""

import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter

from momalisa_api.cli import main
from momalisa_api.films.metadata import NoSpec, read_spec
from momalisa_api.films.outputs import save_poster, save_shared_poster
from momalisa_api.settings import Settings
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.spec import SPEC_VERSION
from momalisa_api.web.kind_request import WalkBody
from momalisa_api.web.kind_spec import Uploads, complete_kind
from momalisa_api.web.request import WalkRequest
from tests.support.factories import CARD, painted, spec
from tests.support.films import make_gif, make_mp4, make_preview, make_still
from tests.support.kinds import CLIP, CONTENTS, PICTURE, STORED_CLIP, STYLE_PICTURE, spec_of_kind
from tests.support.walk_server import walk_server

SPEC = {
    **spec(stops=("a giraffe 🦒", "b", "c"), frames=3, model="test-model", revision="1").model_dump(mode="json"),
    "version": SPEC_VERSION,
    "seed": 7,
    "fractions": [0.0, 0.5, 1.0],
    "early_legs": [1],
    "fingerprints": ["0" * 16],
    "smoothness": None,
}
FACTS = ("fractions", "early_legs", "fingerprints", "smoothness")
TEXT = json.dumps(SPEC)
KINDS = ("walk.gif", "poster.webp", "poster.jpg", "walk.mp4", "preview.mp4")


def film(path: Path, text: str = TEXT) -> Path:
    """A film of one kind, by its name, with a text as its metadata."""
    pictures = [Image.open(io.BytesIO(painted({"width": 32, "height": 32, "seed": 1}, 0.5))).convert("RGB")] * 3
    {
        "walk.gif": lambda: make_gif(pictures, path, text),
        "poster.webp": lambda: make_still(pictures, path, save_poster, text),
        "poster.jpg": lambda: make_still(pictures, path, save_shared_poster, text),
        "walk.mp4": lambda: make_mp4(pictures, path, text),
        "preview.mp4": lambda: make_preview(pictures, path, text),
    }[path.name]()
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(["replay", *arguments])
    return ended.value.code


@pytest.mark.parametrize("name", KINDS)
def test_every_film_carries_its_spec(tmp_path, name):
    """Whatever a visitor has saved."""
    assert read_spec(film(tmp_path / name)) == SPEC


@pytest.mark.parametrize("name", KINDS)
def test_a_film_that_is_cut_off_or_damaged_is_no_film(tmp_path, name):
    """Downloads break, and files are edited: a sentence, never a traceback."""
    whole = film(tmp_path / name).read_bytes()
    broken = tmp_path / f"broken{Path(name).suffix}"
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        for content in (whole[:size], whole[:size] + b"\xff\x00\x7f" + whole[size + 3 :]):
            broken.write_bytes(content)
            try:
                read_spec(broken)
            except NoSpec:
                continue


@pytest.mark.parametrize(
    "text",
    [
        *("", "no JSON", "[]", "{}", '{"stops": 1}', "[" * 50_000),
        *(TEXT.replace("7", "NaN"), TEXT.replace("7", "1e999"), TEXT.replace("b", "\\ud800")),
    ],
    ids=lambda text: text[:20],
)
def test_other_metadata_are_no_spec(tmp_path, text):
    """A comment of another program."""
    with pytest.raises(NoSpec):
        read_spec(film(tmp_path / "walk.gif", text))


def test_a_number_in_place_of_the_comment_is_no_film(tmp_path):
    """As so many bytes it would fill the memory."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = size = 50_000_000
    Image.new("RGB", (8, 8)).save(tmp_path / "poster.jpg", exif=exif)
    tracemalloc.start()
    with pytest.raises(NoSpec):
        read_spec(tmp_path / "poster.jpg")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < size


def test_another_picture_is_no_film(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
    with pytest.raises(NoSpec):
        read_spec(tmp_path / "a.gif")


def test_replay_requests_the_walk_of_a_film(tmp_path, capsys):
    """With everything that decides its pixels: the seed that was chosen, not auto."""
    requests = []
    with walk_server(requests=requests) as url:
        code = run(str(film(tmp_path / "walk.mp4")), "--url", url, "--out", str(tmp_path / "again.gif"))
    assert code == 0
    [request] = requests
    others = ("kind", "version", "revision", "guidance_interval", *FACTS)
    decided = {name: value for name, value in SPEC.items() if name not in others and value is not None}
    assert request == decided
    assert WalkRequest.model_validate(request).named_stops == tuple(SPEC["stops"])
    assert (tmp_path / "again.gif").read_bytes() == b"a film"


PICTURE_STOP = {**PICTURE, "prompt": ""}
UPLOADS = {
    f"picture {PICTURE['picture']}": PICTURE["picture"],
    f"picture {STYLE_PICTURE['picture']}": STYLE_PICTURE["picture"],
    f"clip {CLIP['clip']}": CLIP["clip"],
}
# A model whose style is no prompt, so that the specs of the same request differ by what the request names.
CARD_OF_KINDS = ModelCard.model_validate(
    {**CARD, "size_multiple": 2, "scheduler": "DDIMScheduler"}
    | {"schedulers": ["DDIMScheduler"], "styles": [{"name": "stained-glass", "title": "Stained glass"}]}
)
# By kind: what its film carries, and the uploads that it was made of.
OF_UPLOADS = {
    "between pictures": (
        {**SPEC, "stops": ["a star", PICTURE_STOP], "strength": 0.8},
        [f"picture {PICTURE['picture']}"],
    ),
    **{
        name: (
            {**spec_of_kind(name).model_dump(mode="json"), "version": SPEC_VERSION, "fractions": [0.0, 1.0]},
            [upload for upload, entry in UPLOADS.items() if entry in json.dumps(CONTENTS[name])],
        )
        for name in CONTENTS
    },
}


@pytest.mark.parametrize("name", OF_UPLOADS)
def test_replay_requests_a_walk_of_uploads_that_the_server_still_keeps(tmp_path, name):
    """The request makes the same spec: the server completes it with the shape of what was uploaded."""
    carried, uploads = OF_UPLOADS[name]
    kept, requests = [upload.rpartition(" ")[2] for upload in uploads], []
    with walk_server(requests=requests, kept=kept) as url:
        path = film(tmp_path / "walk.gif", json.dumps(carried))
        assert run(str(path), "--url", url, "--out", str(tmp_path / "again.gif")) == 0
    request = TypeAdapter(WalkBody).validate_python(requests[0])
    if name in CONTENTS:
        kind = spec_of_kind(name)
        clip = replace(STORED_CLIP, width=48, height=32, frames=10, seconds=0.2)
        have = Uploads({PICTURE["picture"]: (48, 32), STYLE_PICTURE["picture"]: (64, 64)}, clip)
        made = complete_kind(request, CARD_OF_KINDS, Settings(max_clip_frames=5, _env_file=None), have)
        assert made.model_dump() == kind.model_dump()


@pytest.mark.parametrize("name", OF_UPLOADS)
def test_a_film_of_uploads_that_are_gone_says_which_it_needs(tmp_path, capsys, name):
    """The film has their hashes only, and nobody else can read them."""
    carried, uploads = OF_UPLOADS[name]
    path, requests = film(tmp_path / "walk.gif", json.dumps(carried)), []
    with walk_server(requests=requests) as url:
        assert run(str(path), "--url", url, "--out", str(tmp_path / "again.gif")) == 2
    said = capsys.readouterr().err
    assert requests == []
    assert uploads
    assert all(upload in said for upload in uploads)
    assert f"Use `momalisa {carried['kind'] if name in CONTENTS else 'walk'}` with the files" in said


def test_a_film_of_another_model_is_refused(tmp_path, capsys):
    """It would be another walk."""
    requests = []
    with walk_server(requests=requests) as url:
        path = film(tmp_path / "walk.gif", TEXT.replace('"revision": "1"', '"revision": "2"'))
        assert run(str(path), "--url", url, "--out", str(tmp_path / "again.gif")) == 2
    assert "made with test-model at revision 2, but the server" in capsys.readouterr().err
    assert requests == []


def test_show_prints_the_spec_and_needs_no_server(tmp_path, capsys):
    """What was this walk?"""
    assert run(str(film(tmp_path / "walk.gif")), "--show", "--url", "http://127.0.0.1:9") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {name: value for name, value in SPEC.items() if name not in ("version", *FACTS)}


def test_a_film_of_the_first_releases_is_of_a_uniform_walk(tmp_path, capsys):
    """They had no other spacing, and no word for it; today's default is even."""
    older = {name: value for name, value in SPEC.items() if name not in ("version", "spacing")}
    assert run(str(film(tmp_path / "walk.gif", json.dumps(older))), "--show") == 0
    assert json.loads(capsys.readouterr().out)["spacing"] == "uniform"


@pytest.mark.parametrize("version", [SPEC_VERSION + 1, 0, "new", None])
def test_a_film_of_a_newer_release_is_refused(tmp_path, capsys, version):
    """Its fields may have another meaning."""
    assert run(str(film(tmp_path / "walk.gif", json.dumps({**SPEC, "version": version}))), "--show") == 2
    assert "is a film of a newer release" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing.gif", "."])
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert run(name, "--show") == 2
    assert f"Could not read {name}: " in capsys.readouterr().err
