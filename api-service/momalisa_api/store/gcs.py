"""A bucket in Google Cloud Storage, with the retries of Google's library, bounded in time.

`STORAGE_EMULATOR_HOST` leads to an emulator, without credentials; the library reads it.
"""

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Event
from time import monotonic
from typing import IO, Any, TypeVar

import anyio
import requests
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
from momalisa_api.store.bucket import NO_ANSWER, NotInBucket, StoredObject

# Each has a connection. A call takes tens of milliseconds, and a fleet of GPUs renders hundreds of frames a second.
THREADS = 32
PATIENCE_S = 20.0
CHECK_S = 5.0
PASSING_S = 2.0  # shorter failures are normal for an object store, and not an outage
# To connect, and between two reads: patience lasts for a second try after a connection that stalls, and for a third.
TIMEOUT_S = (4.0, 8.0)
READ_BYTES = 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024
# What a large upload may need beyond the patience: a chunk of it within the time of one read.
SLOWEST_BYTES_PER_S = 1024 * 1024
SESSIONS = 3
AGAIN: Any = DEFAULT_RETRY.with_delay(initial=0.25, maximum=4.0, multiplier=2.0)
FAULTS = (GoogleAPIError, GoogleAuthError, DataCorruption, requests.RequestException, TimeoutError)

log = structlog.get_logger()
T = TypeVar("T")


class NoBucket(Exception):
    """The bucket does not exist, or access is denied. str(error) says what to do."""


