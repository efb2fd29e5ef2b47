"""The resource kinds of the fake Kubernetes, and the defaults that a real one fills in."""

import copy
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.ops.fake_api_server import ApiError
from tests.ops.k8s.kustomize import Manifest

# Beside the manifests' kinds: those that every cluster has.
ALWAYS = (
    *(("v1", name) for name in ("Event", "Namespace", "PersistentVolume", "Pod", "Secret")),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
)
CLUSTER_WIDE = {"Namespace", "PersistentVolume", "ComputeClass", "CustomResourceDefinition"}
PLURALS = {"Gateway": "gateways", "Rules": "rules", "ComputeClass": "computeclasses"}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class ResourceKind:
    """`version`: group and version, in the form of apiVersion."""

    version: str
    name: str
    plural: str
    namespaced: bool

    @property
    def is_core(self) -> bool:
        return "/" not in self.version

    @property
    def is_definition(self) -> bool:
        return self.name == "CustomResourceDefinition"


class ResourceKinds:
    """The kinds of some manifests, and those that custom resource definitions add.

    `unanswered`: groups with their version whose own API server, such as KEDA's for metrics, does not answer.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self.unanswered: set[str] = set()
        self._all: dict[tuple[str, str], ResourceKind] = {}
        for version, name in {*ALWAYS, *((manifest["apiVersion"], manifest["kind"]) for manifest in manifests)}:
            self._add(ResourceKind(version, name, plural(name), name not in CLUSTER_WIDE))

    def _add(self, kind: ResourceKind) -> None:
        self._all[kind.version, kind.plural] = kind

    def get(self, version: str, plural: str) -> ResourceKind | None:
        return self._all.get((version, plural))

    def define(self, definition: Manifest) -> None:
        """Add a custom kind."""
        spec = definition["spec"]
        for version in spec["versions"]:
            names, scope = spec["names"], spec["scope"]
            self._add(
                ResourceKind(
                    f"{spec['group']}/{version['name']}", names["kind"], names["plural"], scope == "Namespaced"
                )
            )

    def discovery(self, path: str) -> Any:
        """The discovery document at a path; None for any other path. Raises ApiError."""
        if path == "/version":
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": self._groups()}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in self.unanswered:
            raise ApiError(503, "the server is currently unable to handle the request", "ServiceUnavailable")
        kinds = [kind for kind in self._all.values() if kind.version == version]
        resources = [
            {"name": kind.plural, "singularName": kind.name.lower(), "kind": kind.name, "verbs": VERBS}
            | {"namespaced": kind.namespaced}
            for kind in kinds
        ]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": resources} if kinds else None

    def _groups(self) -> list[Any]:
        groups = []
        for version in sorted({kind.version for kind in self._all.values() if not kind.is_core} | self.unanswered):
            named = {"groupVersion": version, "version": version.partition("/")[2]}
            groups.append({"name": version.partition("/")[0], "versions": [named], "preferredVersion": named})
        return groups


def plural(name: str) -> str:
    """The plural of a kind's name in URLs."""
    lower = name.lower()
    return PLURALS.get(name) or (lower[:-1] + "ies" if lower.endswith("y") else lower + "s")


def with_defaults(manifest: Manifest) -> Manifest:
    """A manifest with Kubernetes' defaults: enough of them to detect clients that report them as differences."""
    spec = manifest.get("spec")
    if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
        _fill(spec, WORKLOADS[manifest["kind"]])
        _pod(spec["template"])
        for claim in spec.get("volumeClaimTemplates", []):
            _fill(claim, {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Pending"}})
            _fill(claim["spec"], {"volumeMode": "Filesystem"})
    if manifest["kind"] == "Job" and "selector" not in spec:
        owner = {"batch.kubernetes.io/controller-uid": str(uuid.uuid4())}
        spec["selector"] = {"matchLabels": owner}
        spec["template"]["metadata"]["labels"] |= owner | {"batch.kubernetes.io/job-name": manifest["metadata"]["name"]}
    if manifest["kind"] == "Service":
        _fill(spec, {"type": "ClusterIP", "sessionAffinity": "None", "clusterIP": "192.0.2.1"})
        for port in spec["ports"]:
            _fill(port, {"protocol": "TCP"})
    if manifest["kind"] == "HTTPRoute":
        for rule in spec["rules"]:
            for reference in rule.get("backendRefs", []):
                _fill(reference, {"group": "", "kind": "Service", "weight": 1})
        for reference in spec["parentRefs"]:
            _fill(reference, {"group": "gateway.networking.k8s.io", "kind": "Gateway"})
    return manifest


WORKLOADS: dict[str, Any] = {
    "Deployment": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    "StatefulSet": {"replicas": 1, "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate"}},
    "Job": {"parallelism": 1, "completions": 1, "completionMode": "NonIndexed", "suspend": False},
}
PODS = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
CONTAINERS = {
    "imagePullPolicy": "IfNotPresent",
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
PROBES = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def _pod(template: Any) -> None:
    _fill(template["spec"], PODS)
    for volume in template["spec"].get("volumes", []):
        if "configMap" in volume:
            _fill(volume["configMap"], {"defaultMode": 420})
    for container in template["spec"]["containers"]:
        _fill(container, CONTAINERS)
        for port in container.get("ports", []):
            _fill(port, {"protocol": "TCP"})
        for probe in [container[name] for name in container if name.endswith("Probe")]:
            _fill(probe, PROBES)
            if "httpGet" in probe:
                _fill(probe["httpGet"], {"scheme": "HTTP"})
        for variable in container.get("env", []):
            if "fieldRef" in variable.get("valueFrom", {}):
                _fill(variable["valueFrom"]["fieldRef"], {"apiVersion": "v1"})


def _fill(at: Any, defaults: Any) -> None:
    for name, value in defaults.items():
        at.setdefault(name, copy.deepcopy(value))
