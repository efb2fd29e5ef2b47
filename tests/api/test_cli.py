"""The command line: the imports of commands, and the constants that they repeat to avoid imports."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest

from momalisa_api.cli import client, main
from momalisa_api.walks.spec import AUTO, Spacing

SERVER_LIBRARIES = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "pgqueuer", "pydantic", "google", "PIL"}
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


class Answers(BaseHTTPRequestHandler):
    """A server that has every walk already, and a queue that is half full."""

    def do_POST(self) -> None:
        if "Cookie" in self.headers:
            self._send(json.dumps(WALK).encode())
        else:
            needed = {"type": client.COOKIE_NEEDED, "title": "Cookie needed", "detail": "Send it again."}
            self._send(json.dumps(needed).encode(), 429, {"Set-Cookie": "momalisa_owner=you; Path=/api"})

    def do_GET(self) -> None:
        self._send(b"a film")

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def fake_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_refusal_that_sets_a_cookie_is_answered_with_it(fake_server, tmp_path):
    """Otherwise nobody without a key could use the command while the queue is half full."""
    walk = client.request_and_save(fake_server, {"start": "a", "end": "b"}, "walk.gif", tmp_path / "walk.gif")
    assert walk["state"] == "done"
    assert (tmp_path / "walk.gif").read_bytes() == b"a film"


def imported_by(folder: Path, *arguments: str) -> set[str]:
    """The top-level packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "momalisa_api.cli.main", *arguments]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, "MOMALISA_URL": ""}, capture_output=True, check=True)
    modules = re.findall(r"^import time: .*\| +(\S+)$", ran.stderr.decode(), re.MULTILINE)
    return {module.partition(".")[0] for module in modules}


def test_help_needs_no_library(tmp_path):
    """Help should not take a second."""
    imported = imported_by(tmp_path, "walk", "--help")
    assert "argparse" in imported
    assert imported & (SERVER_LIBRARIES | {"httpx", "rich"}) == set()


def test_a_walk_does_not_import_the_server(tmp_path, fake_server):
    """A client on a laptop starts without the database, the queue and the web framework."""
    imported = imported_by(tmp_path, "walk", "--url", fake_server, "a", "b")
    assert (tmp_path / "walk.gif").read_bytes() == b"a film"
    assert "httpx" in imported
    assert imported & SERVER_LIBRARIES == set()


def test_the_command_offers_the_choices_of_the_api():
    """The command line repeats them, since their module is slow to import."""
    assert get_args(Spacing) == main.SPACING_CHOICES
    assert main.AUTO_SEED == AUTO
