"""Refuses large request bodies while they come in, before anything parses them."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momalisa_api.problems import BodyTooLarge
from momalisa_api.web.problem_json import answer


class BodyLimit:
    """ASGI middleware: takes in a body of at most `max_bytes`, or answers for the app that it is too large."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
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
                too_large = BodyTooLarge(f"A body may have {self._max_bytes} bytes. A walk needs far less.")
                await answer(too_large)(scope, receive, send)
                return
        await self._app(scope, _replay(body, receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that tells the body once more, then what really comes: the disconnect."""
    told = False

    async def replayed() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
