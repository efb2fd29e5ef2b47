"""JSON APIs over TLS on localhost, for the fakes: they accept one bearer token and stream where a call asks for it."""

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

TOKEN = "fake-token"


class ReceivedCall(NamedTuple):
    """One HTTP request as it was received."""

    method: str
    url: str
    headers: Message
    content: bytes


class ApiError(Exception):
    """An error response. reason: Kubernetes' word for it, where the status alone does not say."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


Respond = Callable[[ReceivedCall], tuple[int, Any]]


@contextmanager
def serving(respond: Respond, error_body: Callable[[ApiError], Any], folder: Path) -> Iterator[str]:
    """Serve in a thread on a free port; yields the URL. Writes ca.pem, which clients must trust, to `folder`.

    respond: returns the status and the body of a response, or raises ApiError. A body that is an iterator is streamed,
    one JSON document per line; a string is plain text. error_body: the body of an error response.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(respond, error_body))
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


def _handler(respond: Respond, error_body: Callable[[ApiError], Any]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes: else the second one waits for an acknowledgement, 40 ms on Linux.
        disable_nagle_algorithm = True

        def _do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise ApiError(401, "Unauthorized")
                status, body = respond(ReceivedCall(self.command, self.path, self.headers, content))
            except ApiError as error:
                status, body = error.status, error_body(error)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            if isinstance(body, Iterator):
                self._stream(body)
                return
            sent = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def _stream(self, documents: Iterator[Any]) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for document in documents:
                    line = json.dumps(document).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                # The client has what it wanted and closed the connection.
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    return Handler
