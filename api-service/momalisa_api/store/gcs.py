"""A bucket in Google Cloud Storage, with the retries of Google's library, bounded in time.

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

# The size of the library's connection pool: one more connection would be opened and closed for each call.
THREADS = 10
PATIENCE_S = 20.0
CHECK_S = 5.0
PASSING_S = 2.0  # shorter failures are normal for an object store, and not an outage
TIMEOUT_S = (5.0, 30.0)  # to connect, and between two reads
READ_BYTES = 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024
SESSIONS = 3
# Short waits, as a cancelled caller waits for the current one to end.
AGAIN: Any = DEFAULT_RETRY.with_delay(initial=0.25, maximum=4.0, multiplier=2.0)
FAULTS = (GoogleAPIError, GoogleAuthError, DataCorruption)

log = structlog.get_logger()
T = TypeVar("T")


class NoBucket(Exception):
    """The bucket does not exist, or access is denied. str(error) says what to do."""


class GcsBucket:
    """A Google Cloud Storage bucket, or the part of one below a prefix.

    patience_s: how long a request, with its wait for a thread, is tried again before BucketUnavailable is raised.
    """

    def __init__(
        self, name: str, prefix: str = "", *, patience_s: float = PATIENCE_S, check_s: float = CHECK_S
    ) -> None:
        """patience_s: seconds of retries per call; check_s: the same for the check at the start."""
        self._check_s = check_s
        try:
            # Bucket names are global, so no project is needed.
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

    def check(self) -> None:
        """Check that the bucket exists and can be listed. Raises NoBucket; one that does not respond passes."""
        name = self._bucket.name
        retry = AGAIN.with_timeout(self._check_s)
        try:
            next(iter(self._bucket.list_blobs(max_results=1, retry=retry, timeout=self._check_s)), None)
        except NotFound as error:
            raise NoBucket(f"There is no bucket gs://{name}. Create it, or correct the name.") from error
        except RetryError as error:
            self._outage.missed(error)
        except FAULTS as error:
            raise NoBucket(f"gs://{name} denies access; grant roles/storage.objectUser on it: {error}") from error

    async def put(self, key: str, content: bytes) -> bool:
        """Store an object, if its key is free.

        The precondition makes retries safe. If an earlier try stored the object and its response was lost, the next
        one finds the key taken and this returns False: the object is stored, whoever wrote it.
        """
        blob = self._blob(key)

        def send(again: Any) -> None:
            blob.upload_from_string(content, **_first(key), retry=again)

        return await self._call(partial(_create, send))

    async def put_file(self, key: str, source: Path) -> bool:
        """Store a file like `put`: above 8 MiB in a resumable session, restarted if the session is lost."""
        blob = self._blob(key, chunk_size=UPLOAD_BYTES)

        def send(again: Any) -> None:
            for session in range(1, SESSIONS + 1):
                try:
                    blob.upload_from_filename(source, **_first(key), retry=again)
                    break
                except (ValueError, GoogleAPICallError) as error:
                    # ValueError: the library cannot resume if the server kept only part of a chunk.
                    lost = isinstance(error, ValueError) or error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
                    if not lost or session == SESSIONS:
                        raise
                    log.warning("upload restarted", key=key, error=str(error))

        return await self._call(partial(_create, send))

    async def get(self, key: str) -> bytes:
        return await self._call(partial(_found, key, self._blob(key).download_as_bytes))

    async def size(self, key: str) -> int:
        def look(again: Any) -> int:
            blob = self._blob(key)
            _found(key, blob.reload, again)
            return int(blob.size or 0)  # one emulator omits a size of zero

        return await self._call(look)

    async def stream(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        while first <= last:
            chunk = await self._range(key, first, min(first + READ_BYTES - 1, last))
            if not chunk:
                return
            first += len(chunk)
            yield chunk

    async def _range(self, key: str, first: int, last: int) -> bytes:
        """Read bytes of an object, both ends included, and none beyond its end."""
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
                return  # or an earlier try deleted it and its response was lost

        await self._call(remove)

    def _name(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"key {key!r} points outside the bucket")
        return self._prefix + key

    def _blob(self, key: str, chunk_size: int | None = None) -> Any:
        return self._bucket.blob(self._name(key), chunk_size)

    async def _call(self, call: Callable[[Any], T]) -> T:
        """Run a call with its retries in a thread. Raises BucketUnavailable when the retries end."""
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
        """Before each retry: stop if the caller was cancelled, which raises the cancellation."""
        if isinstance(error, InvalidResponse):
            error.response.close()  # the library leaves a failed download's response open
        anyio.from_thread.check_cancelled()
        if monotonic() - asked_at > PASSING_S:
            self._outage.missed(error)


def _first(key: str) -> dict[str, Any]:
    """The precondition that lets an upload succeed only if its key is free."""
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
