"""A server that has every walk already, for tests of the command line alone."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
MODEL = {"card": {"model": "test-model", "revision": "1"}, "replicas": {"awake": 1}}


class Answers(BaseHTTPRequestHandler):
    """Answers a request for a walk, for the model, and for a film."""

    answer: bytes
    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send(self.answer)

    def do_GET(self) -> None:
        self._send(json.dumps(MODEL).encode() if self.path.endswith("/model") else b"a film")

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def walk_server(
    answer: bytes = json.dumps(WALK).encode(),
    *,
    requests: list[dict[str, Any]] | None = None,
    host: str = "127.0.0.1",
) -> Iterator[str]:
    """The URL of the server. answer: to each POST; requests: gets the body of each POST."""
    answers = type("Answers", (Answers,), {"answer": answer, "requests": [] if requests is None else requests})
    server = ThreadingHTTPServer((host, 0), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
