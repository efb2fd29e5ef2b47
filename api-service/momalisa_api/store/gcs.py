"""A bucket in Google Cloud Storage, with the library's own retries, bounded. Not where its failures become HTTP.

`STORAGE_EMULATOR_HOST` leads to an emulator, without credentials; the library reads it.
"""

import mimetypes
from collections.abc import AsyncIterator, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
import structlog
from google.api_core.exceptions import (
    GoogleAPICallError,
    GoogleAPIError,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
    RetryError,
)
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from momalisa_api.outages import Outage
from momalisa_api.problems import BucketUnavailable
from momalisa_api.store.bucket import NO_ANSWER, NotInBucket

# As many as the library keeps connections for: an eleventh would be opened and thrown away each time.
THREADS = 10
PATIENCE_S = 20.0
LOOK_S = 5.0
PASSING_S = 2.0  # refusals that end sooner are a store's daily life, and no outage
TIMEOUT_S = (5.0, 30.0)  # to connect, and between two bytes of an answer
READ_BYTES = 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024
SESSIONS = 3
# Short waits: whoever is cancelled meanwhile is let go after the one it is in.
AGAIN: Any = DEFAULT_RETRY.with_delay(initial=0.25, maximum=4.0, multiplier=2.0)
FAULTS = (GoogleAPIError, GoogleAuthError, DataCorruption)

log = structlog.get_logger()
T = TypeVar("T")


class NoBucket(Exception):
    """The bucket is not there, or is not ours to use. str(error) says what to do."""


class GcsBucket:
    """A bucket, or a part of one, whose objects' names begin with a prefix.

    patience_s: how long a request, with its wait for a thread, is tried again before BucketUnavailable is raised.
    """

    def __init__(self, name: str, prefix: str = "", *, patience_s: float = PATIENCE_S) -> None:
        try:
            # Names of buckets are global and their objects know their own project: none has to be named.
            self._client: Any = storage.Client(project=None)
        except DefaultCredentialsError as error:
            raise NoBucket(f"No credentials for gs://{name}: {error}") from error
        self._bucket: Any = self._client.bucket(name)
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._patience_s = patience_s
        self._threads = anyio.CapacityLimiter(THREADS)
        self._outage = Outage("bucket")

    async def aclose(self) -> None:
        """Close the connections."""
        self._client.close()

    def look(self) -> None:
        """See that the bucket is there and ours to list. Raises NoBucket; one that does not answer may yet come."""
        name = self._bucket.name
        try:
            next(iter(self._bucket.list_blobs(max_results=1, retry=AGAIN.with_timeout(LOOK_S), timeout=LOOK_S)), None)
        except NotFound as error:
            raise NoBucket(f"There is no bucket gs://{name}. Create it, or mend its name.") from error
        except RetryError as error:
            self._outage.missed(error)
        except FAULTS as error:
            raise NoBucket(f"gs://{name} is closed to us, who need roles/storage.objectUser on it: {error}") from error

    async def put(self, key: str, content: bytes) -> bool:
        """Store an object as the first under its key.

        The condition makes a write safe to repeat. Where an earlier try stored the object and its answer was lost, the
        next one finds it there and this is False: it lies there, and no matter who wrote it, it is the same.
        """
        blob = self._blob(key)

        def send(again: Any) -> None:
            blob.upload_from_string(content, **_first(key), retry=again)

        return await self._call(partial(_create, send))

    async def put_file(self, key: str, source: Path) -> bool:
        """Store a file like `put`: above 8 MiB in a resumable session, begun anew where the session is lost."""
        blob = self._blob(key, chunk_size=UPLOAD_BYTES)

        def send(again: Any) -> None:
            for session in range(1, SESSIONS + 1):
                try:
                    blob.upload_from_filename(source, **_first(key), retry=again)
                    break
                except (ValueError, GoogleAPICallError) as error:
                    # ValueError: the library cannot go on where only a part of a chunk was kept.
                    lost = isinstance(error, ValueError) or error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
                    if not lost or session == SESSIONS:
                        raise
                    log.warning("an upload begins anew", key=key, error=str(error))

        return await self._call(partial(_create, send))

    async def get(self, key: str) -> bytes:
        return await self._call(partial(_found, key, self._blob(key).download_as_bytes))

    async def size(self, key: str) -> int:
        def look(again: Any) -> int:
            blob = self._blob(key)
            _found(key, blob.reload, again)
            return int(blob.size or 0)  # one emulator leaves a zero out

        return await self._call(look)

    async def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        while first <= last:
            chunk = await self._range(key, first, min(first + READ_BYTES - 1, last))
            if not chunk:
                return
            first += len(chunk)
            yield chunk

    async def _range(self, key: str, first: int, last: int) -> bytes:
        """Bytes of an object, both ends included; none beyond its end."""
        download = partial(self._blob(key).download_as_bytes, start=first, end=last)

        def read(again: Any) -> Any:
            try:
                return _found(key, download, again)
            except RequestRangeNotSatisfiable:
                return b""

        return await self._call(read)

    async def present(self, prefix: str) -> frozenset[str]:
        def scan(again: Any) -> frozenset[str]:
            begins = self._name(prefix)
            wanted = {"delimiter": "/", "fields": "items(name),nextPageToken"}
            found = self._bucket.list_blobs(prefix=begins, **wanted, retry=again, timeout=TIMEOUT_S)
            return frozenset(blob.name.removeprefix(self._prefix) for blob in found)

        return await self._call(scan)

    async def delete(self, key: str) -> None:
        def remove(again: Any) -> None:
            try:
                self._blob(key).delete(retry=again, timeout=TIMEOUT_S)
            except NotFound:
                return  # or an earlier try removed it, and its answer was lost

        await self._call(remove)

    def _name(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"key {key!r} leads out of the bucket")
        return self._prefix + key

    def _blob(self, key: str, chunk_size: int | None = None) -> Any:
        return self._bucket.blob(self._name(key), chunk_size)

    async def _call(self, call: Callable[[Any], T]) -> T:
        """Make a call in a thread, with what retries it. Raises BucketUnavailable when patience is at its end."""
        began = monotonic()

        def in_thread() -> T:
            asked_at = monotonic()
            left_s = max(0.0, self._patience_s - (asked_at - began))
            return call(partial(AGAIN.with_timeout(left_s), on_error=partial(self._on_fault, asked_at)))

        try:
            answer = await anyio.to_thread.run_sync(in_thread, limiter=self._threads)
        except FAULTS as error:
            self._outage.missed(error)
            raise BucketUnavailable(NO_ANSWER) from error
        self._outage.answered()
        return answer

    def _on_fault(self, asked_at: float, error: Exception) -> None:
        """Before each retry: end where the caller has gone, which raises its cancellation."""
        if isinstance(error, InvalidResponse):
            error.response.close()  # a download's, which the library leaves open
        anyio.from_thread.check_cancelled()
        if monotonic() - asked_at > PASSING_S:
            self._outage.missed(error)


def _first(key: str) -> dict[str, Any]:
    """What makes an upload the first under its key, or none."""
    media_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
    return {"if_generation_match": 0, "content_type": media_type, "timeout": TIMEOUT_S}


def _create(send: Callable[[Any], None], again: Any) -> bool:
    try:
        send(again)
    except PreconditionFailed:
        return False
    return True


def _found(key: str, call: Callable[..., Any], again: Any) -> Any:
    try:
        return call(retry=again, timeout=TIMEOUT_S)
    except NotFound:
        raise NotInBucket(key) from None
