"""Made-up servers on loopback: JSON over TLS with an authority of their own, for who brings the made-up token."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests.ops.certificates import certificate

TOKEN = "made-up-token"


class ReceivedCall(NamedTuple):
    """One call, as it came."""

    method: str
    url: str
    headers: Message
    content: bytes


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def served(
    answer: Callable[[ReceivedCall], tuple[int, Any]], refusal: Callable[[ApiError], Any], folder: Path
) -> Iterator[str]:
    """Serve in a thread on a free port; yields the url. `folder` gets ca.pem, which a caller must trust.

    answer: status and body of a call, or raises ApiError; refusal: the body that says so.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer, refusal))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def _handler(
    answer: Callable[[ReceivedCall], tuple[int, Any]], refusal: Callable[[ApiError], Any]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise ApiError(401, "who are you?")
                status, body = answer(ReceivedCall(self.command, self.path, self.headers, content))
            except ApiError as refused:
                status, body = refused.status, refusal(refused)
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: pytest has no use for it."""

    return Handler
