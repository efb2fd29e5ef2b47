"""ASGI middleware: a limit on request bodies, HEAD for every GET, and answers that shared caches must not store."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momalisa_api.problems import BodyTooLarge
from momalisa_api.web.problem_json import answer

# Key of the ASGI scope: whether the client sent HEAD.
HEADERS_ONLY: Final = "momalisa.headers_only"
# Key of the ASGI scope: whether the answer is about a private walk. Routes set it.
PRIVATE: Final = "momalisa.private"
# A browser may keep frames and films of a private walk for some minutes, so that a player does not fetch them again.
PRIVATE_CACHE: Final = "private, max-age=300"
READERS_VARY: Final = "Cookie, Authorization"
# A range is defined for GET only (RFC 9110, section 14.2).
RANGE_HEADERS: Final = (b"range", b"if-range")


class BodyLimit:
    """Reads a request body of at most `max_bytes` before the app does; answers a larger one with 413.

    uploads: paths of routes that limit bodies themselves, as they write them into files.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, uploads: Collection[str] = ()) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        unlimited = scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS")
        if unlimited or (scope["method"] == "POST" and scope["path"] in self._uploads):
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_bytes:
                too_large = BodyTooLarge(
                    f"A request body can have at most {self._max_bytes:,} bytes. Send a smaller one."
                )
                await answer(too_large)(scope, receive, send)
                return
        await self._app(scope, _replay(body, receive), send)


class HeadAsGet:
    """Answers HEAD like GET, with the same headers and no body (RFC 9110, section 9.3.2).

    Routes that start work, or read much for a body, look at HEADERS_ONLY in the scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                # End the response here, so that a streaming app sees a disconnect instead of streaming on.
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        headers = [(name, value) for name, value in scope["headers"] if name not in RANGE_HEADERS]
        await self._app({**scope, "method": "GET", "headers": headers, HEADERS_ONLY: True}, receive, without_body)


class PrivateAnswers:
    """Keeps answers about private walks out of shared caches, whatever the route says about caching."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start" and scope.get(PRIVATE):
                headers = MutableHeaders(scope=message)
                caching = headers.get("Cache-Control", "no-store")
                headers["Cache-Control"] = f"private, {caching}" if caching.startswith("no-") else PRIVATE_CACHE
                headers.add_vary_header(READERS_VARY)
            await send(message)

        await self._app(scope, receive, marked)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the whole body first, then what really arrives: the disconnect."""
    replayed = False

    async def receive_again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
