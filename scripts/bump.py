"""Sets a new version everywhere: `make bump VERSION=1.2.3`. Changes files, and neither commits nor tags.

The version in pyproject.toml is the source. PLACES lists its copies, in files that cannot read it from there.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = "pyproject.toml"
CHANGELOG = "CHANGELOG.md"
NUMBER = r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*)){2}"
# Files, and the text around the version in each.
PLACES = (
    ([SOURCE], r'^version = "VERSION"$'),
    (["api-service/momalisa_api/__init__.py"], r'^__version__ = "VERSION"$'),
    (["model-service/momalisa_model/__init__.py"], r'^__version__ = "VERSION"$'),
    (["docker-compose.yml"], r"\$\{MOMALISA_TAG:-VERSION\}"),
    (["deployment/compose.gpu.yml"], r"\$\{MOMALISA_TAG:-VERSION\}"),
    (["k8s/base/kustomization.yaml"], r"\{name: momalisa/\w+, newTag: VERSION\}"),
    (
        ["k8s/model/*/kustomization.yaml"],
        r"\{name: momalisa/model, (?:newName: \S+, )?newTag: VERSION\}",
    ),
    (["deployment/inventory/group_vars/all.yml"], r'^momalisa_image_tag: "VERSION"$'),
    (["docs/openapi/*.json"], r'^    "version": "VERSION"$'),
    (["README.md", "docs/**/*.md"], r"`MOMALISA_TAG`.*`VERSION`"),
)
UNRELEASED = re.compile(r"^## \[?Unreleased\]?\n(?P<changes>.*?)(?=^## |^\[\S+\]: |\Z)", re.MULTILINE | re.DOTALL)
COMPARISON = re.compile(r"^\[Unreleased\]: (?P<compare>\S+/)v(?P<old>\S+)\.\.\.HEAD$", re.MULTILINE)


class Refused(Exception):
    """The version was not set. str(refused) says why and what to do."""


@dataclass(frozen=True)
class Copy:
    """A version in a file: text[start:end] of it."""

    path: str
    start: int
    end: int
    version: str


def copies(root: Path) -> list[Copy]:
    """Every place where the version is written out, the source first. Raises Refused where a place has none."""
    found: list[Copy] = []
    for globs, pattern in PLACES:
        version = re.compile(pattern.replace("VERSION", f"(?P<version>{NUMBER})"), re.MULTILINE)
        paths = sorted(path for glob in globs for path in root.glob(glob))
        here = [
            Copy(str(path.relative_to(root)), *match.span("version"), match["version"])
            for path in paths
            for match in version.finditer(path.read_text())
        ]
        if not here:
            raise Refused(f"No version found in {' or '.join(globs)}. Correct PLACES in {Path(__file__).name}.")
        found += here
    return found


def bump(root: Path, version: str, today: str) -> list[str]:
    """Write the version to every place, and date the changelog's section. Returns the paths of the changed files."""
    found = copies(root)
    current = found[0].version
    _check_version(version, current)
    if astray := [copy for copy in found if copy.version != current]:
        listed = ", ".join(f"{copy.path} has {copy.version}" for copy in astray)
        raise Refused(f"{SOURCE} has {current}, but {listed}. Correct these first.")
    changelog = root / CHANGELOG
    released = release_notes(changelog.read_text(), version, today)
    paths = list(dict.fromkeys(copy.path for copy in found))
    _check_repository(root, version, [*paths, CHANGELOG])
    for path in paths:
        text = (root / path).read_text()
        for copy in sorted((copy for copy in found if copy.path == path), key=lambda copy: -copy.start):
            text = text[: copy.start] + version + text[copy.end :]
        (root / path).write_text(text)
    changelog.write_text(released)
    return [*paths, CHANGELOG]


def release_notes(changelog: str, version: str, today: str) -> str:
    """The changelog with a dated section for the version, which takes over the entries under Unreleased."""
    if re.search(rf"^## \[?{re.escape(version)}\]?(?: |$)", changelog, re.MULTILINE):
        raise Refused(f"{CHANGELOG} already has a section {version}. Choose a newer version.")
    unreleased = UNRELEASED.search(changelog)
    if not unreleased or not unreleased["changes"].strip():
        raise Refused(f"{CHANGELOG} lists no changes under Unreleased. Add them first.")
    heading = unreleased.group().partition("\n")[0]
    dated = heading.replace("Unreleased", version) + f" - {today}"
    changelog = changelog.replace(heading + "\n", f"{heading}\n\n{dated}\n", 1)
    links = rf"[Unreleased]: \g<compare>v{version}...HEAD" + "\n" + rf"[{version}]: \g<compare>v\g<old>...v{version}"
    return COMPARISON.sub(links, changelog)


def _check_version(version: str, current: str) -> None:
    if not re.fullmatch(NUMBER, version):
        raise Refused(f"{version!r} is not a version. Give three numbers: make bump VERSION=1.2.3")
    if _numbers(version) <= _numbers(current):
        raise Refused(f"{version} is not newer than {current}. Choose a newer version.")


def _check_repository(root: Path, version: str, paths: list[str]) -> None:
    if _git(root, "tag", "--list", f"v{version}"):
        raise Refused(f"The tag v{version} exists already. Choose a newer version.")
    if changed := _git(root, "status", "--porcelain", "--", *paths):
        raise Refused(f"These files have uncommitted changes. Commit or stash them first:\n{changed}")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.rstrip()


def main() -> None:
    """The command: one argument, the new version. Without one, print the current version."""
    try:
        current = copies(ROOT)[0].version
        if len(sys.argv) < 2:
            print(current)
            return
        changed = bump(ROOT, sys.argv[1], datetime.now(UTC).date().isoformat())
    except Refused as refused:
        sys.exit(str(refused))
    print(f"{current} -> {sys.argv[1]} in:", *changed, sep="\n  ")
    print(f"Next: git commit --all --message 'Release {sys.argv[1]}' && git tag v{sys.argv[1]}")


if __name__ == "__main__":
    main()
