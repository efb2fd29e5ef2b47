"""The folder of a fetched model: what it lends to the next download, and what it gets from a complete one.

Downloads are in the cache of the hub's client, which names files by their hash and links to them. Here are plain files.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

import structlog

from momalisa_model.fetched import FETCHED, Fetched, FetchedFile, Part
from momalisa_model.hub import LARGE, SHA256_DIGITS, sha256_of
from momalisa_model.problems import DownloadFailed

# The record while files are moved.
MOVED = "moved.json"
SHA1_DIGITS = 40


def record_at(path: Path) -> Fetched | None:
    """A record, whatever the files are now; None if there is none."""
    with suppress(OSError, ValueError):
        return Fetched.model_validate_json(path.read_bytes())
    return None


def lend(home: Path, repository: Path) -> None:
    """Put files of an earlier fetch, even an incomplete one, into the cache: under their SHA-256, as weights are."""
    blobs = repository / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    records = (record_at(path) for path in (home / FETCHED, repository / MOVED))
    for name, file in ((name, file) for record in records if record for name, file in record.files.items()):
        place, blob = home / name, blobs / file.sha256
        if not place.is_file() or blob.exists():
            continue
        try:
            blob.hardlink_to(place)
        except OSError:  # such as a bucket that is mounted as a folder
            shutil.copyfile(place, blob)


def remove_damaged(repository: Path) -> None:
    """Remove files of the cache that are not what their names say."""
    for path in (repository / "blobs").iterdir():
        if not _is_intact(path):
            structlog.get_logger().warning("damaged file removed", expected=path.name)
            path.unlink()


def _is_intact(blob: Path) -> bool:
    """Whether a file of the cache has the hash that it is named after: SHA-256 if it is large, else Git's SHA-1."""
    if len(blob.name) == SHA256_DIGITS:
        return sha256_of(blob) == blob.name
    if len(blob.name) == SHA1_DIGITS:
        data = blob.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == blob.name
    return True


def publish(snapshot: Path, part: Part) -> Fetched:
    """Move the files of a complete download to their place, and then its record. Returns the record."""
    home, found = part.folder, [path for path in snapshot.rglob("*") if path.is_file()]
    names = sorted(name for path in found if (name := path.relative_to(snapshot).as_posix()).startswith(part.starts))
    files = {name: _file(snapshot / name) for name in names}
    record = Fetched(model_id=part.model_id, wanted=part.wanted, revision=snapshot.name, files=files)
    moved = snapshot.parents[1] / MOVED
    moved.write_text(record.model_dump_json(indent=2))
    before = record_at(home / FETCHED)
    (home / FETCHED).unlink(missing_ok=True)
    for name in set(before.files if before else ()) - files.keys():
        (home / name).unlink(missing_ok=True)
    places: dict[Path, Path] = {}
    for name in names:
        blob, place = (snapshot / name).resolve(), home / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if blob in places:  # equal files are one in the cache
            shutil.copyfile(places[blob], place)
        else:
            places[blob] = blob.replace(place)
    moved.replace(home / FETCHED)
    return record


def _file(path: Path) -> FetchedFile:
    """A file for the record. Weights were verified after their download: nothing large is hashed twice."""
    blob = path.resolve()
    if path.name.endswith(LARGE) and len(blob.name) == SHA256_DIGITS:
        return FetchedFile(bytes=path.stat().st_size, sha256=blob.name)
    if not _is_intact(blob):
        blob.unlink()
        raise DownloadFailed(f"{path.name} is not what the hub has. Run `momalisa-model fetch` again.")
    return FetchedFile(bytes=path.stat().st_size, sha256=sha256_of(blob))
