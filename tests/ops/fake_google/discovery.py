"""Google's own description of its REST APIs, as google-api-python-client ships it: which calls there are, and what
their bodies may hold. A body is held against it strictly, as Google itself does."""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import googleapiclient

DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
INTEGERS = ("int64", "uint64")


class SchemaViolation(Exception):
    """What Google would answer with 400."""


@dataclass(frozen=True)
class Call:
    """One of an API's methods. `path` matches a whole request's path."""

    id: str
    method: str
    path: re.Pattern[str]
    parameters: dict[str, Any]
    request: str | None
    response: str | None


class Api:
    """One API in one version."""

    def __init__(self, name: str, version: str) -> None:
        document = json.loads((DOCUMENTS / f"{name}.{version}.json").read_text())
        self._schemas: dict[str, Any] = document["schemas"]
        self._common: dict[str, Any] = document["parameters"]
        self._calls = list(_calls(document, document["servicePath"]))

    def call(self, method: str, path: str) -> Call | None:
        """The method that a request is for. Where several match, the one with the most fixed parts."""
        fitting = [call for call in self._calls if call.method == method and call.path.fullmatch(path)]
        return min(fitting, key=lambda call: call.path.groups, default=None)

    def check_query(self, call: Call, query: dict[str, str]) -> None:
        known = {name for name, what in call.parameters.items() if what.get("location") == "query"}
        needed = {name for name in known if call.parameters[name].get("required")}
        if unknown := query.keys() - known - self._common.keys():
            raise SchemaViolation(f"{call.id} knows no parameter {unknown}")
        if lacking := needed - query.keys():
            raise SchemaViolation(f"{call.id} needs {lacking}")

    def check_body(self, call: Call, body: Any) -> None:
        """Raises SchemaViolation where the body has a field that the schema lacks, or a value of another type."""
        if call.request is None and body:
            raise SchemaViolation(f"{call.id} takes no body")
        if call.request is not None:
            self._check({"$ref": call.request}, body, call.request)

    def fields(self, schema: str) -> set[str]:
        """The names of a schema's fields."""
        return set(self._schemas[schema]["properties"])

    def plain(self, schema: str, value: Any) -> Any:
        """A value as Google writes it: 64-bit numbers as strings."""
        return self._plain({"$ref": schema}, value)

    def _check(self, schema: dict[str, Any], value: Any, where: str) -> None:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        kind = schema.get("type", "any")
        if kind == "object":
            self._check_object(schema, value, where)
        elif kind == "array":
            _wants(isinstance(value, list), where, "a list", value)
            for each in value:
                self._check(schema["items"], each, f"{where}[]")
        elif kind == "string":
            number = schema.get("format") in INTEGERS and type(value) is int
            _wants(isinstance(value, str) or number, where, "a string", value)
            _wants("enum" not in schema or value in schema["enum"], where, f"one of {schema.get('enum')}", value)
        elif kind == "boolean":
            _wants(isinstance(value, bool), where, "true or false", value)
        elif kind in ("integer", "number"):
            _wants(type(value) in (int, float), where, "a number", value)

    def _check_object(self, schema: dict[str, Any], value: Any, where: str) -> None:
        _wants(isinstance(value, dict), where, "an object", value)
        properties = schema.get("properties", {})
        for name, each in value.items():
            inner = properties.get(name, schema.get("additionalProperties"))
            if inner is None:
                raise SchemaViolation(f"Unknown name {name!r} at {where!r}")
            self._check(inner, each, f"{where}.{name}")

    def _plain(self, schema: dict[str, Any], value: Any) -> Any:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        if isinstance(value, dict):
            properties, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
            return {name: self._plain(properties.get(name, rest), each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._plain(schema.get("items", {}), each) for each in value]
        return str(value) if schema.get("format") in INTEGERS else value


@functools.cache
def api(name: str, version: str) -> Api:
    """An API by the first part of its host: us-central1-aiplatform is aiplatform's."""
    return Api(name.rpartition("-")[2], version)


def _wants(holds: bool, where: str, what: str, value: Any) -> None:
    if not holds:
        raise SchemaViolation(f"Invalid value at {where!r}: {value!r} is not {what}")


def _calls(resource: dict[str, Any], prefix: str) -> Any:
    for found in resource.get("methods", {}).values():
        path = prefix + found.get("flatPath", found["path"])
        yield Call(
            id=found["id"],
            method=found["httpMethod"],
            path=re.compile(re.sub(r"\\{\\?\+?(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(path))),
            parameters=found.get("parameters", {}),
            request=found.get("request", {}).get("$ref"),
            response=found.get("response", {}).get("$ref"),
        )
    for inner in resource.get("resources", {}).values():
        yield from _calls(inner, prefix)
