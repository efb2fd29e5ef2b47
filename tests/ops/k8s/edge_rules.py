"""Where visitors come in: Gateway, Ingress, and what Google's load balancer is told. Each rule says what is wrong."""

from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import name, of, pod, ports, selected

Route = tuple[str, str, str, int]  # kind of match, path, service, port


def routes(manifests: list[Manifest], edge: str) -> set[Route]:
    """Everything that an edge, HTTPRoute or Ingress, lets in."""
    return {found for one in of(manifests, edge) for rule in one["spec"]["rules"] for found in _READ[edge](rule)}


def _of_ingress(rule: Manifest) -> Iterator[Route]:
    for path in rule["http"]["paths"]:
        service = path["backend"]["service"]
        yield path["pathType"], path["path"], service["name"], service["port"]["number"]


def _of_http_route(rule: Manifest) -> Iterator[Route]:
    for match in rule.get("matches", [{"path": {"type": "PathPrefix", "value": "/"}}]):
        for backend in rule.get("backendRefs", []):
            kind = match["path"]["type"].removeprefix("Path")
            yield kind, match["path"]["value"], backend["name"], backend["port"]


_READ = {"Ingress": _of_ingress, "HTTPRoute": _of_http_route}


def edges_lead_somewhere(manifests: list[Manifest]) -> Iterator[str]:
    services = of(manifests, "Service")
    there = {(one["metadata"]["name"], port["port"]) for one in services for port in one["spec"]["ports"]}
    for edge in _READ:
        for _, path, service, port in routes(manifests, edge):
            if (service, port) not in there:
                yield f"{edge} leads {path} to {service}:{port}, which is no Service's"


def routes_and_policies_hang_on_something(manifests: list[Manifest]) -> Iterator[str]:
    gateways = {one["metadata"]["name"]: one["spec"]["listeners"] for one in of(manifests, "Gateway")}
    for route in of(manifests, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            listeners = [listener["name"] for listener in gateways.get(parent["name"], [])]
            if not listeners or parent.get("sectionName", listeners[0]) not in listeners:
                yield f"{name(route)} hangs on a listener that no Gateway has"
    services = {one["metadata"]["name"] for one in of(manifests, "Service")}
    for policy in of(manifests, "HealthCheckPolicy", "GCPBackendPolicy"):
        if policy["spec"]["targetRef"]["name"] not in services:
            yield f"{name(policy)} is for a Service that is not there"


def health_checks_ask_what_the_probe_asks(manifests: list[Manifest]) -> Iterator[str]:
    services = {one["metadata"]["name"]: one for one in of(manifests, "Service")}
    for policy in of(manifests, "HealthCheckPolicy"):
        check = policy["spec"]["default"]["config"]["httpHealthCheck"]
        service = services[policy["spec"]["targetRef"]["name"]]
        for workload in selected({"matchLabels": service["spec"]["selector"]}, manifests):
            probe = pod(workload)["containers"][0]["readinessProbe"]["httpGet"]
            if check["port"] != ports(workload)[probe["port"]] or check["requestPath"] != probe["path"]:
                yield f"{name(policy)} asks something else than {name(workload)}'s readinessProbe"
        if check["portSpecification"] != "USE_FIXED_PORT":
            yield f"{name(policy)} has a port and does not say USE_FIXED_PORT"
