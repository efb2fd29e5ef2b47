"""Errors of both services have one format and the same words."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field

from momalisa_api import problems as api_problems
from momalisa_api.web import problem_json as api
from momalisa_model import problem_json as model
from momalisa_model import problems as model_problems


class Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seed: int = Field(ge=0)
    prompt: str = Field(min_length=1, max_length=3)
    fractions: list[float] = Field(default=[0.5], max_length=1)


def client_of(install: Any) -> TestClient:
    """A client of an app that has only the error handlers of a service."""
    app = FastAPI()
    install(app)

    @app.post("/")
    async def post(body: Sent) -> Sent:
        return body

    @app.get("/")
    async def get() -> None:
        return None

    return TestClient(app)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"",
        b"{}",
        b'{"seed": -1, "prompt": "", "fractions": [0, 1]}',
        b'{"seed": 1.5, "prompt": "long", "fractions": ["x"], "sede": 1}',
        b'{"seed": 1, "prompt": "x", "\\ud800": 1}',
    ],
)
def test_invalid_requests_get_the_same_words_from_both(body: bytes):
    """One client can show the errors of both; only the page that lists the fields differs."""
    answers = [
        client.post("/", content=body, headers={"Content-Type": "application/json"})
        for client in (client_of(api.install), client_of(model.install))
    ]
    assert [answer.headers["content-type"] for answer in answers] == ["application/problem+json"] * 2
    of_api, of_model = (answer.text.replace("/api/docs", "/openapi.json") for answer in answers)
    assert of_api == of_model
    assert answers[0].json()["errors"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("DELETE", "/")])
def test_refusals_of_the_framework_have_the_same_form(method: str, path: str):
    """Their type is about:blank, and their title that of the status."""
    answers = [client_of(install).request(method, path).json() for install in (api.install, model.install)]
    kinds = [{name: answer[name] for name in ("type", "title", "status")} for answer in answers]
    assert kinds[0] == kinds[1]
    assert kinds[0]["type"] == "about:blank"
    assert all(answer["detail"] for answer in answers)


def test_allow_lists_all_methods_of_a_path_in_both():
    """Routes that share a path would each name only their own. The api answers HEAD like GET, by its middleware."""
    answers = [client_of(install).delete("/") for install in (api.install, model.install)]
    assert [answer.headers["allow"] for answer in answers] == ["GET, POST, HEAD", "GET, POST"]


def test_a_problem_has_the_same_title_and_status_in_both_services():
    """The type identifies a problem (RFC 9457): one type must not have two titles."""
    of_api, of_model = (_problems(module) for module in (api_problems, model_problems))
    shared = of_api.keys() & of_model.keys()
    assert {"internal", "invalid-request", "queue-full"} <= shared
    assert {slug: of_api[slug] for slug in shared} == {slug: of_model[slug] for slug in shared}


def _problems(module: Any) -> dict[str, tuple[int, str]]:
    """Status and title of a service's problems, by slug."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, module.Problem)]
    return {each.slug: (each.status, each.title) for each in classes}
