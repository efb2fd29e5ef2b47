"""Rules for references between manifests: selectors, ports, names, scalers. Each rule yields what is wrong."""

import re
from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import containers, labels, name, of, pod, ports, selected, selects, workloads

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
REFERENCED = ("ServiceAccount", "ConfigMap", "PersistentVolumeClaim")


def selectors_match_pods(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in workloads(manifests):
        if manifest["kind"] != "Job" and not selects(manifest["spec"]["selector"], labels(manifest)):
            yield f"{name(manifest)} does not select its own pods"
    for manifest in of(manifests, "Service", "PodDisruptionBudget", "PodMonitoring"):
        selector = manifest["spec"]["selector"]
        selector = {"matchLabels": selector} if manifest["kind"] == "Service" else selector
        found = selected(selector, manifests)
        shared = manifest["kind"] == "PodMonitoring" or manifest["spec"].get("clusterIP") == "None"
        if not found or (len(found) != 1 and not shared):
            yield f"{name(manifest)} selects {[name(one) for one in found] or 'nothing'}"


def services_target_open_ports(manifests: list[Manifest]) -> Iterator[str]:
    """Services that select nothing violate another rule."""
    for service in of(manifests, "Service"):
        for workload in selected({"matchLabels": service["spec"]["selector"]}, manifests):
            listening = {*ports(workload), *ports(workload).values()}
            if any(port.get("targetPort", port["port"]) not in listening for port in service["spec"]["ports"]):
                yield f"{name(service)} targets a port that {name(workload)} does not open"


def probes_and_scrapes_use_open_ports(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        for probe in PROBES:
            if (call := container.get(probe, {}).get("httpGet")) and call["port"] not in ports(workload):
                yield f"{name(workload)}'s {probe} uses a port that it does not open"
    for monitoring in of(manifests, "PodMonitoring"):
        for workload in selected(monitoring["spec"]["selector"], manifests):
            if any(endpoint["port"] not in ports(workload) for endpoint in monitoring["spec"]["endpoints"]):
                yield f"{name(monitoring)} scrapes a port that {name(workload)} does not open"


def references_exist(manifests: list[Manifest]) -> Iterator[str]:
    """The accounts, ConfigMaps and claims that pods refer to exist. The operator creates Secrets."""
    existing = {kind: {one["metadata"]["name"] for one in of(manifests, kind)} for kind in REFERENCED}
    for workload in workloads(manifests):
        for kind, wanted in _references(pod(workload)):
            if wanted not in existing[kind]:
                yield f"{name(workload)} refers to the {kind} {wanted}, which does not exist"


def _references(spec: Manifest) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]


def each_workload_has_one_scaler(manifests: list[Manifest]) -> Iterator[str]:
    targets: dict[str, list[str]] = {}
    for scaler in of(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        targets.setdefault(scaler["spec"]["scaleTargetRef"]["name"], []).append(name(scaler))
    deployments = {one["metadata"]["name"]: one for one in of(manifests, "Deployment")}
    for target, scalers in targets.items():
        if len(scalers) > 1:
            yield f"{target} is scaled by {' and '.join(scalers)}"
        if target not in deployments:
            yield f"{scalers[0]} scales {target}, which does not exist"
        elif "replicas" in deployments[target]["spec"]:
            yield f"{target} has both a scaler and a fixed number of replicas"


def keda_queries_open_ports(manifests: list[Manifest]) -> Iterator[str]:
    services = {(one["metadata"]["name"], one["metadata"].get("namespace")): one for one in of(manifests, "Service")}
    for scaled in of(manifests, "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            url = re.fullmatch(r"http://([a-z-]+)\.([a-z-]+):(\d+)/metrics", trigger["metadata"]["url"])
            service = services.get((url[1], url[2])) if url else None
            found = selected({"matchLabels": service["spec"]["selector"]}, manifests) if service else []
            if not url or not any(int(url[3]) in ports(one).values() for one in found):
                yield f"{name(scaled)} queries {trigger['metadata']['url']}, where no pod listens"
            if not {"failureThreshold", "replicas"} <= scaled["spec"].get("fallback", {}).keys():
                yield f"{name(scaled)} has no fallback for when the metric is unavailable"
