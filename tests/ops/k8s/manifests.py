"""Accessors for built manifests: workloads, their pods, selectors. No rules."""

from collections.abc import Iterable, Iterator
from typing import Any

from tests.ops.k8s.kustomize import Manifest

PART = "app.kubernetes.io/component"


def of(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    return next(found for found in manifests if (found["kind"], found["metadata"]["name"]) == (kind, name))


def name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    return of(manifests, "Deployment", "StatefulSet", "Job")


def pod(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest["spec"]["template"]["spec"]
    return spec


def labels(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def containers(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each workload with each of its containers."""
    for workload in workloads(manifests):
        for container in [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]:
            yield workload, container


def selects(selector: Manifest, of_pod: dict[str, str]) -> bool:
    """Whether a label selector matches the labels of a pod."""
    wanted = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", [])
    return all(of_pod.get(key) == value for key, value in wanted) and all(
        one["operator"] == "In" and of_pod.get(one["key"]) in one["values"] for one in among
    )


def selected(selector: Manifest, manifests: list[Manifest]) -> list[Manifest]:
    return [workload for workload in workloads(manifests) if selects(selector, labels(workload))]


def ports(workload: Manifest) -> dict[str, int]:
    """The ports of a workload's pods, by name."""
    found = [port for container in pod(workload)["containers"] for port in container.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in found}


def env(container: Manifest) -> dict[str, Any]:
    """The environment variables of a container; None for values from references."""
    return {one["name"]: one.get("value") for one in container.get("env", [])}
