"""A fake Google Cloud Storage over real HTTP: the part of the JSON API that a bucket needs, and faults on demand.

Published emulators ignore preconditions, which the bucket needs to keep the first object under a key. Each request is
atomic, as in the real store, which is strongly consistent. One bucket, no credentials.
"""

import asyncio
import base64
import json
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import google_crc32c
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


@dataclass
class Stored:
    """An object: its content, and the number of the write that created it."""

    content: bytes
    generation: int
    content_type: str


@dataclass
class Session:
    """A resumable upload. `stored` is set when it is complete."""

    name: str
    content_type: str
    condition: str | None
    content: bytearray = field(default_factory=bytearray)
    stored: Stored | None = None


@dataclass
class Fault:
    """A fault for the next requests whose line matches: an error status, or a dropped connection (status None).

    The line is "METHOD path?query NAME CONTENT-RANGE": NAME is the object's name, CONTENT-RANGE the bytes sent. A
    request whose connection is dropped has been carried out. stalls: answered when faults are cleared; body: that of
    a proxy, as HTML, with the status.
    """

    pattern: re.Pattern[str]
    status: int | None
    times: float
    stalls: bool = False
    body: bytes | None = None


class Refused(Exception):
    """An error response."""

    def __init__(self, status: int, message: str) -> None:
        self.answer = JSONResponse({"error": {"code": status, "message": message}}, status)


