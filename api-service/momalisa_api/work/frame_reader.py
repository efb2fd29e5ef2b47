"""Reads a walk's frames again and again while films are made of them, with a bounded amount of disk."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final

import anyio.from_thread

from momalisa_api.store.bucket import Bucket

# Frames beyond this are read from the bucket once for each film, so that no walk is too large for a worker's /tmp.
KEPT_BYTES: Final = 64 * 1024 * 1024


class FrameReader:
    """A walk's frames, each a function that returns its PNG. Called in a thread of anyio.

    The functions raise NotInBucket, BucketUnavailable, and InterruptedError after `stop`.
    """

    def __init__(self, bucket: Bucket, keys: Sequence[str], folder: Path) -> None:
        """folder: for copies of the first frames, of at most KEPT_BYTES."""
        self._bucket = bucket
        self._folder = folder
        self._kept_bytes = 0
        self._stopped = Event()
        self.frames: list[Callable[[], bytes]] = [partial(self._read, key, at) for at, key in enumerate(keys)]

    def stop(self) -> None:
        """End whoever reads: the films are not needed any more."""
        self._stopped.set()

    def _read(self, key: str, number: int) -> bytes:
        if self._stopped.is_set():
            raise InterruptedError("the films are not needed any more")
        copy = self._folder / f"{number}.png"
        if copy.exists():
            return copy.read_bytes()
        content = anyio.from_thread.run(self._bucket.get, key)
        if self._kept_bytes + len(content) <= KEPT_BYTES:
            copy.write_bytes(content)
            self._kept_bytes += len(content)
        return content
