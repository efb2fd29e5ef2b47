"""A fake Kubernetes API on localhost, for Ansible's modules and for kubectl.

It stores objects, fills in defaults, rejects what Kubernetes' schemas reject, and streams watches. Its controllers act
at once, or after as many observations as a test sets. An object belongs to one field manager as a whole. Pods do not
run; they have a state, a log and events. There are no delete events in watches, and no schemas for custom resources:
other tests validate those.
"""

import copy
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.ops.fake_api_server import TOKEN, ApiError, ReceivedCall, serving
from tests.ops.fake_kubernetes import controllers, patches, pods
from tests.ops.fake_kubernetes.kinds import ResourceKind, ResourceKinds, with_defaults
from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.schemas import is_custom, wrong_for_kubernetes

REASONS = {400: "BadRequest", 401: "Unauthorized", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}
WATCH_INTERVAL_S = 0.1


class KubernetesCall:
    """One API call. `version`, `plural`, `name` and `subresource` say what it is about."""

    def __init__(self, method: str, url: str, headers: Any, body: Any) -> None:
        parts = urlsplit(url)
        self.method, self.path, self.body = method, parts.path, body
        self.query = dict(parse_qsl(parts.query))
        self.dry_run = self.query.get("dryRun") == "All"
        self.patch = str(headers.get("Content-Type", "")).removeprefix("application/").removesuffix("+json")
        words = parts.path.strip("/").split("/")
        size = 2 if words[0] == "api" else 3
        self.version, rest = "/".join(words[1:size]), words[size:]
        self.namespace = ""
        if rest[0:1] == ["namespaces"] and len(rest) > 2:
            self.namespace, rest = rest[1], rest[2:]
        self.plural, self.name, self.subresource = [*rest, "", "", ""][:3]


