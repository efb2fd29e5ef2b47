"""A server that has every walk already, for tests of the command line alone."""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from momalisa_api.cli import server_calls

WALK = {
    "url": "/api/v1/walks/1",
    "state": "done",
    "spec": {"frames": 2, "stops": ["a", "b"]},
    "seed": 1,
    "frames_ready": [0, 1],
    "probes": [],
    "warnings": [],
    "smoothness": None,
    "error": None,
    "queue_position": None,
    "replicas_awake": 1,
    "seconds_left": None,
}
LINK = "http://127.0.0.1/walks/1?link=1.token"
MODELS = {"models": [{"card": {"model": "test-model", "revision": "1"}, "replicas": {"awake": 1}}]}


class Answers(BaseHTTPRequestHandler):
    """Answers a request for a walk, an upload, and requests for a link, for the models and for a film."""

    answer: bytes
    wants_cookie: bool
    requests: list[dict[str, Any]]
    uploads: list[bytes]
    kept: frozenset[str]
    paths: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith(("/pictures", "/clips")):
            self.uploads.append(body)
            self._send(json.dumps({"id": hashlib.sha256(body).hexdigest()}).encode(), 201)
            return
        if self.path.endswith("/links"):
            self._send(json.dumps({"url": LINK, "expires_at": "2026-12-07T00:00:00Z"}).encode(), 201)
            return
        self.requests.append(json.loads(body))
        if self.wants_cookie and "Cookie" not in self.headers:
            needed = {"type": server_calls.COOKIE_NEEDED, "title": "Cookie needed", "detail": "Send it again."}
            self._send(json.dumps(needed).encode(), 429, {"Set-Cookie": "momalisa_owner=you; Path=/api"})
        else:
            self._send(self.answer)

    def do_GET(self) -> None:
        self.paths.append(self.path)
        _, _, upload = self.path.rpartition("/")
        if "." not in upload and self.path.startswith(("/api/v1/pictures/", "/api/v1/clips/")):
            self._send(b"{}", 200 if upload in self.kept else 404)
            return
        self._send(json.dumps(MODELS).encode() if self.path.endswith("/models") else b"a film")

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def walk_server(
    answer: bytes = json.dumps(WALK).encode(),
    *,
    requests: list[dict[str, Any]] | None = None,
    uploads: list[bytes] | None = None,
    kept: Iterable[str] = (),
    paths: list[str] | None = None,
    wants_cookie: bool = False,
    host: str = "127.0.0.1",
) -> Iterator[str]:
    """The URL of the server. answer: to each POST; requests, uploads: get the bodies of requests and of uploads;
    kept: the ids of the caller's earlier uploads; paths: gets those that are read.

    wants_cookie: whether its queue is half full, so that it only accepts callers that keep its cookie.
    """
    traits = {
        "answer": answer,
        "requests": [] if requests is None else requests,
        "uploads": [] if uploads is None else uploads,
        "kept": frozenset(kept),
        "paths": [] if paths is None else paths,
        "wants_cookie": wants_cookie,
    }
    answers = type("Answers", (Answers,), traits)
    server = ThreadingHTTPServer((host, 0), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
