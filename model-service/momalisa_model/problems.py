"""Every failure of this service, and the one place that writes them as application/problem+json (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException


class Problem(Exception):
    """A failure the caller should hear about. str(problem) says what to do.

    extra: further members of the problem document; headers: HTTP headers that belong to the answer.
    """

    status, slug, title = 500, "internal", "Something broke here"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """The members of RFC 9457: type, title, status, detail, and the extra ones."""
        kind = f"urn:momalisa:problem:{self.slug}"
        return {"type": kind, "title": self.title, "status": self.status, "detail": str(self), **self.extra}


class Invalid(Problem):
    """The request cannot be rendered as it stands; the member `errors` names each field and what is allowed."""

    status, slug, title = 422, "invalid-request", "This request cannot be rendered"


class Unreadable(Problem):
    """What the web framework says of a body that is no JSON it can take apart."""

    status, slug, title = 400, "http-400", "The body cannot be read"


class BodyTooLarge(Problem):
    status, slug, title = 413, "body-too-large", "The request is too large"


class WrongModel(Problem):
    status, slug, title = 409, "wrong-model", "Another model is loaded here"


class QueueFull(Problem):
    status, slug, title = 503, "queue-full", "The line before the device is full"

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class Stopping(Problem):
    status, slug, title = 503, "stopping", "This replica is shutting down"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class NotReady(Problem):
    status, slug, title = 503, "not-ready", "The model is not ready"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5"})


class OutOfMemory(Problem):
    status, slug, title = 507, "out-of-memory", "The device has too little memory for this"


class NotANumber(Problem):
    """Precision has run over: such pictures would be black or white, and kept for ever.

    The same recipe runs over on every replica, so that this is the request's failure and not the replica's.
    """

    status, slug, title = 422, "not-a-number", "The pictures came out as no numbers"


class UnsuitableModel(Problem):
    """The weights or the card cannot be used; seen at /readyz and in the log, never as an answer to a render."""

    slug, title = "unsuitable-model", "This model cannot be used"


class HttpProblem(Problem):
    """What the web framework refuses on its own: an unknown path, a wrong method, a body that is no text."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, headers=headers)
        self.status, self.slug, self.title = status, f"http-{status}", HTTPStatus(status).phrase


class ProblemDocument(BaseModel):
    """What every error of this service looks like."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="urn:momalisa:problem:<slug>: tells the kind of problem apart.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong with this request, and what to do.")


def problem_response(problem: Problem) -> Response:
    """The HTTP answer that says this problem."""
    return JSONResponse(
        problem.document(), problem.status, headers=problem.headers, media_type="application/problem+json"
    )


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems a route may answer; problems that share a status share an entry."""
    titles: dict[int, list[str]] = {}
    for problem in problems:
        titles.setdefault(problem.status, []).append(problem.title)
    content = {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}}
    return {status: {"description": "; or: ".join(words), "content": content} for status, words in titles.items()}


def invalid(errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """One problem from many field errors, each with `loc` and `msg`. What was sent is not repeated: it may be huge."""
    told = [{"loc": [str(part)[:100] for part in error["loc"]], "msg": str(error["msg"])[:500]} for error in errors]
    first = told[0]
    return Invalid(f"{'.'.join(first['loc'])}: {first['msg']}", errors=told[:20])


def install(app: FastAPI) -> None:
    """Make every failure of the app, the framework's own too, leave as a problem document."""

    async def ours(_: Request, error: Exception) -> Response:
        return problem_response(error if isinstance(error, Problem) else Problem("Try again; the log says more."))

    async def validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {**wrong, "msg": "must be a JSON object, sent with Content-Type: application/json"}
            if wrong["loc"] == ("body",) or wrong["type"] == "json_invalid"
            else wrong
            for wrong in error.errors()
        ]
        return problem_response(invalid(errors))

    async def framework(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = f"{str(error.detail).rstrip('.')}. What can be asked here, and how, stands at /openapi.json."
        return problem_response(HttpProblem(error.status_code, detail, error.headers))

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(Exception, ours)
