"""openapi.json describes every response of the service."""

from __future__ import annotations

import json

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

from tests.support.generated_client import generated_client
from tests.support.model_server import Server, recipe_for

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [
    ("/v1/render", "POST"),
    *((path, "GET") for path in ("/v1/models", "/v1/model", "/healthz", "/readyz", "/metrics")),
]
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
        # One of another kind is refused each time, too.
        generated = case.body["recipe"] if case.body["recipe"].get("kind", "between") == "between" else loaded
        recipe = {**generated, **fitting, "num_inference_steps": 1}
        # The body has no files, with which a recipe of pictures would be refused each time.
        for name in ("start_picture", "end_picture", "strength"):
            recipe.pop(name, None)
        case.body = {"recipe": recipe, "fractions": case.body["fractions"][:4]}
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    hold()
    assert 200 in statuses


def test_a_generated_client_renders_frames(server, tmp_path):
    """It reads the model card, sends a recipe, and gets the JSON lines as they are."""
    with (
        generated_client(server.get("/openapi.json").json(), tmp_path, "replica_client") as module,
        module("client").Client(base_url=server.url, raise_on_unexpected_status=True) as client,
    ):
        models = module("models")
        card = module("api.rendering.get_model").sync(client=client).card
        recipe = models.BetweenRecipe.from_dict(
            {**recipe_for(server.ready), "model": card.model, "num_inference_steps": 1}
        )
        body = models.RenderRequest(recipe=recipe, fractions=[0.0, 1.0])
        answer = module("api.rendering.render_frames").sync_detailed(client=client, body=body)
        assert answer.status_code == 200
        head, *frames = [json.loads(line) for line in answer.content.splitlines()]
        assert (head["model"], [frame["fraction"] for frame in frames]) == (card.model, [0.0, 1.0])
        refused = module("api.rendering.render_frames").sync(
            client=client, body=models.RenderRequest(recipe=recipe, fractions=[2.0])
        )
        assert (refused.status, refused.type_) == (422, "urn:momalisa:problem:invalid-request")
