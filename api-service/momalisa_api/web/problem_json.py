"""How problems read over HTTP: application/problem+json (RFC 9457), for the app's own failures and the framework's."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from momalisa_api.problems import Invalid, Problem, WalkUnknown

log = structlog.get_logger()


class ProblemDocument(BaseModel):
    """What every error looks like: application/problem+json, RFC 9457."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:momalisa:problem:walk-unknown"])
    title: str = Field(examples=[WalkUnknown.title])
    status: int = Field(examples=[WalkUnknown.status])
    detail: str = Field(description="What happened and what to do about it.")
    errors: list[dict[str, str]] | None = Field(default=None, description="One entry a field that does not fit.")


MEDIA_TYPE = "application/problem+json"


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route that can end in these problems."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    by_status: dict[int, list[str]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(problem.title)
    return {
        status: {"description": ". ".join(titles), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, titles in by_status.items()
    }


def document(problem: Problem) -> dict[str, Any]:
    """The problem as RFC 9457 wants it."""
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
    """The whole answer that carries a problem."""
    return _answer(document(problem), {"Cache-Control": "no-store", **problem.headers})


async def _on_problem(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Problem)
    return answer(problem)


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_in_words(found) for found in error.errors()]
    said = "; ".join(f"{found['field']} {found['detail']}" for found in errors)
    return answer(Invalid(f"{said}.", errors))


def _in_words(found: dict[str, Any]) -> dict[str, str]:
    """One of pydantic's errors as field and sentence, in the words that `request.complete` uses."""
    field = ".".join(str(part) for part in found["loc"][1:]) or "the request"
    detail = found["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    match found["type"]:
        case "extra_forbidden":
            detail = "is not known here; /api/docs lists what is"
        case "missing":
            detail = "is needed"
    return {"field": _printable(field), "detail": _printable(detail)}


def _printable(text: str) -> str:
    """A visitor can name fields in characters that no UTF-8 holds; the answer must hold them all the same."""
    return text.encode("utf-8", "backslashreplace").decode()


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: unknown paths, wrong methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = "See /api/docs for what can be called." if status in (404, 405) else str(error.detail)
    return _answer(
        {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}, error.headers
    )


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("request broke", path=request.url.path, exc_info=error)
    return answer(Problem("This is our fault and has been logged. Try again; if it stays, tell the operator."))


def describe(app: FastAPI) -> None:
    """Add the problem document to the app's OpenAPI schemas, which `documented` refers to."""
    bare = app.openapi

    def described() -> dict[str, Any]:
        document = bare()
        schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        document.setdefault("components", {}).setdefault("schemas", {})[ProblemDocument.__name__] = schema
        return document

    app.openapi = described  # type: ignore[method-assign]


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
