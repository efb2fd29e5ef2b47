"""The OpenAPI documents in docs/openapi, which readers, generated clients and the types of the gallery use."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from momalisa_api import __version__
from scripts import openapi

OPERATIONS = {
    "api.json": {
        "get_film": "GET /api/v1/walk",
        "create_walk": "POST /api/v1/walks",
        "list_walks": "GET /api/v1/walks",
        "get_walk": "GET /api/v1/walks/{walk_id}",
        "withdraw_request": "DELETE /api/v1/walks/{walk_id}",
        "get_request": "GET /api/v1/walks/{walk_id}/request",
        "create_link": "POST /api/v1/walks/{walk_id}/links",
        "get_archive": "GET /api/v1/me/archive.zip",
        "delete_me": "DELETE /api/v1/me",
        "change_request": "PUT /api/v1/walks/{walk_id}/request",
        "request_mail": "POST /api/v1/walks/{walk_id}/mail",
        "withdraw_mail": "DELETE /api/v1/walks/{walk_id}/mail",
        "create_webhook": "POST /api/v1/walks/{walk_id}/webhooks",
        "delete_webhook": "DELETE /api/v1/walks/{walk_id}/webhooks/{webhook_id}",
        "watch_walk": "GET /api/v1/walks/{walk_id}/events",
        "get_frame": "GET /api/v1/walks/{walk_id}/frames/{index}.png",
        "get_probe": "GET /api/v1/walks/{walk_id}/probes/{seed}/{leg}/{fraction}.png",
        "get_extra": "GET /api/v1/walks/{walk_id}/extras/{name}",
        "get_frames_zip": "GET /api/v1/walks/{walk_id}/frames.zip",
        "get_film_file": "GET /api/v1/walks/{walk_id}/{name}",
        "create_picture": "POST /api/v1/pictures",
        "get_picture": "GET /api/v1/pictures/{picture_id}",
        "get_picture_file": "GET /api/v1/pictures/{picture_id}.png",
        "delete_picture": "DELETE /api/v1/pictures/{picture_id}",
        "create_clip": "POST /api/v1/clips",
        "get_clip": "GET /api/v1/clips/{clip_id}",
        "get_clip_file": "GET /api/v1/clips/{clip_id}.{ending}",
        "delete_clip": "DELETE /api/v1/clips/{clip_id}",
        "get_me": "GET /api/v1/me",
        "sign_in_at_provider": "GET /api/v1/sign-in",
        "sign_out": "POST /api/v1/sign-out",
        "list_models": "GET /api/v1/models",
        "get_model": "GET /api/v1/model",
        "get_health": "GET /healthz",
        "get_readiness": "GET /readyz",
        "get_metrics": "GET /metrics",
    },
    "model.json": {
        "render_frames": "POST /v1/render",
        "get_models": "GET /v1/models",
        "get_model": "GET /v1/model",
        "get_health": "GET /healthz",
        "get_readiness": "GET /readyz",
        "get_metrics": "GET /metrics",
    },
}


@pytest.fixture(scope="module", params=openapi.DOCUMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def document(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((openapi.FOLDER / name).read_text())
    return read


# What Draft 2020-12 and OpenAPI 3.1 define, as far as the documents use it.
KEYWORDS = {
    *("$ref", "type", "enum", "anyOf", "format", "pattern", "title", "description", "default", "examples"),
    *("oneOf", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    # OpenAPI's own: which of several schemas it is.
    "discriminator",
}
# The operations that need an owner; the others with `security` also take anonymous callers.
OWNERS_ONLY = {
    *("withdraw_request", "change_request", "create_link", "get_picture", "get_picture_file", "delete_picture"),
    *("get_clip", "get_clip_file", "delete_clip"),
    *("get_archive", "delete_me"),
    *("request_mail", "withdraw_mail", "create_webhook", "delete_webhook"),
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def schemas(node: Any, where: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with properties, and its JSON pointer."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield where, node
        for key, value in node.items():
            if key not in ("example", "examples", "default"):
                yield from schemas(value, f"{where}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from schemas(value, f"{where}/{number}")


def test_the_document_is_current(name):
    """`make openapi` writes it. A client generated from an old document calls operations that no longer exist."""
    written = (openapi.FOLDER / name).read_text()
    assert written == openapi.text_of(openapi.DOCUMENTS[name]()), f"docs/openapi/{name} is stale: make openapi"


def test_the_document_introduces_itself(document):
    """A reader who has only this file needs the purpose, the licence and the format of errors."""
    info = document["info"]
    assert {"title", "summary", "description", "contact", "license", "version"} <= set(info)
    assert info["version"] == __version__
    assert info["license"]["identifier"] == "Apache-2.0"
    assert "problem+json" in info["description"]
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_operation_ids_are_stable(name, document):
    """Generated clients name their functions after them, so a change breaks programs."""
    found = [(operation["operationId"], where) for where, operation in operations(document)]
    assert len(found) == len(dict(found))
    assert dict(found) == OPERATIONS[name]


def test_every_operation_is_described(document):
    """With a summary, a description, one tag with a description, and a sentence for each status."""
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for where, operation in operations(document):
        assert operation.get("summary"), where
        assert operation.get("description"), where
        assert len(operation["tags"]) == 1, where
        assert set(operation["tags"]) <= tags, where
        assert all(answer.get("description") for answer in operation["responses"].values()), where


def test_every_parameter_is_described(document):
    """A name alone does not give the unit or the default."""
    lacking = [
        f"{where}: {parameter['name']}"
        for where, operation in operations(document)
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]
    assert lacking == []


def test_every_schema_and_every_field_is_described(document):
    """Readers of /api/docs see only these descriptions."""
    lacking = [where for where, schema in schemas(document) if not schema.get("description")]
    lacking += [
        f"{where}.{field}"
        for where, schema in schemas(document)
        for field, value in schema["properties"].items()
        if not value.get("description")
    ]
    assert lacking == []


def test_every_named_schema_is_described(document):
    """Enumerations have no fields, but need an explanation too."""
    assert [name for name, schema in document["components"]["schemas"].items() if not schema.get("description")] == []


def test_every_example_fits_its_schema(document):
    """Readers would copy an invalid example."""
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry = Registry().with_resource("urn:document", resource)

    def refused(pointer: str, examples: list[Any]) -> list[str]:
        validator = Draft202012Validator({"$ref": f"urn:document#/components/schemas/{pointer}"}, registry=registry)
        return [f"{pointer}: {error.message}" for example in examples for error in validator.iter_errors(example)]

    for name, schema in document["components"]["schemas"].items():
        assert refused(name, schema.get("examples", [])) == []
        for field, value in schema.get("properties", {}).items():
            assert refused(f"{name}/properties/{field}", value.get("examples", [])) == []


def every_schema(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a document, the parts of others included, and its JSON pointer."""
    found = [(f"#/components/schemas/{name}", schema) for name, schema in document["components"]["schemas"].items()]
    for where, operation in operations(document):
        found += [(f"{where} {one['name']}", one["schema"]) for one in operation.get("parameters", [])]
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (content for body in bodies for content in body.get("content", {}).values()):
            found += [(where, content["schema"])] if "schema" in content else []
    for where, schema in found:
        yield where, schema
        parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *schema.get("prefixItems", [])]
        parts += [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
        found += [(f"{where}/", part) for part in parts]


def test_schemas_use_keywords_of_json_schema_only(document):
    """`gt` or `max_length` would be no limit for anybody who reads the document, and generators skip `const`."""
    unknown = {(where, *(schema.keys() - KEYWORDS)) for where, schema in every_schema(document)}
    assert {found for found in unknown if len(found) > 1} == set()


def test_every_default_fits_its_schema(document):
    """A client that sends the default would get 422."""
    for where, schema in every_schema(document):
        if "default" in schema and "$ref" not in schema:
            assert Draft202012Validator(schema).is_valid(schema["default"]), where


def test_operations_that_need_no_credentials_say_so(document):
    """Generated clients would demand a key that nobody needs. `{}` is the alternative without one."""
    secured = {
        operation["operationId"]: operation["security"]
        for _, operation in operations(document)
        if "security" in operation
    }
    assert {name for name, alternatives in secured.items() if {} not in alternatives} == OWNERS_ONLY & secured.keys()
