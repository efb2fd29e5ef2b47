"""The folder in which a process receives uploads and makes films, and what becomes of it if the process is killed."""

import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Final

import structlog

UPLOAD_FOLDERS: Final = "momalisa-uploads-"

log = structlog.get_logger()


@asynccontextmanager
async def upload_folder() -> AsyncIterator[Path]:
    """Like `claimed_folder`, for the app's start and end."""
    with claimed_folder() as folder:
        yield folder


@contextmanager
def claimed_folder() -> Iterator[Path]:
    """A folder of this process, which is removed at its end. First, removes folders that no process holds any more.

    A process holds its folder by a lock, which the kernel gives back however the process ends.
    """
    for left in Path(gettempdir()).glob(f"{UPLOAD_FOLDERS}*"):
        with _held(left) as nobody_else_has:
            if nobody_else_has:
                log.info("files of a killed process removed", folder=left.name)
                shutil.rmtree(left, ignore_errors=True)
    while True:
        folder = Path(mkdtemp(prefix=UPLOAD_FOLDERS))
        with _held(folder) as held:
            # Another process that starts now may have taken the new folder for one that was left behind.
            if not held or not folder.exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Lock a folder while the context lasts. Yields whether that was possible."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        locked = False
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        yield locked
    finally:
        os.close(descriptor)
