"""Who finds whom: selectors, ports, what pods are given by name, who scales what. Each rule says what is wrong."""

import re
from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import containers, env, labels, name, of, pod, ports, selected, selects, workloads

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
GIVEN = ("ServiceAccount", "ConfigMap", "PersistentVolumeClaim")


def selectors_find_their_pods(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in workloads(manifests):
        if manifest["kind"] != "Job" and not selects(manifest["spec"]["selector"], labels(manifest)):
            yield f"{name(manifest)} does not select its own pods"
    for manifest in of(manifests, "Service", "PodDisruptionBudget", "PodMonitoring"):
        selector = manifest["spec"]["selector"]
        selector = {"matchLabels": selector} if manifest["kind"] == "Service" else selector
        found = selected(selector, manifests)
        if not found or (len(found) != 1 and manifest["kind"] != "PodMonitoring"):
            yield f"{name(manifest)} selects {[name(one) for one in found] or 'nobody'}"


def services_lead_to_ports_that_listen(manifests: list[Manifest]) -> Iterator[str]:
    """Where nobody is selected another rule speaks."""
    for service in of(manifests, "Service"):
        for workload in selected({"matchLabels": service["spec"]["selector"]}, manifests):
            listening = {*ports(workload), *ports(workload).values()}
            if any(port.get("targetPort", port["port"]) not in listening for port in service["spec"]["ports"]):
                yield f"{name(service)} leads to a port of {name(workload)} where nobody listens"


def probes_and_scrapes_ask_ports_that_listen(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        for probe in PROBES:
            if (call := container.get(probe, {}).get("httpGet")) and call["port"] not in ports(workload):
                yield f"{name(workload)}'s {probe} asks a port where nobody listens"
    for monitoring in of(manifests, "PodMonitoring"):
        for workload in selected(monitoring["spec"]["selector"], manifests):
            if any(endpoint["port"] not in ports(workload) for endpoint in monitoring["spec"]["endpoints"]):
                yield f"{name(monitoring)} scrapes a port that {name(workload)} has not"


def accounts_and_files_are_there(manifests: list[Manifest]) -> Iterator[str]:
    """What pods are given by name: accounts, ConfigMaps, claims. Secrets are the operator's."""
    there = {kind: {one["metadata"]["name"] for one in of(manifests, kind)} for kind in GIVEN}
    for workload in workloads(manifests):
        for kind, wanted in _given(pod(workload)):
            if wanted not in there[kind]:
                yield f"{name(workload)} wants the {kind} {wanted}, which is not there"


def _given(spec: Manifest) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]


def api_and_replicas_are_given_one_card(manifests: list[Manifest]) -> Iterator[str]:
    cards = set()
    for workload, container in containers(of(manifests, "Deployment")):
        if path := env(container).get("MOMALISA_MODEL_CARD"):
            folder, _, file = path.rpartition("/")
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            volume = next(one for one in pod(workload)["volumes"] if one["name"] == mounts.get(folder))
            cards.add((volume["configMap"]["name"], file))
    if len(cards) != 1:
        yield f"api and replicas are given {len(cards)} model cards: {sorted(cards)}"


def nobody_is_scaled_twice(manifests: list[Manifest]) -> Iterator[str]:
    targets: dict[str, list[str]] = {}
    for scaler in of(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        targets.setdefault(scaler["spec"]["scaleTargetRef"]["name"], []).append(name(scaler))
    deployments = {one["metadata"]["name"]: one for one in of(manifests, "Deployment")}
    for target, scalers in targets.items():
        if len(scalers) > 1:
            yield f"{target} is scaled by {' and '.join(scalers)}"
        if target not in deployments:
            yield f"{scalers[0]} scales {target}, which is not there"
        elif "replicas" in deployments[target]["spec"]:
            yield f"{target} has a number of replicas beside a scaler"


def keda_asks_pods_that_listen(manifests: list[Manifest]) -> Iterator[str]:
    services = {(one["metadata"]["name"], one["metadata"].get("namespace")): one for one in of(manifests, "Service")}
    for scaled in of(manifests, "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            url = re.fullmatch(r"http://([a-z-]+)\.([a-z-]+):(\d+)/metrics", trigger["metadata"]["url"])
            service = services.get((url[1], url[2])) if url else None
            found = selected({"matchLabels": service["spec"]["selector"]}, manifests) if service else []
            if not url or not any(int(url[3]) in ports(one).values() for one in found):
                yield f"{name(scaled)} asks {trigger['metadata']['url']}, where no pod listens"
            if not {"failureThreshold", "replicas"} <= scaled["spec"].get("fallback", {}).keys():
                yield f"{name(scaled)} has no fallback for when nobody answers"
