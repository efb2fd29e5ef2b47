"""Google's discovery documents, which google-api-python-client ships: the methods of each REST API and the schemas of
their bodies. Bodies are validated strictly, as Google does."""

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
    """A call that Google would reject with status 400."""


@dataclass(frozen=True)
class ApiMethod:
    """One method of an API. `path` matches the whole path of a call."""

    id: str
    http_method: str
    path: re.Pattern[str]
    parameters: dict[str, Any]
    request: str | None
    response: str | None


class DiscoveredApi:
    """One API in one version."""

    def __init__(self, name: str, version: str) -> None:
        document = json.loads((DOCUMENTS / f"{name}.{version}.json").read_text())
        self._schemas: dict[str, Any] = document["schemas"]
        self._common: dict[str, Any] = document["parameters"]
        self._methods = list(_methods(document, document["servicePath"]))

    def method(self, http_method: str, path: str) -> ApiMethod | None:
        """The method that a call matches. If several match, the one with the fewest variable parts."""
        matches = [one for one in self._methods if one.http_method == http_method and one.path.fullmatch(path)]
        return min(matches, key=lambda one: one.path.groups, default=None)

    def check_query(self, method: ApiMethod, query: dict[str, str]) -> None:
        known = {name for name, what in method.parameters.items() if what.get("location") == "query"}
        required = {name for name in known if method.parameters[name].get("required")}
        if unknown := query.keys() - known - self._common.keys():
            raise SchemaViolation(f"{method.id} has no parameter {unknown}")
        if missing := required - query.keys():
            raise SchemaViolation(f"{method.id} requires {missing}")

    def check_body(self, method: ApiMethod, body: Any) -> None:
        """Raises SchemaViolation if the body has an unknown field or a value of the wrong type."""
        if method.request is None and body:
            raise SchemaViolation(f"{method.id} takes no body")
        if method.request is not None:
            self._check({"$ref": method.request}, body, method.request)

    def fields(self, schema: str) -> set[str]:
        """The names of a schema's fields."""
        return set(self._schemas[schema]["properties"])

    def as_json(self, schema: str, value: Any) -> Any:
        """A value as Google writes it: 64-bit numbers as strings."""
        return self._as_json({"$ref": schema}, value)

    def _check(self, schema: dict[str, Any], value: Any, where: str) -> None:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        kind = schema.get("type", "any")
        if kind == "object":
            self._check_object(schema, value, where)
        elif kind == "array":
            _require(isinstance(value, list), where, "a list", value)
            for each in value:
                self._check(schema["items"], each, f"{where}[]")
        elif kind == "string":
            number = schema.get("format") in INTEGERS and type(value) is int
            _require(isinstance(value, str) or number, where, "a string", value)
            _require("enum" not in schema or value in schema["enum"], where, f"one of {schema.get('enum')}", value)
        elif kind == "boolean":
            _require(isinstance(value, bool), where, "true or false", value)
        elif kind in ("integer", "number"):
            _require(type(value) in (int, float), where, "a number", value)

    def _check_object(self, schema: dict[str, Any], value: Any, where: str) -> None:
        _require(isinstance(value, dict), where, "an object", value)
        properties = schema.get("properties", {})
        for name, each in value.items():
            inner = properties.get(name, schema.get("additionalProperties"))
            if inner is None:
                raise SchemaViolation(f"Unknown name {name!r} at {where!r}")
            self._check(inner, each, f"{where}.{name}")

    def _as_json(self, schema: dict[str, Any], value: Any) -> Any:
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        if isinstance(value, dict):
            properties, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
            return {name: self._as_json(properties.get(name, rest), each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._as_json(schema.get("items", {}), each) for each in value]
        return str(value) if schema.get("format") in INTEGERS else value


@functools.cache
def api(name: str, version: str) -> DiscoveredApi:
    """An API by the first part of its host; us-central1-aiplatform is aiplatform."""
    return DiscoveredApi(name.rpartition("-")[2], version)


def _require(valid: bool, where: str, what: str, value: Any) -> None:
    if not valid:
        raise SchemaViolation(f"Invalid value at {where!r}: {value!r} is not {what}")


def _methods(resource: dict[str, Any], prefix: str) -> Any:
    for found in resource.get("methods", {}).values():
        path = prefix + found.get("flatPath", found["path"])
        yield ApiMethod(
            id=found["id"],
            http_method=found["httpMethod"],
            path=re.compile(re.sub(r"\\{\\?\+?(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(path))),
            parameters=found.get("parameters", {}),
            request=found.get("request", {}).get("$ref"),
            response=found.get("response", {}).get("$ref"),
        )
    for inner in resource.get("resources", {}).values():
        yield from _methods(inner, prefix)
