"""Rules for network policies. Each rule yields what is wrong."""

from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import PART, labels, name, of, ports, workloads

Connection = tuple[str, str, int]


def connections(manifests: list[Manifest], direction: str) -> set[Connection]:
    """(client, server, port) of all connections between pods that the policies of one direction allow.

    direction: ingress or egress.
    """
    found = set()
    for policy in of(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get(direction, []):
            peers = [peer for peer in rule["from" if direction == "ingress" else "to"] if "podSelector" in peer]
            for other in (part for peer in peers for part in parts(peer["podSelector"])):
                for own in parts(policy["spec"]["podSelector"]):
                    pair = (other, own) if direction == "ingress" else (own, other)
                    found |= {(*pair, port["port"]) for port in rule["ports"]}
    return found


def parts(selector: Manifest) -> list[str]:
    """The components that a selector selects."""
    among = [value for one in selector.get("matchExpressions", []) for value in one["values"]]
    return among or [selector["matchLabels"][PART]]


def connections_have_egress_and_ingress(manifests: list[Manifest]) -> Iterator[str]:
    egress, ingress = connections(manifests, "egress"), connections(manifests, "ingress")
    for client, server, port in sorted(egress ^ ingress):
        allowed = "egress" if (client, server, port) in egress else "ingress"
        yield f"{client} -> {server}:{port} is allowed for {allowed} only"


def policies_match_pods(manifests: list[Manifest]) -> Iterator[str]:
    """Policies select existing pods and ports that they listen on. PostgreSQL may be external, and there need not be a
    model whose weights are fetched."""
    listening = {labels(one)[PART]: set(ports(one).values()) for one in workloads(manifests)}
    for _, server, port in sorted(connections(manifests, "ingress") | connections(manifests, "egress")):
        if port not in listening.get(server, {port} if server == "postgres" else set()):
            yield f"a policy allows {server}:{port}, where nothing listens"
    for policy in of(manifests, "NetworkPolicy"):
        for part in parts(policy["spec"]["podSelector"]) if policy["spec"]["podSelector"] else ():
            if part not in {*listening, "postgres", "fetch"}:
                yield f"{name(policy)} selects {part}, which does not exist"


def policies_deny_by_default(manifests: list[Manifest]) -> Iterator[str]:
    policies = of(manifests, "NetworkPolicy")
    deny_all = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if policies and not any(policy["spec"] == deny_all for policy in policies):
        yield "no policy denies all other connections"
