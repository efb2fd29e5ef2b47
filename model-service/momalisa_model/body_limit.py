"""ASGI middleware that refuses a request whose body is too large, before anything reads or parses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momalisa_model.problem_json import problem_response
from momalisa_model.problems import BodyTooLarge


class BodyLimit:
    """Reads a body of at most `limit()` bytes and passes it on in one piece."""

    def __init__(self, app: ASGIApp, limit: Callable[[], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app with the whole body, or respond with BodyTooLarge."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            messages = await self._read(scope, receive)
        except BodyTooLarge as problem:
            await problem_response(problem)(scope, receive, send)
            return
        replay: Iterator[Message] = iter(messages)

        async def receive_again() -> Message:
            return next(replay, None) or await receive()

        await self._app(scope, receive_again, send)

    async def _read(self, scope: Scope, receive: Receive) -> list[Message]:
        """The body as one message, or the disconnect message if the caller left before its end."""
        limit = self._limit()
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > limit:
            raise _too_large(limit)
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if len(body) > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return [{"type": "http.request", "body": bytes(body), "more_body": False}]
        return [message]


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"A request body may have at most {limit} bytes. Shorten the prompts to 1,000 characters each, and send "
        "pictures only in the frame's size."
    )
