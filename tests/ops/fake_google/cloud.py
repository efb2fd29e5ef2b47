"""A fake Google Cloud API on localhost. It stores resources and rejects calls that Google's discovery documents do not
allow. It has no prices and no quotas, and nothing that it stores ever runs."""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.ops.fake_api_server import ApiError, ReceivedCall, serving
from tests.ops.fake_google import discovery, methods
from tests.ops.fake_google.discovery import ApiMethod, DiscoveredApi, SchemaViolation

PROJECT = "fake-project"
# These APIs return fields with zero values; the others, based on protocol buffers, omit them.
WITH_ZEROS = ("compute", "storage", "sqladmin")
ERRORS = {"missing": (404, "not found"), "exists": (409, "already exists"), "in use": (400, "in use")}


class GoogleCall:
    """One API call and the method of Google's document that it matches."""

    def __init__(self, method: str, url: str, body: Any) -> None:
        parts = urlsplit(url)
        _, self.host, self.path = unquote(parts.path).split("/", 2)
        self.method, self.body, self.query = method, body, dict(parse_qsl(parts.query))
        self.service = self.host.rpartition("-")[2]
        version = next(part for part in self.path.split("/") if part[0] == "v" and part[1].isdigit())
        self.api: DiscoveredApi = discovery.api(self.host, version)
        api_method = self.api.method(method, self.path)
        if api_method is None:
            raise ApiError(404, f"{self.service} has no {method} {self.path}")
        self.api_method: ApiMethod = api_method

    @property
    def id(self) -> str:
        """The method's id, such as compute.instances.insert."""
        return self.api_method.id


class FakeGoogleCloud:
    """The cloud's state. `resources`: path -> resource as stored; `changes`: every call that was not a read."""

    def __init__(self) -> None:
        self.resources: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}
        self.changes: list[GoogleCall] = []
        self._operations: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._count = 0
        self.url = ""

    def respond(self, method: str, url: str, body: Any) -> Any:
        """The body of the response. Raises ApiError."""
        with self._lock:
            call = GoogleCall(method, url, body)
            try:
                call.api.check_query(call.api_method, call.query)
                call.api.check_body(call.api_method, body)
            except SchemaViolation as violation:
                raise ApiError(400, str(violation)) from violation
            verb = call.id.rpartition(".")[2]
            if "perations." in call.id:
                return self._operation(call)
            if verb in ("getIamPolicy", "setIamPolicy"):
                return self._policy(call, verb == "setIamPolicy")
            if method == "GET":
                return self._read(call)
            self.changes.append(call)
            return self._change(call)

    def delete_behind(self, path: str) -> None:
        """Delete a resource and its children without a call, as if in the console."""
        for each in [each for each in self.resources if each == path or each.startswith(path + "/")]:
            del self.resources[each]

    def _change(self, call: GoogleCall) -> Any:
        """Make a change at once, or start an operation that makes it when it is polled."""
        act = methods.action(call, self.resources)
        if isinstance(act, str):
            raise ApiError(*ERRORS[act])
        if "Operation" not in (call.api_method.response or ""):
            act()
            return self._shown(call, methods.target_path(call)) if call.method != "DELETE" else {}
        self._count += 1
        operation = methods.operation(call, self._count)
        self._operations[operation.get("selfLink", operation["name"]).rpartition("/")[2]] = [operation, act, 2]
        return operation

    def _operation(self, call: GoogleCall) -> Any:
        running = self._operations[call.path.rpartition("/")[2]]
        running[2] -= 1
        if running[2] == 0:
            running[1]()
        operation = copy.deepcopy(running[0])
        if running[2] <= 0:
            operation |= {"done": True} if "status" not in operation else {"status": "DONE"}
        return operation

    def _policy(self, call: GoogleCall, write: bool) -> Any:
        path = call.path.removesuffix("/iam").rpartition(":")[0] or call.path.removesuffix("/iam")
        if path not in self.resources and not path.startswith("v3/projects/"):
            raise ApiError(404, f"no {path}")
        if write:
            self.changes.append(call)
            wanted = call.body.get("policy", call.body)
            if wanted.get("etag") != self.policies.get(path, {}).get("etag", "none"):
                raise ApiError(409, "the policy was changed concurrently")
            self._count += 1
            self.policies[path] = wanted | {"etag": f"e{self._count}"}
        return copy.deepcopy(self.policies.get(path, {"etag": "none"}))

    def _read(self, call: GoogleCall) -> Any:
        methods.add_builtin_resources(call, self.resources, PROJECT)
        path = methods.target_path(call)
        if path not in self.resources:
            raise ApiError(404, f"no {path}")
        return self._shown(call, path)

    def _shown(self, call: GoogleCall, path: str) -> Any:
        """A resource as Google returns it."""
        shown = methods.with_output_fields(call, path, copy.deepcopy(self.resources.get(path, {})))
        if call.api_method.response:
            shown = call.api.as_json(call.api_method.response, shown)
        return shown if call.service in WITH_ZEROS else without_zeros(shown)

    def _respond(self, received: ReceivedCall) -> tuple[int, Any]:
        body = json.loads(received.content) if received.content else None
        return 200, self.respond(received.method, received.url, body)

    @contextmanager
    def running(self, folder: Path) -> Iterator["FakeGoogleCloud"]:
        """Serve on localhost. Writes ca.pem, which clients must trust, to `folder`."""
        with serving(self._respond, _error, folder) as self.url:
            yield self


def without_zeros(value: Any) -> Any:
    """A message without the fields that protocol buffers omit."""
    if isinstance(value, dict):
        return {name: without_zeros(each) for name, each in value.items() if each not in (False, 0, "", "0", [], None)}
    return [without_zeros(each) for each in value] if isinstance(value, list) else value


def _error(error: ApiError) -> Any:
    return {"error": {"code": error.status, "message": str(error)}}
