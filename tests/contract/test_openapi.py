"""The api says in /api/openapi.json what it answers; made-up requests, right and wrong, hold it to that."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from momalisa_api.app import create_app
from momalisa_api.settings import Settings
from momalisa_api.web.routes.schemas import EXAMPLE, WalkResource
from tests.support.deployment import free_port, wait_until
from tests.support.factories import Fleet, write_card

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/walk"),
    ("GET", "/api/v1/model"),
    ("GET", "/api/v1/walks"),
    ("POST", "/api/v1/walks"),
    ("GET", "/api/v1/walks/{walk_id}"),
    ("DELETE", "/api/v1/walks/{walk_id}"),
    ("GET", "/api/v1/walks/{walk_id}/request"),
    ("PUT", "/api/v1/walks/{walk_id}/request"),
    ("GET", "/api/v1/walks/{walk_id}/events"),
    ("GET", "/api/v1/walks/{walk_id}/frames/{index}.png"),
    ("GET", "/api/v1/walks/{walk_id}/probes/{seed}/{leg}/{fraction}.png"),
    ("GET", "/api/v1/walks/{walk_id}/frames.zip"),
    ("GET", "/api/v1/walks/{walk_id}/{name}"),
]
bounded = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Running:
    """The api over a made-up fleet, behind a real server, with one walk that is done."""

    schema: schemathesis.BaseSchema
    walk_id: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("openapi")
    fleet = Fleet()
    fleet.add()
    of_this_test: dict[str, Any] = {"model_card": write_card(folder), "bucket": str(folder / "bucket")}
    of_this_test["database_url"] = f"sqlite:///{folder}/catalogue.sqlite"
    app = create_app(Settings(replicas=fleet.addresses, **of_this_test), fleet.client)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{port}"
    walk = httpx.post(f"{url}/api/v1/walks", json={"start": "a", "end": "b", "frames": 2}).json()
    wait_until(lambda: httpx.get(url + walk["url"]).json()["state"] == "done")
    yield Running(schemathesis.openapi.from_url(f"{url}/api/openapi.json"), walk["id"])
    server.should_exit = True
    thread.join(10)


def test_every_operation_is_tried_here(running):
    """A new route must not slip by."""
    described = {(found.ok().method.upper(), found.ok().path) for found in running.schema.get_all_operations()}
    assert described == set(OPERATIONS)


def test_every_reference_leads_somewhere(running):
    """A dangling one is passed over in silence by validators, and every answer would do."""
    document = running.schema.raw_schema

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key == "$ref")
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from references(child)

    found = set(references(document))
    assert "#/components/schemas/ProblemDocument" in found
    for reference in found:
        place = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_answer_is_undocumented_and_none_is_a_failure(running, method, path, mode):
    """Made up from the description, and against it."""
    operation = running.schema[path][method]
    if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
        pytest.skip("nothing about this call can be wrong")

    @bounded
    @given(operation.as_strategy(generation_mode=mode))
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    hold()


@pytest.mark.parametrize(("method", "path"), [found for found in OPERATIONS if "{walk_id}" in found[1]])
def test_calls_about_a_walk_that_is_there_answer_as_described(running, method, path):
    """Made-up ids only ever meet a 404."""

    @bounded
    @given(running.schema[path][method].as_strategy())
    def hold(case: schemathesis.Case) -> None:
        case.path_parameters = {**case.path_parameters, "walk_id": running.walk_id}
        if "index" in case.path_parameters:
            case.path_parameters["index"] %= 3
        case.call_and_validate(checks=CHECKS, timeout=30)

    hold()


def test_the_example_of_a_walk_is_one(running):
    """An example that the schema refuses would be copied all the same."""
    WalkResource.model_validate(EXAMPLE)
    for operation in running.schema.get_all_operations():
        raw = operation.ok().definition.raw
        assert raw["summary"], raw
        assert all(parameter["description"] for parameter in raw.get("parameters", []))
