"""Who may speak to whom. Each rule says what is wrong."""

from collections.abc import Iterator

from tests.ops.k8s.kustomize import Manifest
from tests.ops.k8s.manifests import PART, labels, name, of, ports, workloads

Arrow = tuple[str, str, int]


def arrows(manifests: list[Manifest], direction: str) -> set[Arrow]:
    """(caller, answerer, port) between our own pods, as the policies for one direction, ingress or egress, have it."""
    found = set()
    for policy in of(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get(direction, []):
            peers = [peer for peer in rule["from" if direction == "ingress" else "to"] if "podSelector" in peer]
            for theirs in (part for peer in peers for part in parts(peer["podSelector"])):
                for mine in parts(policy["spec"]["podSelector"]):
                    pair = (theirs, mine) if direction == "ingress" else (mine, theirs)
                    found |= {(*pair, port["port"]) for port in rule["ports"]}
    return found


def parts(selector: Manifest) -> list[str]:
    """The components that a selector names."""
    among = [value for one in selector.get("matchExpressions", []) for value in one["values"]]
    return among or [selector["matchLabels"][PART]]


def arrows_have_two_ends(manifests: list[Manifest]) -> Iterator[str]:
    out, into = arrows(manifests, "egress"), arrows(manifests, "ingress")
    for caller, answerer, port in sorted(out ^ into):
        end = "out of the first" if (caller, answerer, port) in out else "into the second"
        yield f"{caller} -> {answerer}:{port} is let {end} alone"


def policies_fit_the_pods(manifests: list[Manifest]) -> Iterator[str]:
    """Policies are for pods that there are, and their ports are listened on. PostgreSQL may be elsewhere."""
    listening = {labels(one)[PART]: set(ports(one).values()) for one in workloads(manifests)}
    for _, answerer, port in sorted(arrows(manifests, "ingress") | arrows(manifests, "egress")):
        if port not in listening.get(answerer, {port} if answerer == "postgres" else set()):
            yield f"a policy leads to {answerer}:{port}, where nobody listens"
    for policy in of(manifests, "NetworkPolicy"):
        for part in parts(policy["spec"]["podSelector"]) if policy["spec"]["podSelector"] else ():
            if part not in {*listening, "postgres"}:
                yield f"{name(policy)} is for {part}, which is not there"


def policies_begin_with_silence(manifests: list[Manifest]) -> Iterator[str]:
    policies = of(manifests, "NetworkPolicy")
    silence = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if policies and not any(policy["spec"] == silence for policy in policies):
        yield "no policy denies what no other allows"