class FakeGcs:
    """The store. `arrived` counts complete uploads by object name, `stored` those that were kept."""

    def __init__(self, bucket: str = "pictures") -> None:
        self.bucket = bucket
        self.url = ""
        self.reset()
        self.app = Starlette(
            routes=[
                Route("/storage/v1/b/{bucket}/o", self._answered(self._list)),
                Route("/storage/v1/b/{bucket}/iam/testPermissions", self._answered(self._permissions)),
                Route("/storage/v1/b/{bucket}/o/{name:path}", self._answered(self._object), methods=["GET", "DELETE"]),
                Route("/download/storage/v1/b/{bucket}/o/{name:path}", self._answered(self._object)),
                Route("/upload/storage/v1/b/{bucket}/o", self._answered(self._upload), methods=["POST", "PUT"]),
            ]
        )

    def reset(self) -> None:
        """Empty the store; clear faults and counters."""
        self.objects: dict[str, Stored] = {}
        self.arrived: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.requests: list[str] = []
        self.page_limit = 1000
        self.keeps_bytes: int | None = None
        self.denied: frozenset[str] = frozenset()
        self._sessions: dict[str, Session] = {}
        self._faults: list[Fault] = []
        self._watched: list[tuple[re.Pattern[str], Callable[[str, int], None]]] = []
        self._generation = int(time.time() * 1e6)

    def fail(self, pattern: str, status: int = 503, times: float = 1) -> None:
        """Answer the next matching requests with an error, without effect. times: math.inf until `clear_faults`."""
        self._faults.append(Fault(re.compile(pattern), status, times))

    def drop(self, pattern: str, times: float = 1) -> None:
        """Carry out the next matching requests, but close the connection in the middle of the response."""
        self._faults.append(Fault(re.compile(pattern), None, times))

    def stall(self, pattern: str, times: float = 1) -> None:
        """Neither carry out nor answer the next matching requests until `clear_faults`."""
        self._faults.append(Fault(re.compile(pattern), 503, times, stalls=True))

    def intercept(self, pattern: str, body: bytes, times: float = 1) -> None:
        """Answer the next matching requests with 200 and this body, without effect, as a proxy may."""
        self._faults.append(Fault(re.compile(pattern), 200, times, body=body))

    def clear_faults(self) -> None:
        """Stop all faults."""
        self._faults.clear()

    def on_request(self, pattern: str, act: Callable[[str, int], None]) -> None:
        """Call `act` with the line and the client's port when the next matching request is done but not answered.

        A test can kill a client here: its write has succeeded, but it gets no response.
        """
        self._watched.append((re.compile(pattern), act))

    @contextmanager
    def running(self) -> Iterator["FakeGcs"]:
        """Serve in a thread on a free port. `url` is the value for STORAGE_EMULATOR_HOST."""
        server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        limit = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < limit, "the fake GCS did not start"
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(20)

    def _answered(self, handler: Any) -> Any:
        """The handler with faults. A request is handled once its body is complete."""

        async def endpoint(request: Request) -> Response:
            body = await request.body()
            line = f"{request.method} {request.url.path}?{request.url.query} {self._named(request, body)}"
            line += f" {request.headers.get('content-range', '')}"
            self.requests.append(line)
            fault = next((fault for fault in self._faults if fault.times > 0 and fault.pattern.search(line)), None)
            if fault:
                fault.times -= 1
            while fault and fault.stalls and fault in self._faults:
                await asyncio.sleep(0.02)
            if fault and fault.body is not None:
                return HTMLResponse(fault.body, 200)
            if fault and fault.status:
                return Refused(fault.status, "a fault of the test").answer
            try:
                if request.path_params["bucket"] != self.bucket:
                    raise Refused(404, "The specified bucket does not exist.")
                answer = handler(request, body)
            except Refused as refused:
                answer = refused.answer
            for watch in [watch for watch in self._watched if watch[0].search(line)]:
                self._watched.remove(watch)
                watch[1](line, request.client.port if request.client else 0)
            return TruncatedResponse(answer) if fault else answer

        return endpoint

    def _named(self, request: Request, body: bytes) -> str:
        """The name of the requested object, from the session, the body, the path or the query."""
        query = request.query_params
        if session := self._sessions.get(query.get("upload_id", "")):
            return session.name
        if query.get("uploadType") == "multipart":
            return str(_parts(request, body)[0]["name"])
        if query.get("uploadType") == "resumable" and body and "name" not in query and "upload_id" not in query:
            return str(json.loads(body)["name"])
        return str(request.path_params.get("name") or query.get("name") or query.get("prefix") or "")

    def _check(self, name: str, condition: str | None) -> None:
        """Check the precondition. Generation 0 means that no object may exist."""
        there = self.objects[name].generation if name in self.objects else 0
        if condition is not None and int(condition) != there:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def _store(self, name: str, content: bytes, content_type: str, condition: str | None) -> Stored:
        self.arrived[name] += 1
        self._check(name, condition)
        self.stored[name] += 1
        self._generation += 1
        self.objects[name] = Stored(content, self._generation, content_type)
        return self.objects[name]

    def _resource(self, name: str, stored: Stored) -> dict[str, Any]:
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": self.bucket,
            "generation": str(stored.generation),
            "size": str(len(stored.content)),
            "contentType": stored.content_type,
            "crc32c": _crc32c(stored.content),
            # Generations count microseconds since 1970.
            "updated": datetime.fromtimestamp(stored.generation / 1e6, UTC).isoformat().replace("+00:00", "Z"),
        }

    def _upload(self, request: Request, body: bytes) -> Response:
        query = request.query_params
        kind, condition = query.get("uploadType"), query.get("ifGenerationMatch")
        if "upload_id" in query:
            return self._resume(request, body)
        if kind == "resumable":
            return self._begin(request, body)
        if kind == "multipart":
            about, content = _parts(request, body)
            content_type = about.get("contentType", "application/octet-stream")
            if about.get("crc32c", _crc32c(content)) != _crc32c(content):
                raise Refused(400, "The content does not match its checksum.")
        else:
            about, content = {"name": query["name"]}, body
            content_type = request.headers.get("content-type", "application/octet-stream")
        stored = self._store(about["name"], content, content_type, condition)
        return JSONResponse(self._resource(about["name"], stored))

    def _begin(self, request: Request, body: bytes) -> Response:
        """Open a resumable session. The precondition is checked now and again at the end."""
        about = json.loads(body or b"{}")
        query = request.query_params
        name, condition = query.get("name") or about["name"], query.get("ifGenerationMatch")
        self._check(name, condition)
        upload_id = f"session-{len(self.requests)}"
        content_type = request.headers.get("x-upload-content-type", "application/octet-stream")
        self._sessions[upload_id] = Session(name, content_type, condition)
        location = f"{request.url.replace(query='')}?uploadType=resumable&upload_id={upload_id}"
        return Response(headers={"Location": location})

    def _resume(self, request: Request, body: bytes) -> Response:
        """Append a chunk, without the bytes that the session already has."""
        session = self._sessions.get(request.query_params["upload_id"])
        if not session:
            raise Refused(404, "There is no such upload.")
        if session.stored:
            return JSONResponse(self._resource(session.name, session.stored))
        first, total = _content_range(request.headers["content-range"])
        have = len(session.content)
        if first is not None and first > have:
            raise Refused(503, "Bytes are missing before these.")
        session.content += body[have - first : self.keeps_bytes] if first is not None else b""
        self.keeps_bytes = None
        if total is None or len(session.content) < total:
            kept = len(session.content)
            return Response(status_code=308, headers={"Range": f"bytes=0-{kept - 1}"} if kept else {})
        session.stored = self._store(session.name, bytes(session.content), session.content_type, session.condition)
        return JSONResponse(self._resource(session.name, session.stored))

    def _object(self, request: Request, body: bytes) -> Response:
        name = request.path_params["name"]
        if name not in self.objects:
            raise Refused(404, f"No such object: {self.bucket}/{name}")
        self._check(name, request.query_params.get("ifGenerationMatch"))
        stored = self.objects[name]
        if request.query_params.get("generation", str(stored.generation)) != str(stored.generation):
            raise Refused(404, f"No such object: {self.bucket}/{name}")
        if request.method == "DELETE":
            del self.objects[name]
            return Response(status_code=204)
        if request.query_params.get("alt") != "media":
            return JSONResponse(self._resource(name, stored))
        headers = {"x-goog-hash": f"crc32c={_crc32c(stored.content)}", "x-goog-generation": str(stored.generation)}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if not found:
            return Response(stored.content, headers=headers, media_type=stored.content_type)
        first, size = int(found[1]), len(stored.content)
        if first >= size:
            raise Refused(416, "The range is outside the object.")
        last = min(int(found[2] or size), size - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Response(stored.content[first : last + 1], 206, headers, stored.content_type)

    def _permissions(self, request: Request, body: bytes) -> Response:
        asked = request.query_params.getlist("permissions")
        return JSONResponse({"permissions": [name for name in asked if name not in self.denied]})

    def _list(self, request: Request, body: bytes) -> Response:
        query = request.query_params
        prefix, delimiter, after = query.get("prefix", ""), query.get("delimiter"), query.get("pageToken", "")
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        if delimiter:
            names = [name for name in names if delimiter not in name.removeprefix(prefix)]
        limit = min(int(query.get("maxResults", self.page_limit)), self.page_limit)
        page = {"kind": "storage#objects", "items": [self._resource(n, self.objects[n]) for n in names[:limit]]}
        return JSONResponse(page | ({"nextPageToken": names[limit - 1]} if len(names) > limit else {}))


class TruncatedResponse(StreamingResponse):
    """The first half of a response, after which the connection is closed."""

    def __init__(self, answer: Response) -> None:
        whole = bytes(answer.body)
        # A response with 204 has no body that could be cut.
        super().__init__(self._half(whole), 200 if answer.status_code == 204 else answer.status_code)
        self.raw_headers = answer.raw_headers
        self.headers["content-length"] = str(max(len(whole), 2))

    async def _half(self, whole: bytes) -> AsyncIterator[bytes]:
        yield whole[: len(whole) // 2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_but_the_end(message: Any) -> None:
            if message["type"] != "http.response.body" or message.get("more_body"):
                await send(message)

        # The server closes the connection if the last message of the response is missing.
        await super().__call__(scope, receive, send_but_the_end)


def _crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def _parts(request: Request, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The metadata and the content of a multipart/related upload."""
    boundary = request.headers["content-type"].split("boundary=")[1].strip("\"'").encode()
    about, content = body.split(b"--" + boundary + b"\r\n", 2)[1:]
    content = content[: content.rindex(b"\r\n--" + boundary + b"--")]
    return json.loads(about.partition(b"\r\n\r\n")[2]), content.partition(b"\r\n\r\n")[2]


def _content_range(header: str) -> tuple[int | None, int | None]:
    """First byte and total length of `bytes FIRST-LAST/TOTAL`; None for an asterisk."""
    sent, _, total = header.removeprefix("bytes ").partition("/")
    first = None if sent == "*" else int(sent.partition("-")[0])
    return first, None if total == "*" else int(total)
