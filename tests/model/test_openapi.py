"""openapi.json describes every response of the service."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.model_server import Server, recipe_for

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [("/v1/render", "POST"), *((path, "GET") for path in ("/v1/model", "/healthz", "/readyz", "/metrics"))]
bounded = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def schema(server: Server) -> schemathesis.BaseSchema:
    """The OpenAPI document, as a client downloads it."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_operation_is_tested_here(schema):
    """A new route must be added to the tests."""
    assert {(found.ok().path, found.ok().method.upper()) for found in schema.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_response_is_documented_and_none_is_a_server_error(schema, path, method):
    """Requests are generated from the document. Most valid recipes get 409, because they name other weights."""

    @bounded
    @given(schema[path][method].as_strategy())
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    hold()


def test_requests_against_the_document_are_refused(schema):
    """Requests are generated to violate the document."""

    @bounded
    @given(schema["/v1/render"]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=[*CHECKS, negative_data_rejection])

    hold()


def test_recipes_for_the_loaded_model_are_rendered_or_refused_as_documented(schema, server):
    """Model, revision, scheduler and size fit the loaded model, so that rendering is tested too."""
    loaded = recipe_for(server.ready)
    fitting = {name: loaded[name] for name in ("model", "revision", "scheduler", "width", "height")}
    statuses = set()

    @bounded
    @given(schema["/v1/render"]["POST"].as_strategy())
    def hold(case: schemathesis.Case) -> None:
        recipe = {**case.body["recipe"], **fitting, "num_inference_steps": 1}
        case.body = {"recipe": recipe, "fractions": case.body["fractions"][:4]}
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    hold()
    assert 200 in statuses