class GcsBucket:
    """A Google Cloud Storage bucket, or the part of one below a prefix.

    Google's library blocks, so it runs in threads. A caller waits for at most `patience_s`, wherever the time goes: on
    a free thread, on a connection that stalls, on retries. A caller that gives up, or is cancelled, leaves at once; its
    thread ends at the next read.
    """

    def __init__(
        self,
        name: str,
        prefix: str = "",
        *,
        patience_s: float = PATIENCE_S,
        check_s: float = CHECK_S,
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> None:
        """patience_s: seconds per call, with its retries; check_s: the same for the check at the start.

        timeout_s: seconds to connect, and between two reads.
        """
        self._check_s = check_s
        self._timeout_s = timeout_s
        try:
            # Bucket names are global, so no project is needed.
            self._client: Any = storage.Client(project=None)
        except DefaultCredentialsError as error:
            raise NoBucket(f"No credentials for gs://{name}: {error}") from error
        self._bucket: Any = self._client.bucket(name)
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self._patience_s = patience_s
        self._client._http.hooks["response"].append(_raise_if_not_of_store)
        # The library's own pool has ten connections: each further one would be opened and closed for each call.
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=THREADS)
        for scheme in ("https://", "http://"):
            self._client._http.mount(scheme, adapter)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bucket")
        self._outage = Outage("bucket")

    async def aclose(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
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
        self._check_permissions()

    def _check_permissions(self) -> None:
        """Check that objects can be written and read. Raises NoBucket; a store that cannot tell passes."""
        needed = ["storage.objects.create", "storage.objects.get"]
        try:
            granted = self._bucket.test_iam_permissions(needed, timeout=self._check_s, retry=None)
        except FAULTS:
            return
        if missing := set(needed) - set(granted):
            lacking = " and ".join(sorted(missing))
            raise NoBucket(f"gs://{self._bucket.name} does not grant {lacking}; grant roles/storage.objectUser on it.")

    async def put(self, key: str, content: bytes) -> bool:
        """Store an object, if its key is free.

        The precondition makes retries safe. If an earlier try stored the object and its response was lost, the next
        one finds the key taken and this returns False: the object is stored, whoever wrote it.
        """
        blob = self._blob(key)

        def send(again: Any) -> None:
            blob.upload_from_string(content, **self._first(key), retry=again)

        return await self._call(partial(_create, send))

    async def put_file(self, key: str, source: Path) -> bool:
        """Store a file like `put`: above 8 MiB in a resumable session, restarted if the session is lost."""
        blob = self._blob(key, chunk_size=UPLOAD_BYTES)
        size = (await anyio.Path(source).stat()).st_size
        given_up = Event()

        def send(again: Any) -> None:
            with source.open("rb") as file:
                send_file(_UntilGivenUp(file, given_up), again)

        def send_file(file: "_UntilGivenUp", again: Any) -> None:
            for session in range(1, SESSIONS + 1):
                try:
                    blob.upload_from_file(file, rewind=True, size=size, **self._first(key), retry=again)
                    break
                except (ValueError, GoogleAPICallError) as error:
                    # ValueError: the library cannot resume if the server kept only part of a chunk.
                    lost = isinstance(error, ValueError) or error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
                    if not lost or session == SESSIONS:
                        raise
                    log.warning("upload restarted", key=key, error=str(error))

        try:
            return await self._call(partial(_create, send), patience_s=self._patience_s + size / SLOWEST_BYTES_PER_S)
        finally:
            given_up.set()

    async def get(self, key: str) -> bytes:
        return await self._call(partial(self._found, key, self._blob(key).download_as_bytes))

    async def look(self, key: str) -> StoredObject:
        def look(again: Any) -> StoredObject:
            blob = self._blob(key)
            self._found(key, blob.reload, again)
            return self._object(blob)

        return await self._call(look)

    def _object(self, blob: Any) -> StoredObject:
        modified = blob.updated and blob.updated.replace(microsecond=0)
        # One emulator omits a size of zero.
        return StoredObject(blob.name.removeprefix(self._prefix), int(blob.size or 0), str(blob.generation), modified)

    async def stream(self, found: StoredObject, first: int, last: int) -> AsyncIterator[bytes]:
        while first <= last:
            chunk = await self._range(found, first, min(first + READ_BYTES - 1, last))
            if not chunk:
                return
            first += len(chunk)
            yield chunk

    async def _range(self, found: StoredObject, first: int, last: int) -> bytes:
        """Read bytes of an object, both ends included, and none beyond its end."""
        blob = self._bucket.blob(self._name(found.key), generation=int(found.version))
        download = partial(blob.download_as_bytes, start=first, end=last)

        def read(again: Any) -> Any:
            try:
                return self._found(found.key, download, again)
            except RequestRangeNotSatisfiable:
                return b""

        return await self._call(read)

    async def present(self, prefix: str) -> frozenset[str]:
        return frozenset(await self.listed(prefix))

    async def listed(self, prefix: str) -> dict[str, StoredObject]:
        def scan(again: Any) -> dict[str, StoredObject]:
            begins = self._name(prefix)
            wanted = {"delimiter": "/", "fields": "items(name,size,generation,updated),nextPageToken"}
            found = self._bucket.list_blobs(prefix=begins, **wanted, retry=again, timeout=self._timeout_s)
            return {entry.key: entry for entry in map(self._object, found)}

        return await self._call(scan)

    async def delete(self, key: str) -> None:
        def remove(again: Any) -> None:
            try:
                self._blob(key).delete(retry=again, timeout=self._timeout_s)
            except NotFound:
                return  # or an earlier try deleted it and its response was lost

        await self._call(remove)

    async def check_writable(self) -> None:
        """Nothing to do: `check` has looked at the permissions, and an outage of the store passes by itself."""

    def _name(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"key {key!r} points outside the bucket")
        return self._prefix + key

    def _blob(self, key: str, chunk_size: int | None = None) -> Any:
        return self._bucket.blob(self._name(key), chunk_size)

    async def _call(self, call: Callable[[Any], T], patience_s: float | None = None) -> T:
        """Run a call with its retries in a thread. Raises BucketUnavailable when the patience ends."""
        limit_s = self._patience_s if patience_s is None else patience_s
        ends_at = monotonic() + limit_s
        given_up = Event()

        def in_thread() -> T:
            began_at = monotonic()
            policy = AGAIN.with_timeout(max(0.0, ends_at - began_at))

            def again(act: Callable[[], Any]) -> Any:
                return policy(partial(_unless, given_up, act), on_error=partial(self._on_fault, began_at))

            return call(again)

        try:
            with anyio.fail_after(limit_s):
                # Not anyio's threads: a future that is cancelled leaves the queue, and its slot stays taken until
                # the thread really ends.
                answer = await asyncio.wrap_future(self._threads.submit(in_thread))
        except FAULTS as error:
            self._outage.missed(error)
            raise BucketUnavailable(NO_ANSWER) from error
        finally:
            given_up.set()
        self._outage.answered()
        return answer

    def _on_fault(self, began_at: float, error: Exception) -> None:
        """After each failed try."""
        if isinstance(error, InvalidResponse):
            error.response.close()  # the library leaves a failed download's response open
        if monotonic() - began_at > PASSING_S:
            self._outage.missed(error)

    def _first(self, key: str) -> dict[str, Any]:
        """The precondition that lets an upload succeed only if its key is free."""
        media_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
        return {"if_generation_match": 0, "content_type": media_type, "timeout": self._timeout_s}

    def _found(self, key: str, call: Callable[..., Any], again: Any) -> Any:
        try:
            return call(retry=again, timeout=self._timeout_s)
        except NotFound:
            raise NotInBucket(key) from None


class _UntilGivenUp:
    """A file to upload that ends with an error when nobody waits for the upload any more."""

    def __init__(self, file: IO[bytes], given_up: Event) -> None:
        self._file = file
        self._given_up = given_up

    def read(self, size: int = -1) -> bytes:
        return _unless(self._given_up, partial(self._file.read, size))

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)


def _unless(given_up: Event, act: Callable[[], T]) -> T:
    """Call `act`, unless the caller has given up, which raises InterruptedError."""
    if given_up.is_set():
        raise InterruptedError("nobody waits for this call any more")
    return act()


def _raise_if_not_of_store(response: requests.Response, **_: Any) -> None:
    """Raise ConnectionError, which is retried, for a successful response that the store did not send: a proxy's page.

    The store's own have a JSON object, or an object's generation or checksum, or the address of an upload session.
    """
    if response.status_code not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.PARTIAL_CONTENT):
        return
    if any(name in response.headers for name in ("x-goog-generation", "x-goog-hash", "location")):
        return
    try:
        if isinstance(response.json(), dict):
            return
    except ValueError:
        pass
    response.close()
    kind = response.headers.get("content-type", "no content type")
    raise requests.ConnectionError(f"a response that is not of the store: {kind}, {len(response.content)} bytes")


def _create(send: Callable[[Any], None], again: Any) -> bool:
    try:
        send(again)
    except PreconditionFailed:
        return False
    return True
