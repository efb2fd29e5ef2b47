"""A made-up Kubernetes on loopback: it keeps what it is given, defaults it, and refuses what Kubernetes' schemas do not
know. Its controllers act at once, or when they were looked at as often as a test wants. There are no watches, no pods
and no owners of fields, and no schemas for custom kinds: those are held against their types elsewhere."""

import copy
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.ops.fake_api_server import TOKEN, ApiError, ReceivedCall, served
from tests.ops.fake_kubernetes import controllers, patches
from tests.ops.fake_kubernetes.kinds import Kind, Kinds, defaulted
from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.schemas import is_custom, wrong_for_kubernetes

REASONS = {400: "BadRequest", 401: "Unauthorized", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}


class Request:
    """One call, as it came. `kind` is None for what is asked of the server itself, such as what it serves."""

    def __init__(self, method: str, url: str, headers: Any, body: Any) -> None:
        parts = urlsplit(url)
        self.method, self.path, self.body = method, parts.path, body
        self.query = dict(parse_qsl(parts.query))
        self.dry = self.query.get("dryRun") == "All"
        self.patch = str(headers.get("Content-Type", "")).removeprefix("application/").removesuffix("+json")
        words = parts.path.strip("/").split("/")
        size = 2 if words[0] == "api" else 3
        self.version, rest = "/".join(words[1:size]), words[size:]
        self.namespace = ""
        if rest[0:1] == ["namespaces"] and len(rest) > 2:
            self.namespace, rest = rest[1], rest[2:]
        self.plural, self.name = [*rest, "", ""][:2]


