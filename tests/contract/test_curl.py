"""The curl commands of the documents, run by a real curl against a real API with a fake fleet."""

import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.client import ENDED
from tests.support.clips import clip
from tests.support.factories import CARD, FakeFleet, FakeReplica
from tests.support.pictures import encoded, landscape
from tests.support.processes import REPOSITORY, wait_until
from tests.support.served_api import served_api

KIND_PAGES = sorted((REPOSITORY / "docs" / "kinds").glob("*.md"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), *KIND_PAGES]


def commands_of(page: Path) -> list[list[str]]:
    """The words of each curl command in the code blocks of a page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("curl ")]


@pytest.fixture
def replica() -> FakeReplica:
    return FakeReplica()


@pytest.fixture
def url(tmp_path: Path, replica: FakeReplica) -> Iterator[str]:
    fleet = FakeFleet()
    fleet.replicas["replica-1"] = replica
    with served_api(tmp_path, fleet) as address:
        yield address


@pytest.fixture
def command(url: str) -> list[str]:
    """The command of the README, for this API and with a short wait in place of 25 s."""
    [words] = [words for words in commands_of(PAGES[0]) if "-o" in words]
    words[-1] = words[-1].replace("http://127.0.0.1:8000", url).replace("wait=25", "wait=0.1")
    assert words[-1].startswith(url)
    assert words[-1].endswith("wait=0.1")
    return words


def test_the_command_of_the_readme_saves_a_walk_that_takes_longer_than_it_waits(command, replica, tmp_path):
    """What is there meanwhile must not be saved as a film."""
    replica.ready = False
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as curl:
        assert curl.stderr
        said = next(line for line in curl.stderr if "Will retry" in line)
        replica.ready = True
        curl.stderr.read()
    assert "2 seconds" in said, "curl follows Retry-After"
    assert curl.returncode == 0
    with Image.open(io.BytesIO((tmp_path / "walk.gif").read_bytes())) as film:
        assert (film.format, film.n_frames) == ("GIF", 48)


def test_the_command_of_the_readme_ends_without_a_file_if_the_walk_fails(command, replica, tmp_path):
    """It would otherwise repeat a request that cannot succeed, 999 times."""
    replica.refusal = (422, "steps must be 1 to 3")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 22, done.stderr
    assert "409" in done.stderr
    assert not (tmp_path / "walk.gif").exists()


def test_every_documented_command_that_saves_a_file_keeps_errors_out_of_it():
    """Without --fail, curl writes a problem document into the file and exits with 0."""
    commands = [words for page in PAGES for words in commands_of(page)]
    saving = [words for words in commands if saves(words)]
    assert len(saving) >= 4
    assert [words for words in saving if "--fail" not in words and not any(short(word, "f") for word in words)] == []


@pytest.mark.parametrize("page", KIND_PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_kind_work_one_after_the_other(page, replica, tmp_path):
    """From the upload to the files, with what the answers before them have named."""
    replica.card = {**CARD, "engine": "style", "styles": [{"name": "woodcut", "title": "Woodcut"}]}
    replica.features, replica.paint = (page.stem,), lambda recipe, fraction: grey(recipe["width"], recipe["height"])
    replica.extras = EXTRAS.get(page.stem, {})
    (tmp_path / "photo.jpg").write_bytes(encoded(landscape(64, 48), "JPEG"))
    (tmp_path / "film.mp4").write_bytes(clip(frames=4))
    fleet, named = FakeFleet(), dict[str, str]()
    fleet.replicas["replica-1"] = replica
    with served_api(tmp_path, fleet, replica.card) as url:
        named["$API"] = f"{url}/api/v1"
        wait_until(lambda: page.stem in curled(["curl", "-s", f"{url}/api/v1/models"], tmp_path)["models"][0]["kinds"])
        for words in commands_of(page):
            for name, text in sorted(named.items(), reverse=True):
                words = [word.replace(name, text) for word in words]
            answer = curled(words, tmp_path)
            if words[-1].startswith('{"kind"'):
                named |= {"$WALK": f"{url}{answer['url']}", "$WALK_ID": answer["id"]}
                wait_for_films(named["$WALK"], tmp_path)
            elif "id" in answer:
                named["$ID"] = answer["id"]
    assert named.keys() == {"$API", "$ID", "$WALK", "$WALK_ID"}


def curled(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command, which must succeed. Returns the JSON that it prints, if it prints any."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (words, done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    assert "detail" not in answer, (words, answer)
    return answer


SHOW = ["curl", "-s", "-b", "cookies.txt"]


def wait_for_films(walk: str, folder: Path) -> None:
    state = wait_until(lambda: now if (now := curled([*SHOW, walk], folder))["state"] in ENDED else None, every_s=0.1)
    assert state["films"], state["error"]


def grey(width: int, height: int) -> bytes:
    return encoded(Image.new("RGB", (width, height), "grey"), "PNG")


EXTRAS = {
    "into": dict.fromkeys(("depth.png", "cutout.png"), grey(32, 24)),
    "apart": {"instances.json": b'{"width": 32, "height": 24, "instances": []}'},
}


def saves(words: list[str]) -> bool:
    return any(short(word, "o") or short(word, "O") for word in words)


def short(word: str, letter: str) -> bool:
    """Whether a word is a group of short options with this one among them, such as -sfO."""
    return bool(re.fullmatch("-[A-Za-z]+", word)) and letter in word
