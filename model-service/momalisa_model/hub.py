"""Downloads from the Hugging Face hub that continue where they broke off, and what to do about failures."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from momalisa_model.problems import DownloadFailed

REPORT_INTERVAL_S = 10
LARGE = ".safetensors"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)
SHA256_DIGITS = 64
Report = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where downloads go: what messages call it, and the setting that moves it."""

    name: str = "the hub's cache"
    setting: str = "HF_HOME"


_place = Place()


@dataclass(frozen=True)
class Download:
    """A large file: its address, its size in bytes, and its places in the hub's cache."""

    url: str
    size: int
    blob: Path
    lock: Path

    @property
    def incomplete(self) -> Path:
        """What is there until the file is complete."""
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    @property
    def there(self) -> int:
        """Bytes that are on the disk."""
        for path in (self.blob, self.incomplete):
            with suppress(FileNotFoundError):
                return path.stat().st_size
        return 0


@contextmanager
def downloading_into(cache: Path, setting: str) -> Iterator[None]:
    """Use a folder in place of the hub's cache during the block, in the whole process.

    setting: what messages name to move it.
    """
    global _place
    before = constants.HF_HUB_CACHE, _place
    constants.HF_HUB_CACHE, _place = str(cache), Place(setting, setting)
    try:
        yield
    finally:
        constants.HF_HUB_CACHE, _place = before


def fetch(
    model: str,
    revision: str | None,
    names: Sequence[str],
    report: Report = lambda _: None,
    setting: str = "MODEL_ID",
) -> Path:
    """The folder of a model in the hub's cache, after a download of the files that it lacks.

    names: paths of files; those of small files may have wildcards. report: gets a sentence about the progress every
    ten seconds. setting: names the model, for messages. The folder is named after the commit. Raises DownloadFailed.
    """
    missing = 0
    try:
        small = [name for name in names if not name.endswith(LARGE)]
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=small))
        large = [name for name in names if name.endswith(LARGE) and not (folder / name).is_file()]
        downloads = [_prepared(model, folder.name, name) for name in large]
        missing = sum(download.size - download.there for download in downloads)
        if downloads:
            _require_space(missing)
            with _progress(model, downloads, report):
                for download in downloads:
                    _run(download)
            # The files are in the cache, and get their names.
            snapshot_download(model, revision=folder.name, allow_patterns=[glob.escape(name) for name in large])
    except Exception as error:  # the hub's client raises its own errors, those of HTTP, and those of the disk
        raise DownloadFailed(_in_words(error, model, revision or "main", missing, setting)) from error
    return folder


def _prepared(model: str, commit: str, name: str) -> Download:
    url = hf_hub_url(model, name, revision=commit)
    found = get_hf_file_metadata(url)
    cache, repository = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=model, repo_type="model")
    blob, lock = cache / repository / "blobs" / str(found.etag), cache / ".locks" / repository / f"{found.etag}.lock"
    return Download(url, found.size or 0, blob, lock)


def _run(download: Download) -> None:
    """Download the rest of a file.

    The hub's own client begins each file again in a new process, and so does its protocol Xet. The lock is the client's
    own: several replicas share a cache.
    """
    download.lock.parent.mkdir(parents=True, exist_ok=True)
    download.blob.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(download.lock):
        if download.blob.is_file():
            return
        if download.there > download.size:
            download.incomplete.unlink()
        with download.incomplete.open("ab") as file:
            http_get(
                download.url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers(),
                expected_size=download.size or None,
            )
        _verify(download)
        download.incomplete.replace(download.blob)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(download: Download) -> None:
    """Remove a file that is not what the hub says: two starts have written it. Raises OSError."""
    wanted = download.blob.name
    if len(wanted) != SHA256_DIGITS or sha256_of(download.incomplete) == wanted:
        return
    download.incomplete.unlink()
    raise OSError("a file has another SHA-256 than on the hub and was removed")


@contextmanager
def _progress(model: str, downloads: Sequence[Download], report: Report) -> Iterator[None]:
    """Log and report the progress every ten seconds, also while another replica downloads."""
    log, ended, total = structlog.get_logger(), threading.Event(), sum(download.size for download in downloads)

    def tell() -> None:
        there = sum(download.there for download in downloads)
        log.info("downloading", model=model, downloaded_bytes=there, total_bytes=total)
        report(f"{model} is being downloaded: {_amount(there)} of {_amount(total)}.")

    def repeat() -> None:
        while not ended.wait(REPORT_INTERVAL_S):
            tell()

    tell()
    threading.Thread(target=repeat, name="progress", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _require_space(missing: int) -> None:
    if missing > _free():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), constants.HF_HUB_CACHE)


def _free() -> int:
    """Bytes that are free on the disk of the cache, which may not exist yet."""
    cache = Path(constants.HF_HUB_CACHE).absolute()
    return shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.exists())).free


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _in_words(error: Exception, model: str, revision: str, missing: int, setting: str) -> str:
    """What is wrong and what to do, without a path or an address: it is sent over HTTP."""
    if isinstance(error, GatedRepoError):
        return (
            f"The licence of {model} must be accepted. Accept it on the model's page on the hub, and set HF_TOKEN to a "
            "token of the same account."
        )
    # Without a token, the hub answers 401 for what does not exist too.
    refused = isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403)
    if refused or isinstance(error, RepositoryNotFoundError):
        return f"The hub has no model {model}, or it is private. Check {setting}, or set HF_TOKEN to a token for it."
    if isinstance(error, RevisionNotFoundError):
        where = "MODEL_REVISION" if setting == "MODEL_ID" else setting
        return f"{model} has no revision {revision}. Use one of its branches, tags or commits in {where}."
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return (
            f"The disk of {_place.name} is full: {model} needs {_amount(missing)} more, and {_amount(_free())} are "
            f"free. Free space, or set {_place.setting} to a folder on a larger disk."
        )
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        place = _place.name[0].upper() + _place.name[1:]
        return f"{place} cannot be written ({error.strerror}). Set {_place.setting} to a folder that can."
    if constants.HF_HUB_OFFLINE:
        return f"The hub's cache lacks files of {model} at {revision}. Unset HF_HUB_OFFLINE to download them."
    return (
        f"{model} at {revision} could not be downloaded: the hub cannot be reached, or the connection broke off. Check "
        "the connection and HF_ENDPOINT. What was downloaded is kept."
    )
