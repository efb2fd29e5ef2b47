"""A made-up Google on loopback, over TLS with an authority of its own. It keeps what it is given, and refuses what
Google's discovery documents do not know. It does not know prices, quotas, or whether anything would really run."""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.ops.fake_api_server import ApiError, ReceivedCall, served
from tests.ops.fake_google import discovery, methods
from tests.ops.fake_google.discovery import Api, Call, SchemaViolation

PROJECT = "made-up-project"
# These say what is at its zero; the others, born of protocol buffers, leave it out.
OUTSPOKEN = ("compute", "storage", "sqladmin")


class Request:
    """One call, as it came and as Google's document has it."""

    def __init__(self, method: str, url: str, body: Any) -> None:
        parts = urlsplit(url)
        _, self.host, self.path = unquote(parts.path).split("/", 2)
        self.method, self.body, self.query = method, body, dict(parse_qsl(parts.query))
        self.service = self.host.rpartition("-")[2]
        version = next(part for part in self.path.split("/") if part[0] == "v" and part[1].isdigit())
        self.api: Api = discovery.api(self.host, version)
        call = self.api.call(method, self.path)
        if call is None:
            raise ApiError(404, f"{self.service} has no {method} {self.path}")
        self.call: Call = call


class FakeGoogleCloud:
    """What there is. `things`: path to resource, as stored; `changes`: every call that was not a question."""

    def __init__(self) -> None:
        self.things: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}
        self.changes: list[Request] = []
        self._running: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._count = 0
        self.url = ""

    def answer(self, method: str, url: str, body: Any) -> Any:
        """What Google says. Raises ApiError."""
        with self._lock:
            request = Request(method, url, body)
            try:
                request.api.check_query(request.call, request.query)
                request.api.check_body(request.call, body)
            except SchemaViolation as unfit:
                raise ApiError(400, str(unfit)) from unfit
            verb = request.call.id.rpartition(".")[2]
            if "perations." in request.call.id:
                return self._operation(request)
            if verb in ("getIamPolicy", "setIamPolicy"):
                return self._policy(request, verb == "setIamPolicy")
            if method == "GET":
                return self._shown(request)
            self.changes.append(request)
            return self._changed(request)

    def forget(self, path: str) -> None:
        """Delete by hand, with all below it."""
        for each in [each for each in self.things if each == path or each.startswith(path + "/")]:
            del self.things[each]

    def _changed(self, request: Request) -> Any:
        """Act now and say so, or begin an operation that acts when it is asked after."""
        act = methods.action(request, self.things)
        if isinstance(act, str):
            raise ApiError(
                *{"gone": (404, "not found"), "there": (409, "already exists"), "used": (400, "in use")}[act]
            )
        if "Operation" not in (request.call.response or ""):
            act()
            return self._of(request, methods.place(request)) if request.method != "DELETE" else {}
        self._count += 1
        operation = methods.operation(request, self._count)
        self._running[operation.get("selfLink", operation["name"]).rpartition("/")[2]] = [operation, act, 2]
        return operation

    def _operation(self, request: Request) -> Any:
        running = self._running[request.path.rpartition("/")[2]]
        running[2] -= 1
        if running[2] == 0:
            running[1]()
        operation = copy.deepcopy(running[0])
        if running[2] <= 0:
            operation |= {"done": True} if "status" not in operation else {"status": "DONE"}
        return operation

    def _policy(self, request: Request, write: bool) -> Any:
        path = request.path.removesuffix("/iam").rpartition(":")[0] or request.path.removesuffix("/iam")
        if path not in self.things and not path.startswith("v3/projects/"):
            raise ApiError(404, f"no {path}")
        if write:
            self.changes.append(request)
            wanted = request.body.get("policy", request.body)
            if wanted.get("etag") != self.policies.get(path, {}).get("etag", "none"):
                raise ApiError(409, "somebody else was quicker")
            self._count += 1
            self.policies[path] = wanted | {"etag": f"e{self._count}"}
        return copy.deepcopy(self.policies.get(path, {"etag": "none"}))

    def _shown(self, request: Request) -> Any:
        methods.born_with(request, self.things, PROJECT)
        path = methods.place(request)
        if path not in self.things:
            raise ApiError(404, f"no {path}")
        return self._of(request, path)

    def _of(self, request: Request, path: str) -> Any:
        shown = methods.seen(request, path, copy.deepcopy(self.things.get(path, {})))
        if request.call.response:
            shown = request.api.plain(request.call.response, shown)
        return shown if request.service in OUTSPOKEN else without_zeros(shown)

    def _answered(self, asked: ReceivedCall) -> tuple[int, Any]:
        return 200, self.answer(asked.method, asked.url, json.loads(asked.content) if asked.content else None)

    @contextmanager
    def running(self, folder: Path) -> Iterator["FakeGoogleCloud"]:
        """Serve in a thread on a free port. `folder` gets ca.pem, which a caller must trust."""
        with served(self._answered, _refusal, folder) as self.url:
            yield self


def without_zeros(value: Any) -> Any:
    """What protocol buffers leave of a message."""
    if isinstance(value, dict):
        return {name: without_zeros(each) for name, each in value.items() if each not in (False, 0, "", "0", [], None)}
    return [without_zeros(each) for each in value] if isinstance(value, list) else value


def _refusal(refused: ApiError) -> Any:
    return {"error": {"code": refused.status, "message": str(refused)}}
