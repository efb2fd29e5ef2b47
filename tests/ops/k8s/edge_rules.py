"""Rules for Gateway, Ingress and the policies of Google's load balancer. Each rule yields what is wrong."""

from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import name, of, pod, ports, selected

Route = tuple[str, str, str, int]  # type of match, path, service, port


def routes(manifests: list[Manifest], edge: str) -> set[Route]:
    """All routes of a kind of edge: HTTPRoute or Ingress."""
    return {found for one in of(manifests, edge) for rule in one["spec"]["rules"] for found in _ROUTES[edge](rule)}


def _routes_of_ingress(rule: Manifest) -> Iterator[Route]:
    for path in rule["http"]["paths"]:
        service = path["backend"]["service"]
        yield path["pathType"], path["path"], service["name"], service["port"]["number"]


def _routes_of_http_route(rule: Manifest) -> Iterator[Route]:
    for match in rule.get("matches", [{"path": {"type": "PathPrefix", "value": "/"}}]):
        for backend in rule.get("backendRefs", []):
            kind = match["path"]["type"].removeprefix("Path")
            yield kind, match["path"]["value"], backend["name"], backend["port"]


_ROUTES = {"Ingress": _routes_of_ingress, "HTTPRoute": _routes_of_http_route}


def edges_route_to_services(manifests: list[Manifest]) -> Iterator[str]:
    services = of(manifests, "Service")
    existing = {(one["metadata"]["name"], port["port"]) for one in services for port in one["spec"]["ports"]}
    for edge in _ROUTES:
        for _, path, service, port in routes(manifests, edge):
            if (service, port) not in existing:
                yield f"{edge} routes {path} to {service}:{port}, which no Service has"


def routes_and_policies_have_targets(manifests: list[Manifest]) -> Iterator[str]:
    gateways = {one["metadata"]["name"]: one["spec"]["listeners"] for one in of(manifests, "Gateway")}
    for route in of(manifests, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            listeners = [listener["name"] for listener in gateways.get(parent["name"], [])]
            if not listeners or parent.get("sectionName", listeners[0]) not in listeners:
                yield f"{name(route)} refers to a listener that no Gateway has"
    services = {one["metadata"]["name"] for one in of(manifests, "Service")}
    for policy in of(manifests, "HealthCheckPolicy", "GCPBackendPolicy"):
        if policy["spec"]["targetRef"]["name"] not in services:
            yield f"{name(policy)} refers to a Service that does not exist"


def health_checks_match_the_readiness_probe(manifests: list[Manifest]) -> Iterator[str]:
    services = {one["metadata"]["name"]: one for one in of(manifests, "Service")}
    for policy in of(manifests, "HealthCheckPolicy"):
        check = policy["spec"]["default"]["config"]["httpHealthCheck"]
        service = services[policy["spec"]["targetRef"]["name"]]
        for workload in selected({"matchLabels": service["spec"]["selector"]}, manifests):
            probe = pod(workload)["containers"][0]["readinessProbe"]["httpGet"]
            if check["port"] != ports(workload)[probe["port"]] or check["requestPath"] != probe["path"]:
                yield f"{name(policy)} differs from the readinessProbe of {name(workload)}"
        if check["portSpecification"] != "USE_FIXED_PORT":
            yield f"{name(policy)} has a port but not USE_FIXED_PORT"
