"""How problems read over HTTP: application/problem+json (RFC 9457), for the app's own errors and the framework's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import pairwise
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from momalisa_model.problems import Invalid, Problem
from momalisa_model.recipes import KINDS

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(BaseModel):
    """The form of every error of this service."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="`urn:momalisa:problem:<slug>`; `about:blank` if path, method or the body's syntax is wrong."
    )
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong and what to do about it.")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="The invalid fields of the request: `field` is its path, `detail` what is allowed."
    )


def document(problem: Problem) -> dict[str, Any]:
    """The problem as RFC 9457 describes it: type, title, status, detail, and further members."""
    kind = f"urn:momalisa:problem:{problem.slug}"
    return {"type": kind, "title": problem.title, "status": problem.status, "detail": str(problem), **problem.extra}


def problem_response(problem: Problem) -> Response:
    """The HTTP response for a problem."""
    return _response(document(problem), problem.headers)


def documented(*problems: type[Problem], framework: Sequence[HTTPStatus] = ()) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route that can end in these problems; problems with one status share an entry.

    The schema that they refer to is added by `openapi.finish_document`.
    framework: statuses with which the web framework itself refuses requests.
    """
    titles: dict[int, list[str]] = {int(status): [status.phrase] for status in framework}
    for problem in problems:
        titles.setdefault(problem.status, []).append(problem.title)
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}}
    return {status: {"description": ". ".join(words), "content": content} for status, words in titles.items()}


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)


async def _on_problem(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem_response(problem)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(Invalid([_in_words(found) for found in error.errors()]))


async def _on_http(request: Request, error: Exception) -> Response:
    """The framework's own refusals: unknown paths, wrong methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(_allowed(request))}
    detail = "See /openapi.json for the paths and methods of this service."
    if status not in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        detail = f"{error.detail.rstrip('.')}. See /openapi.json for what the request must look like."
    body = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    return _response(body, error.headers)


def _allowed(request: Request) -> list[str]:
    """The methods of a path: several routes can share it, and the framework names those of one."""

    def matches(method: str) -> bool:
        scope = {"type": "http", "path": request.url.path, "root_path": "", "method": method, "path_params": {}}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") if matches(method)]


async def _on_bug(_: Request, __: Exception) -> Response:
    return problem_response(Problem("Unexpected error; it was logged. Retry, and if it persists, tell the operator."))


def _in_words(found: dict[str, Any]) -> tuple[str, str]:
    """One of pydantic's errors as (field, what is allowed)."""
    field = ".".join(_path(found["loc"])) or "request"
    match found["type"]:
        case "union_tag_invalid":
            return f"{field}.kind", f"must be one of {', '.join(KINDS)}"
        case "extra_forbidden":
            return field, "is not a known field; see /openapi.json"
        case "missing" if field != "request":
            return field, "is required"
        case "string_unicode" if field == "request":
            return field, "must have field names in valid Unicode"
        case "missing" | "json_invalid" | "dict_type" | "model_type" | "model_attributes_type":
            return "request", "must be a JSON object, sent with Content-Type: application/json"
    return field, re.sub(r"^\w+ should ", "must ", found["msg"].removeprefix("Value error, "))


def _path(place: Sequence[str | int]) -> Iterator[str]:
    """The names in an error's place, without `body` and without the kinds that pydantic puts behind recipes."""
    for before, part in pairwise(map(str, place)):
        if not (before == "recipe" and part in KINDS):
            yield part


def _response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, body["status"], headers=dict(headers or {}), media_type=MEDIA_TYPE)
