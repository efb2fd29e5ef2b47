"""All copies of the version agree, and `make bump` changes all of them or none."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import momalisa_api
import momalisa_model
from scripts import bump
from tests.support.processes import SCRIPTS

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Depth.

## [{current}] - 2026-01-01

- Walks.

[Unreleased]: https://example.org/compare/v{current}...HEAD
[{current}]: https://example.org/releases/tag/v{current}
"""
DATED = """## [Unreleased]

## [{new}] - 2026-07-01

### Added

- Depth.

## [{current}] - 2026-01-01
"""
LINKS = """
[Unreleased]: https://example.org/compare/v{new}...HEAD
[{new}]: https://example.org/compare/v{current}...v{new}
[{current}]: https://example.org/releases/tag/v{current}
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def current() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


@pytest.fixture
def new(current: str) -> str:
    major, minor, _ = current.split(".")
    return f"{major}.{int(minor) + 1}.0"


@pytest.fixture
def checkout(tmp_path: Path, current: str) -> Path:
    """A repository with all files of this one that contain the version, committed."""
    for path in {copy.path for copy in bump.copies(ROOT)}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.format(current=current))
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "bump.py", tmp_path / "scripts")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Start")
    return tmp_path


def run_bump(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, folder / "scripts" / "bump.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_copy_of_the_version_agrees(current):
    """An image tag that lags behind would deploy the previous release."""
    assert {copy.path: copy.version for copy in bump.copies(ROOT) if copy.version != current} == {}
    assert (momalisa_api.__version__, momalisa_model.__version__) == (current, current)


def test_the_version_is_written_nowhere_else(current):
    """`make bump` would not change an unknown copy."""
    known = {(copy.path, (ROOT / copy.path).read_text().count("\n", 0, copy.start) + 1) for copy in bump.copies(ROOT)}
    written = re.compile(rf"(?<![\d.]){re.escape(current)}(?![\d.])")
    sources = (".", ":!*.lock", ":!*package-lock.json", ":!CHANGELOG.md")
    lines = git(ROOT, "grep", "-I", "--line-number", "--fixed-strings", current, "--", *sources).splitlines()
    elsewhere = [
        line
        for line, (path, number, text) in ((line, line.split(":", 2)) for line in lines)
        if (path, int(number)) not in known and written.search(text) and re.search("momalisa|version", text, re.I)
    ]
    assert elsewhere == []


def test_the_changelog_has_a_section_for_the_version(current):
    """Without release notes users cannot decide whether to upgrade."""
    assert re.search(rf"^## \[?{re.escape(current)}\]?( |$)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_bump_changes_every_copy_and_lists_the_files(checkout, current, new):
    """A release needs no other edit."""
    done = run_bump(checkout, new)
    assert (done.returncode, done.stderr) == (0, "")
    assert {copy.version for copy in bump.copies(checkout)} == {new}
    changed = git(checkout, "diff", "--name-only").split()
    assert set(changed) == {copy.path for copy in bump.copies(ROOT)} | {"CHANGELOG.md"}
    assert f"{current} -> {new}" in done.stdout
    assert all(path in done.stdout for path in changed)
    for line in git(checkout, "diff", "--unified=0", "--", ":!CHANGELOG.md").splitlines():
        assert not re.match(r"[+-](?![+-])", line) or new in line or current in line


def test_bump_dates_the_unreleased_section(checkout, current, new):
    """The entries under Unreleased become the notes of the release."""
    bump.bump(checkout, new, "2026-07-01")
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert DATED.format(current=current, new=new) in changelog
    assert changelog.endswith(LINKS.format(current=current, new=new))


def test_bump_dates_a_heading_without_brackets():
    """Keep a Changelog links its headings, but a file without links is valid too."""
    assert bump.release_notes("## Unreleased\n\n- A.\n\n## 0.1.0\n", "0.2.0", "2026-07-01") == (
        "## Unreleased\n\n## 0.2.0 - 2026-07-01\n\n- A.\n\n## 0.1.0\n"
    )


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-rc.1", "1.2.3\n", "١.2.3"])
def test_bump_refuses_an_invalid_version(checkout, version):
    """No image would be built for a tag such as v1.2."""
    refused = run_bump(checkout, version)
    assert refused.returncode == 1
    assert "make bump VERSION=1.2.3" in refused.stderr
    assert git(checkout, "status", "--porcelain") == ""


def _dirty(checkout: Path, new: str) -> None:
    with (checkout / "docker-compose.yml").open("a") as compose:
        compose.write("# mine\n")


def _tagged(checkout: Path, new: str) -> None:
    git(checkout, "tag", f"v{new}")


def _inconsistent(checkout: Path, new: str) -> None:
    init = checkout / "model-service" / "momalisa_model" / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9'))
    git(checkout, "commit", "--quiet", "--all", "--message", "Change one copy")


def _gone(checkout: Path, new: str) -> None:
    (checkout / "docker-compose.yml").write_text("services: {}\n")


def _already_noted(checkout: Path, new: str) -> None:
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(changelog.read_text() + f"\n## [{new}] - 2026-06-01\n")


def _nothing_new(checkout: Path, new: str) -> None:
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("### Added\n\n- Depth.\n\n", ""))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_dirty, "uncommitted changes"),
        (_tagged, "exists already"),
        (_inconsistent, "__init__.py has 9"),
        (_gone, "No version found in docker-compose.yml"),
        (_already_noted, "already has a section"),
        (_nothing_new, "lists no changes"),
    ],
)
def test_bump_refuses_before_it_changes_anything(checkout, new, spoil, reason):
    """A half-changed version is worse than an unchanged one."""
    spoil(checkout, new)
    before = git(checkout, "diff")
    refused = run_bump(checkout, new)
    assert refused.returncode == 1
    assert reason in refused.stderr
    assert git(checkout, "diff") == before


@pytest.mark.parametrize("older", ["0.0.1", "{current}"])
def test_bump_refuses_a_version_that_is_not_newer(checkout, current, older):
    """A tag must always name the same image."""
    refused = run_bump(checkout, older.format(current=current))
    assert refused.returncode == 1
    assert "is not newer than" in refused.stderr


@pytest.mark.parametrize("command", ["momalisa", "momalisa-model"])
def test_both_commands_print_their_version(command: str) -> None:
    """The first question in a report of a fault."""
    printed = subprocess.run([SCRIPTS / command, "--version"], check=True, capture_output=True, text=True)
    assert printed.stdout == f"{command} {momalisa_api.__version__}\n"