class FakeCluster:
    """The cluster's state. `objects`: "namespace/Kind/name" -> manifest; `changes`: (method, key) of every change;
    `owners`: the field managers of objects by their keys."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self.kinds = ResourceKinds(manifests)
        self.objects: dict[str, Manifest] = {}
        self.changes: list[tuple[str, str]] = []
        self.owners: dict[str, str] = {}
        self.controllers = controllers.Controllers()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._version = 0
        self.url = ""

    def respond(self, call: KubernetesCall) -> tuple[int, Any]:
        """Status and body of the response; of a watch, an iterator of events. Raises ApiError."""
        with self._lock:
            discovery = self.kinds.discovery(call.path)
            if discovery is not None:
                return 200, discovery
            kind = self.kinds.get(call.version, call.plural)
            if kind is None:
                raise ApiError(404, "the server could not find the requested resource")
            if call.method == "GET" and not call.name:
                return 200, self._read_all(call, kind)
            if call.method == "POST":
                return 201, self._create(call, kind, call.body)
            key = f"{call.namespace}/{kind.name}/{call.name}"
            is_apply = call.patch == "apply-patch+yaml"
            if is_apply:
                self._apply_as(call.query, key, call.body)
            if key not in self.objects:
                if is_apply:
                    return 201, self._create(call, kind, call.body)
                raise ApiError(404, f'{kind.plural} "{call.name}" not found')
            return 200, self._read(call, key) if call.method == "GET" else self._write(call, key)

    def _read(self, call: KubernetesCall, key: str) -> Any:
        if call.subresource == "log":
            return pods.log_of(self.objects[key])
        self._observe(self.objects[key])
        return copy.deepcopy(self.objects[key])

    def _write(self, call: KubernetesCall, key: str) -> Manifest:
        return self._delete(call, key) if call.method == "DELETE" else self._change(call, key)

    def _read_all(self, call: KubernetesCall, kind: ResourceKind) -> Any:
        if call.query.get("watch") != "true":
            return self._list(call, kind)
        if "sendInitialEvents" in call.query:
            # As a server without this feature answers; clients then list and watch.
            raise ApiError(422, "sendInitialEvents: Forbidden: the WatchList feature gate is not enabled")
        return self._watch(call, kind)

    def _list(self, call: KubernetesCall, kind: ResourceKind) -> Any:
        found = self._selected(call, kind)
        metadata = {"resourceVersion": str(self._version)}
        return {"apiVersion": kind.version, "kind": f"{kind.name}List", "metadata": metadata, "items": found}

    def _watch(self, call: KubernetesCall, kind: ResourceKind) -> Iterator[Any]:
        """What changes after the resource version that the client has read, until its time limit."""
        seen = int(call.query["resourceVersion"])
        end = time.monotonic() + float(call.query.get("timeoutSeconds", 300))
        while time.monotonic() < end and not self._stopped.is_set():
            with self._lock:
                found = self._selected(call, kind)
                changed = [each for each in found if int(each["metadata"]["resourceVersion"]) > seen]
                seen = self._version
            yield from ({"type": "MODIFIED", "object": each} for each in changed)
            self._stopped.wait(WATCH_INTERVAL_S)

    def _selected(self, call: KubernetesCall, kind: ResourceKind) -> list[Manifest]:
        """Copies of the objects that the call's selectors match, each observed once."""
        found = [one for key, one in self.objects.items() if key.startswith(f"{call.namespace}/{kind.name}/")]
        labels = dict(parse_qsl(call.query.get("labelSelector", "").replace(",", "&")))
        found = [one for one in found if one["metadata"].get("labels", {}).items() >= labels.items()]
        if fields := call.query.get("fieldSelector"):
            path, _, wanted = fields.partition("=")
            found = [one for one in found if patches.at(one, path) == wanted]
        for one in found:
            self._observe(one)
        return copy.deepcopy(found)

    def _apply_as(self, query: dict[str, str], key: str, body: Manifest) -> None:
        """Become the object's field manager. Raises ApiError if another one owns what would change."""
        manager, found = query.get("fieldManager"), self.objects.get(key, {})
        if not manager:
            raise ApiError(400, "PatchOptions: fieldManager: Required value: is required for apply patch")
        owner = self.owners.get(key, manager)
        if owner != manager and query.get("force") != "true":
            if with_defaults(patches.merge(copy.deepcopy(found), body)) != found:
                message = f'Apply failed with 1 conflict: conflict with "{owner}" using v1: .spec'
                raise ApiError(409, message, "Conflict")
        elif query.get("dryRun") != "All":
            self.owners[key] = manager

    def _observe(self, observed: Manifest) -> None:
        if self.controllers.observed(observed):
            self._count_version(observed)
            self._run(observed)

    def _run(self, workload: Manifest) -> None:
        """Replace the pods of a workload by those that it has now, with their events. Other objects have none."""
        if workload["kind"] not in pods.OWNERS:
            return
        namespace, name = workload["metadata"].get("namespace", ""), workload["metadata"]["name"]
        self._forget(f"{namespace}/Pod/{name}-", f"{namespace}/Event/{name}-")
        for each in self.controllers.pods.of(workload):
            self._count_version(each)
            self.objects[f"{namespace}/{each['kind']}/{each['metadata']['name']}"] = each

    def _forget(self, *prefixes: str) -> None:
        for key in [key for key in self.objects if key.startswith(prefixes)]:
            del self.objects[key]

    def _count_version(self, changed: Manifest) -> None:
        self._version += 1
        changed["metadata"]["resourceVersion"] = str(self._version)

    def _create(self, call: KubernetesCall, kind: ResourceKind, body: Manifest) -> Manifest:
        created = with_defaults(self._validated(call, kind, body))
        key = f"{call.namespace}/{kind.name}/{created['metadata']['name']}"
        if key in self.objects:
            raise ApiError(409, f"{key} already exists")
        created["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        if "spec" in created and not kind.is_core:
            created["metadata"]["generation"] = 1
        return self._store(call, key, created)

    def _change(self, call: KubernetesCall, key: str) -> Manifest:
        before = self.objects[key]
        kind = self.kinds.get(call.version, call.plural)
        assert kind is not None
        after = call.body
        if call.method == "PATCH":
            try:
                after = patches.patched(call.patch, before, call.body)
            except patches.UnsupportedPatch as unsupported:
                raise ApiError(415, str(unsupported)) from unsupported
        after = with_defaults(self._validated(call, kind, after))
        if "status" in before:
            after["status"] = copy.deepcopy(before["status"])
        for field in patches.immutable_changes(before, after):
            raise ApiError(422, f"{key}: {field}: Invalid value: field is immutable")
        if after == before:
            return copy.deepcopy(before)
        if after.get("spec") != before.get("spec") and "generation" in before["metadata"]:
            after["metadata"]["generation"] += 1
        return self._store(call, key, after)

    def _validated(self, call: KubernetesCall, kind: ResourceKind, body: Manifest) -> Manifest:
        """A copy of the body of a valid call. Raises ApiError."""
        body = copy.deepcopy(body)
        given = (body.get("apiVersion"), body.get("kind"))
        if given != (kind.version, kind.name):
            raise ApiError(400, f"{given} was sent to {call.path}")
        if kind.namespaced:
            if f"/Namespace/{call.namespace}" not in self.objects:
                raise ApiError(404, f'namespaces "{call.namespace}" not found')
            if body["metadata"].setdefault("namespace", call.namespace) != call.namespace:
                raise ApiError(400, "the namespace of the object does not match the namespace of the request")
        if call.name and body["metadata"].get("name") != call.name:
            raise ApiError(400, "the name of the object does not match the name of the request")
        wrong = [] if is_custom(body) or kind.is_definition else wrong_for_kubernetes([body])
        if wrong:
            raise ApiError(400, "; ".join(wrong))
        return body

    def _store(self, call: KubernetesCall, key: str, stored: Manifest) -> Manifest:
        if call.dry_run:
            return stored
        self._count_version(stored)
        before = self.objects.get(key)
        self.objects[key] = stored
        self.changes.append((call.method, key))
        if stored["kind"] == "CustomResourceDefinition":
            self.kinds.define(stored)
        response = copy.deepcopy(stored)
        if self.controllers.changed(before, stored):
            self._count_version(stored)
        self._run(stored)
        return response

    def _delete(self, call: KubernetesCall, key: str) -> Manifest:
        deleted = copy.deepcopy(self.objects[key])
        deleted["metadata"]["deletionTimestamp"] = controllers.SINCE
        if not call.dry_run:
            self.changes.append((call.method, key))
            del self.objects[key]
            if deleted["kind"] == "Namespace":
                self._forget(f"{call.name}/")
                if self.kinds.unanswered:
                    # The controller of namespaces cannot know whether something is left.
                    self.objects[key] = deleted | {"status": {"phase": "Terminating"}}
            elif deleted["kind"] in pods.OWNERS:
                self._forget(f"{call.namespace}/Pod/{call.name}-", f"{call.namespace}/Event/{call.name}-")
        return deleted

    def _respond(self, received: ReceivedCall) -> tuple[int, Any]:
        body = yaml.safe_load(received.content) if received.content else None
        return self.respond(KubernetesCall(received.method, received.url, received.headers, body))

    @contextmanager
    def running(self, folder: Path) -> Iterator["FakeCluster"]:
        """Serve on localhost. Writes ca.pem and kubeconfig to `folder`."""
        with serving(self._respond, _status, folder) as self.url:
            (folder / "kubeconfig").write_text(yaml.safe_dump(self._kubeconfig(folder)))
            try:
                yield self
            finally:
                self._stopped.set()

    def _kubeconfig(self, folder: Path) -> Any:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [
                {"name": "fake", "cluster": {"server": self.url, "certificate-authority": str(folder / "ca.pem")}}
            ],
            "users": [{"name": "fake", "user": {"token": TOKEN}}],
        }


def _status(error: ApiError) -> Any:
    reason = error.reason or REASONS.get(error.status, "Unknown")
    status = {"message": str(error), "reason": reason, "code": error.status}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"} | status