class FakeCluster:
    """What there is. `things`: "namespace/Kind/name" to manifest; `changes`: each (method, thing) that changed one."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self.kinds = Kinds(manifests)
        self.things: dict[str, Manifest] = {}
        self.changes: list[tuple[str, str]] = []
        self.controllers = controllers.Controllers()
        self._lock = threading.Lock()
        self._count = 0
        self.url = ""

    def answer(self, request: Request) -> tuple[int, Any]:
        """What Kubernetes says. Raises ApiError."""
        with self._lock:
            told = self.kinds.told(request.path)
            if told is not None:
                return 200, told
            kind = self.kinds.of(request.version, request.plural)
            if kind is None:
                raise ApiError(404, "the server could not find the requested resource")
            if request.method == "GET" and not request.name:
                return 200, self._list(request, kind)
            if request.method == "POST":
                return 201, self._create(request, kind, request.body)
            key = f"{request.namespace}/{kind.name}/{request.name}"
            applies = request.patch == "apply-patch+yaml"
            if applies and not request.query.get("fieldManager"):
                raise ApiError(400, "PatchOptions: fieldManager: Required value: is required for apply patch")
            if key not in self.things:
                if applies:
                    return 201, self._create(request, kind, request.body)
                raise ApiError(404, f'{kind.plural} "{request.name}" not found')
            if request.method == "GET":
                self.controllers.looked_at(self.things[key])
                return 200, copy.deepcopy(self.things[key])
            return 200, self._delete(request, key) if request.method == "DELETE" else self._change(request, key)

    def _list(self, request: Request, kind: Kind) -> Any:
        there = [thing for key, thing in self.things.items() if key.startswith(f"{request.namespace}/{kind.name}/")]
        wanted = dict(parse_qsl(request.query.get("labelSelector", "").replace(",", "&")))
        there = [thing for thing in there if thing["metadata"].get("labels", {}).items() >= wanted.items()]
        for thing in there:
            self.controllers.looked_at(thing)
        return {"apiVersion": kind.version, "kind": f"{kind.name}List", "metadata": {}, "items": copy.deepcopy(there)}

    def _create(self, request: Request, kind: Kind, body: Manifest) -> Manifest:
        made = defaulted(self._fitting(request, kind, body))
        key = f"{request.namespace}/{kind.name}/{made['metadata']['name']}"
        if key in self.things:
            raise ApiError(409, f"{key} already exists")
        made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        if "spec" in made and not kind.is_core:
            made["metadata"]["generation"] = 1
        return self._kept(request, key, made)

    def _change(self, request: Request, key: str) -> Manifest:
        before = self.things[key]
        kind = self.kinds.of(request.version, request.plural)
        assert kind is not None
        after = request.body
        if request.method == "PATCH":
            try:
                after = patches.patched(request.patch, before, request.body)
            except patches.Unknown as unknown:
                raise ApiError(415, str(unknown)) from unknown
        after = defaulted(self._fitting(request, kind, after))
        if "status" in before:
            after["status"] = copy.deepcopy(before["status"])
        for field in patches.cannot_change(before, after):
            raise ApiError(422, f"{key}: {field}: Invalid value: field is immutable")
        if after == before:
            return copy.deepcopy(before)
        if after.get("spec") != before.get("spec") and "generation" in before["metadata"]:
            after["metadata"]["generation"] += 1
        return self._kept(request, key, after)

    def _fitting(self, request: Request, kind: Kind, body: Manifest) -> Manifest:
        """A copy of a body, where it is one that this address takes."""
        body = copy.deepcopy(body)
        said = (body.get("apiVersion"), body.get("kind"))
        if said != (kind.version, kind.name):
            raise ApiError(400, f"{said} was sent to {request.path}")
        if kind.namespaced:
            if f"/Namespace/{request.namespace}" not in self.things:
                raise ApiError(404, f'namespaces "{request.namespace}" not found')
            if body["metadata"].setdefault("namespace", request.namespace) != request.namespace:
                raise ApiError(400, "the namespace of the object is not the namespace of the request")
        if request.name and body["metadata"].get("name") != request.name:
            raise ApiError(400, "the name of the object is not the name of the request")
        wrong = [] if is_custom(body) or kind.is_definition else wrong_for_kubernetes([body])
        if wrong:
            raise ApiError(400, "; ".join(wrong))
        return body

    def _kept(self, request: Request, key: str, thing: Manifest) -> Manifest:
        if request.dry:
            return thing
        self._count += 1
        thing["metadata"]["resourceVersion"] = str(self._count)
        before = self.things.get(key)
        self.things[key] = thing
        self.changes.append((request.method, key))
        if thing["kind"] == "CustomResourceDefinition":
            self.kinds.defined(thing)
        answered = copy.deepcopy(thing)
        self.controllers.told(before, thing)
        return answered

    def _delete(self, request: Request, key: str) -> Manifest:
        gone = copy.deepcopy(self.things[key])
        if not request.dry:
            below = f"{request.name}/" if gone["kind"] == "Namespace" else key
            for each in [each for each in self.things if each == key or each.startswith(below)]:
                del self.things[each]
            self.changes.append((request.method, key))
        return gone | {"metadata": gone["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}

    def _answered(self, asked: ReceivedCall) -> tuple[int, Any]:
        body = yaml.safe_load(asked.content) if asked.content else None
        return self.answer(Request(asked.method, asked.url, asked.headers, body))

    @contextmanager
    def running(self, folder: Path) -> Iterator["FakeCluster"]:
        """Serve on loopback. `folder` gets ca.pem and kubeconfig."""
        with served(self._answered, _refusal, folder) as self.url:
            (folder / "kubeconfig").write_text(yaml.safe_dump(self._kubeconfig(folder)))
            yield self

    def _kubeconfig(self, folder: Path) -> Any:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "made-up",
            "contexts": [{"name": "made-up", "context": {"cluster": "made-up", "user": "made-up"}}],
            "clusters": [
                {"name": "made-up", "cluster": {"server": self.url, "certificate-authority": str(folder / "ca.pem")}}
            ],
            "users": [{"name": "made-up", "user": {"token": TOKEN}}],
        }


def _refusal(refused: ApiError) -> Any:
    said = {"message": str(refused), "reason": REASONS.get(refused.status, "Unknown"), "code": refused.status}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"} | said
