"""A web server on loopback that answers with bytes of the test's choice."""

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
from anyio.streams.tls import TLSStream


@dataclass
class WebSite:
    """A web server on loopback. answers: the bytes of an answer, by path; seen: requests, with their bodies."""

    port: int
    answers: dict[str, bytes] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def redirect(self, path: str, to: str) -> None:
        self.answers[path] = f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()

    def serve(self, path: str, content: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: {len(content)}\r\n\r\n"
        self.answers[path] = head.encode() + content


@asynccontextmanager
async def web_site(certificate: Path | None = None) -> AsyncIterator[WebSite]:
    """A site while it serves. certificate: a file with key and certificate, to serve it over TLS."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        site = WebSite(listener.extra(anyio.abc.SocketAttribute.local_port))

        async def answer(stream: anyio.abc.ByteStream) -> None:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await stream.receive()
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                expected = head.index(b"\r\n\r\n") + 4 + int(length[1] if length else 0)
                while len(head) < expected:
                    head += await stream.receive()
                site.seen.append(head.decode())
                await stream.send(site.answers[head.split()[1].decode()])

        async def answer_over_tls(stream: anyio.abc.ByteStream) -> None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(str(certificate))
            async with stream:
                with suppress(ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream):
                    await answer(await TLSStream.wrap(stream, server_side=True, ssl_context=context))

        tasks.start_soon(listener.serve, answer_over_tls if certificate else answer)
        yield site
        tasks.cancel_scope.cancel()
