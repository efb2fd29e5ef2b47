"""How problems read over HTTP: application/problem+json (RFC 9457), for the app's own failures and the framework's."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from momalisa_api.problems import Invalid, Problem, WalkNotFound
from momalisa_api.web import fields

log = structlog.get_logger()


class ProblemDocument(BaseModel):
    """Every error of this API: application/problem+json (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The kind of problem, as a URN.", examples=["urn:momalisa:problem:walk-not-found"])
    title: str = Field(description="The kind of problem, in words.", examples=[WalkNotFound.title])
    status: int = Field(description="The HTTP status code.", examples=[WalkNotFound.status])
    detail: str = Field(description="What is wrong, and what to do.")
    errors: list[dict[str, str]] | None = Field(default=None, description="One entry for each invalid field.")


MEDIA_TYPE = "application/problem+json"


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route that can raise these problems."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    by_status: dict[int, list[str]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(problem.title)
    return {
        status: {"description": ". ".join(titles), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, titles in by_status.items()
    }


def document(problem: Problem) -> dict[str, Any]:
    """The members of a problem document (RFC 9457)."""
    body: dict[str, Any] = {
        "type": f"urn:momalisa:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": str(problem),
    }
    if isinstance(problem, Invalid) and problem.errors:
        body["errors"] = problem.errors
    return body


def _answer(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(dict(body), status_code=body["status"], headers=dict(headers or {}), media_type=MEDIA_TYPE)


def answer(problem: Problem) -> JSONResponse:
    """The HTTP response for a problem."""
    return _answer(document(problem), {"Cache-Control": "no-store", **problem.headers})


async def _on_problem(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Problem)
    return answer(problem)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_in_words(found) for found in error.errors()]
    detail = "; ".join(f"{found['field']} {found['detail']}" for found in errors)
    return answer(Invalid(f"{detail}.", errors))


def _in_words(found: dict[str, Any]) -> dict[str, str]:
    """A pydantic error as field and sentence, worded like those of `request.complete`."""
    # The kind of a walk says which request a body is, and is no part of a field's name.
    parts = [str(part) for part in found["loc"][1:]]
    field = ".".join(parts[1:] if parts and parts[0].startswith(fields.KIND_TAG) else parts) or "request"
    detail = re.sub(r"^\w+ should ", "must ", found["msg"].removeprefix("Value error, "))
    match found["type"]:
        case "extra_forbidden":
            detail = "is not a known field; see /api/docs"
        case "missing" if field != "request":
            detail = "is required"
        case "string_unicode" if field == "request":
            detail = "must have field names in valid Unicode"
        case fields.UNKNOWN_KIND:
            field = "kind"
        case "dict_type" | "model_type" | "model_attributes_type" if field != "request":
            detail = "must be a JSON object"
        case "missing" | "json_invalid" | "dict_type" | "model_type" | "model_attributes_type":
            field, detail = "request", "must be a JSON object, sent with Content-Type: application/json"
    return {"field": _printable(field), "detail": _printable(detail)}


def _printable(text: str) -> str:
    """Replace what UTF-8 cannot encode: a client can name fields with lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    """Errors of the framework itself: unknown paths, wrong methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(_allowed(request))}
    detail = "See /api/docs for the available endpoints." if status in (404, 405) else str(error.detail)
    if status == HTTPStatus.BAD_REQUEST:
        detail = "The body cannot be read. Send valid JSON, with numbers and depths that are usual."
    return _answer(
        {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}, error.headers
    )


def _allowed(request: Request) -> list[str]:
    """The methods of a path: several routes can share it, and the framework names those of one."""

    def matches(method: str) -> bool:
        scope = {"type": "http", "path": request.url.path, "root_path": "", "method": method, "path_params": {}}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    allowed = [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if matches(method)]
    # The middleware HeadAsGet answers HEAD like GET.
    return allowed + (["HEAD"] if "GET" in allowed else [])


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", path=request.url.path, exc_info=error)
    return answer(
        Problem("This is a fault of the server and has been logged. Try again; if it happens again, tell the operator.")
    )


def describe(app: FastAPI) -> None:
    """Add the problem document, which `documented` refers to, to the app's OpenAPI schemas."""
    bare = app.openapi

    def described() -> dict[str, Any]:
        document = bare()
        schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        document.setdefault("components", {}).setdefault("schemas", {})[ProblemDocument.__name__] = schema
        return document

    app.openapi = described  # type: ignore[method-assign]


def install(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
