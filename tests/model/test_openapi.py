"""What the service says of itself is true: nothing it answers is missing from openapi.json."""

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
    """The document as a client gets it."""
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_operation_is_tried_here(schema):
    """A new route must not slip by."""
    assert {(found.ok().path, found.ok().method.upper()) for found in schema.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_answer_is_undocumented_and_none_is_a_failure(schema, path, method):
    """Requests made up from the document; a 409 is what most right recipes get, since they name other weights."""

    @bounded
    @given(schema[path][method].as_strategy())
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    hold()


def test_what_the_document_forbids_is_refused(schema):
    """Requests made up against the document."""

    @bounded
    @given(schema["/v1/render"]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def hold(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=[*CHECKS, negative_data_rejection])

    hold()


def test_recipes_for_what_is_loaded_are_rendered_or_told_why_not(schema, server):
    """With model, revision, scheduler and sizes as loaded, so that the way behind the checks is walked too."""
    loaded = recipe_for(server.ready)
    right = {name: loaded[name] for name in ("model", "revision", "scheduler", "width", "height")}
    statuses = set()

    @bounded
    @given(schema["/v1/render"]["POST"].as_strategy())
    def hold(case: schemathesis.Case) -> None:
        recipe = {**case.body["recipe"], **right, "num_inference_steps": 1}
        case.body = {"recipe": recipe, "fractions": case.body["fractions"][:4]}
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    hold()
    assert 200 in statuses
