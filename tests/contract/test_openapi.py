"""The API's responses match /api/openapi.json, for generated valid and invalid requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from momalisa_api.web.routes.schemas import EXAMPLE, WalkResource
from tests.support.factories import CARD, FakeFleet
from tests.support.processes import wait_until
from tests.support.served_api import served_api


def only_expected_server_errors(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> bool | None:
    """Not a server error, but for a film that is not finished yet: a documented 503 that clients repeat."""
    if response.status_code == 503 and response.json()["type"] == "urn:momalisa:problem:walk-unfinished":
        return None
    return not_a_server_error(context, response, case)


CHECKS = [
    only_expected_server_errors,
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
    ("GET", "/api/v1/me"),
    ("GET", "/api/v1/sign-in"),
    ("POST", "/api/v1/sign-out"),
    ("GET", "/api/v1/model"),
    ("GET", "/api/v1/models"),
    ("GET", "/api/v1/walks"),
    ("POST", "/api/v1/walks"),
    ("GET", "/api/v1/walks/{walk_id}"),
    ("DELETE", "/api/v1/walks/{walk_id}"),
    ("GET", "/api/v1/walks/{walk_id}/request"),
    ("PUT", "/api/v1/walks/{walk_id}/request"),
    ("POST", "/api/v1/walks/{walk_id}/links"),
    ("POST", "/api/v1/walks/{walk_id}/mail"),
    ("DELETE", "/api/v1/walks/{walk_id}/mail"),
    ("POST", "/api/v1/walks/{walk_id}/webhooks"),
    ("DELETE", "/api/v1/walks/{walk_id}/webhooks/{webhook_id}"),
    ("GET", "/api/v1/me/archive.zip"),
    ("DELETE", "/api/v1/me"),
    ("GET", "/api/v1/walks/{walk_id}/events"),
    ("GET", "/api/v1/walks/{walk_id}/frames/{index}.png"),
    ("GET", "/api/v1/walks/{walk_id}/probes/{seed}/{leg}/{fraction}.png"),
    ("GET", "/api/v1/walks/{walk_id}/extras/{name}"),
    ("GET", "/api/v1/walks/{walk_id}/frames.zip"),
    ("GET", "/api/v1/walks/{walk_id}/{name}"),
    ("POST", "/api/v1/pictures"),
    ("GET", "/api/v1/pictures/{picture_id}"),
    ("GET", "/api/v1/pictures/{picture_id}.png"),
    ("DELETE", "/api/v1/pictures/{picture_id}"),
    ("POST", "/api/v1/clips"),
    ("GET", "/api/v1/clips/{clip_id}"),
    ("GET", "/api/v1/clips/{clip_id}.{ending}"),
    ("DELETE", "/api/v1/clips/{clip_id}"),
]
bounded = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Running:
    """The API with a fake fleet, behind a real server, with one finished walk."""

    schema: schemathesis.BaseSchema
    walk_id: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("openapi")
    fleet = FakeFleet()
    # Valid requests start walks: small ones, which take no time.
    card = fleet.add(card={**CARD, "max_size": 32}).card
    with served_api(folder, fleet, card, max_frames=4, max_stops=3, fetch_ports="none") as url:
        walk = httpx.post(f"{url}/api/v1/walks", json={"start": "a", "end": "b", "frames": 2}).json()
        wait_until(lambda: httpx.get(url + walk["url"]).json()["state"] == "done")
        yield Running(schemathesis.openapi.from_url(f"{url}/api/openapi.json"), walk["id"])


def test_every_operation_is_tested_here(running):
    """A new route must not be forgotten."""
    described = {(found.ok().method.upper(), found.ok().path) for found in running.schema.get_all_operations()}
    assert described == set(OPERATIONS)


def test_every_reference_can_be_resolved(running):
    """Validators ignore a dangling reference silently, and would accept every response."""
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
        target = document
        for name in reference.removeprefix("#/").split("/"):
            target = target[name]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_response_is_undocumented_and_none_is_a_server_error(running, method, path, mode):
    """For requests that fit the description, and for requests that do not."""
    operation = running.schema[path][method]
    if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
        pytest.skip("this request has nothing that could be invalid")

    @bounded
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    check()


@pytest.mark.parametrize(("method", "path"), [found for found in OPERATIONS if "{walk_id}" in found[1]])
def test_responses_about_an_existing_walk_are_as_described(running, method, path):
    """Generated ids only get 404."""

    @bounded
    @given(running.schema[path][method].as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.path_parameters = {**case.path_parameters, "walk_id": running.walk_id}
        if "index" in case.path_parameters:
            case.path_parameters["index"] %= 3
        case.call_and_validate(checks=CHECKS, timeout=30)

    check()


def test_the_example_of_a_walk_fits_its_schema(running):
    """Readers would copy an invalid example."""
    WalkResource.model_validate(EXAMPLE)
    for operation in running.schema.get_all_operations():
        raw = operation.ok().definition.raw
        assert raw["summary"], raw
        assert all(parameter["description"] for parameter in raw.get("parameters", []))
