"""The curl commands of the documents, run by a real curl against a real API with a fake fleet."""

import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.factories import FakeFleet, FakeReplica
from tests.support.processes import REPOSITORY
from tests.support.served_api import served_api

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


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


def saves(words: list[str]) -> bool:
    return any(short(word, "o") or short(word, "O") for word in words)


def short(word: str, letter: str) -> bool:
    """Whether a word is a group of short options with this one among them, such as -sfO."""
    return bool(re.fullmatch("-[A-Za-z]+", word)) and letter in word
