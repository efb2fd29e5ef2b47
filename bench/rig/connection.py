"""A visitor with almost no CPU cost: one kept-alive connection, so that a bench measures the API and not itself."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Connection:
    """HTTP/1.1 over one socket, one request at a time. Reads only responses with a Content-Length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = [f"{name}: {value}" for name, value in headers.items()]

    async def send(self, method: str, target: str, body: Any = None) -> tuple[bytes, float]:
        """The body of the response, and its latency in seconds. Raises RuntimeError unless the status is 200 or 201."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1", "Host: api", f"Content-Length: {len(content)}"]
        lines += ["Content-Type: application/json"] if content else []
        request = "\r\n".join([*lines, *self._headers, "", ""]).encode() + content
        began = time.perf_counter()
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        answer = await self._reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        took_s = time.perf_counter() - began
        if head.split(b" ", 2)[1] not in (b"200", b"201"):
            raise RuntimeError(f"{method} {target}: {answer.decode()}")
        return answer, took_s


@asynccontextmanager
async def connected(port: int, **headers: str) -> AsyncIterator[Connection]:
    """A connection to an API on this machine. headers: sent with every request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    try:
        yield Connection(reader, writer, headers)
    finally:
        writer.close()


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that this percentage of all values does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]
