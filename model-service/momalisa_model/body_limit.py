"""Turns away a request whose body is too large, before anything reads or parses it."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momalisa_model.problems import BodyTooLarge, problem_response


class BodyLimit:
    """ASGI middleware that takes in a body of at most `limit` bytes and passes it on in one piece."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            taken = await self._take_in(scope, receive)
        except BodyTooLarge as problem:
            await problem_response(problem)(scope, receive, send)
            return
        replay: Iterator[Message] = iter(taken)

        async def receive_again() -> Message:
            return next(replay, None) or await receive()

        await self._app(scope, receive_again, send)

    async def _take_in(self, scope: Scope, receive: Receive) -> list[Message]:
        """The body as one message, and the disconnect where the caller left meanwhile."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > self._limit:
            raise self._too_large()
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise self._too_large()
            if not message.get("more_body", False):
                return [{"type": "http.request", "body": bytes(body), "more_body": False}]
        return [message]

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"A request may have {self._limit} bytes; prompts end at 1,000 characters.")
