"""What must be true of the manifests, one function a rule: each takes them all and says what is wrong."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.ops.k8s.kustomize import Manifest

PART = "app.kubernetes.io/component"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
GPU = "nvidia.com/gpu"
SLEEP_S = 5

Rule = Callable[[list[Manifest]], Iterator[str]]


def of(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


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
    """Whether a label selector takes a pod."""
    wanted = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", [])
    return all(of_pod.get(key) == value for key, value in wanted) and all(
        one["operator"] == "In" and of_pod.get(one["key"]) in one["values"] for one in among
    )


def selected(selector: Manifest, manifests: list[Manifest]) -> list[Manifest]:
    return [workload for workload in workloads(manifests) if selects(selector, labels(workload))]


def ports(workload: Manifest) -> dict[str, int]:
    """Name -> number of the ports that a workload's pods listen on."""
    found = [port for container in pod(workload)["containers"] for port in container.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in found}


def selectors_find_their_pods(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in workloads(manifests):
        if manifest["kind"] != "Job" and not selects(manifest["spec"]["selector"], labels(manifest)):
            yield f"{name(manifest)} does not select its own pods"
    for manifest in of(manifests, "Service", "PodDisruptionBudget", "PodMonitoring"):
        selector = manifest["spec"]["selector"]
        selector = {"matchLabels": selector} if manifest["kind"] == "Service" else selector
        found = selected(selector, manifests)
        if len(found) != 1 and manifest["kind"] != "PodMonitoring" or not found:
            yield f"{name(manifest)} selects {[name(one) for one in found] or 'nobody'}"


def ports_are_listened_on(manifests: list[Manifest]) -> Iterator[str]:
    """Services', probes', scraped ones; where nobody is selected another rule speaks."""
    for service in of(manifests, "Service"):
        for workload in selected({"matchLabels": service["spec"]["selector"]}, manifests):
            for port in service["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in (listening := ports(workload)) | {
                    number: number for number in listening.values()
                }:
                    yield f"{name(service)} leads to a port of {name(workload)} where nobody listens"
    for monitoring in of(manifests, "PodMonitoring"):
        for workload in selected(monitoring["spec"]["selector"], manifests):
            if any(endpoint["port"] not in ports(workload) for endpoint in monitoring["spec"]["endpoints"]):
                yield f"{name(monitoring)} scrapes a port that {name(workload)} has not"
    for workload, container in containers(manifests):
        for probe in PROBES:
            if (call := container.get(probe, {}).get("httpGet")) and call["port"] not in ports(workload):
                yield f"{name(workload)}'s {probe} asks a port where nobody listens"


def backends(manifests: list[Manifest]) -> Iterator[tuple[Manifest, str, int]]:
    """What the edges lead to: (edge, service, port)."""
    for route in of(manifests, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", []):
                yield route, backend["name"], backend["port"]
    for ingress in of(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                yield ingress, path["backend"]["service"]["name"], path["backend"]["service"]["port"]["number"]


def edges_lead_somewhere(manifests: list[Manifest]) -> Iterator[str]:
    services = {one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]} for one in of(manifests, "Service")}
    for edge, service, port in backends(manifests):
        if port not in services.get(service, set()):
            yield f"{name(edge)} leads to {service}:{port}, which is no Service's"
    gateways = {one["metadata"]["name"]: one["spec"]["listeners"] for one in of(manifests, "Gateway")}
    for route in of(manifests, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            listeners = [listener["name"] for listener in gateways.get(parent["name"], [])]
            if not listeners or parent.get("sectionName", listeners[0]) not in listeners:
                yield f"{name(route)} hangs on a listener that no Gateway has"
    for policy in of(manifests, "HealthCheckPolicy", "GCPBackendPolicy"):
        if policy["spec"]["targetRef"]["name"] not in services:
            yield f"{name(policy)} is for a Service that is not there"


def routes(manifests: list[Manifest], edge: str) -> set[tuple[str, str, str, int]]:
    """(kind of match, path, service, port) of everything that an edge, HTTPRoute or Ingress, lets in."""
    found = set()
    for route in of(manifests, edge):
        for rule in route["spec"]["rules"]:
            if edge == "Ingress":
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    found.add((path["pathType"], path["path"], service["name"], service["port"]["number"]))
            else:
                for backend in rule.get("backendRefs", []):
                    for match in rule.get("matches", [{"path": {"type": "PathPrefix", "value": "/"}}]):
                        kind = match["path"]["type"].removeprefix("Path")
                        found.add((kind, match["path"]["value"], backend["name"], backend["port"]))
    return found


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


def probes_on_everything(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        for probe in PROBES if workload["kind"] != "Job" else ():
            if not {"httpGet", "exec"} & container.get(probe, {}).keys():
                yield f"{name(workload)} has no {probe}"


def images_are_pinned(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        tag = re.search(r":([^:/]+)$", container["image"])
        if not tag or tag[1] == "latest":
            yield f"{name(workload)} runs {container['image']}, whatever that is by then"


def gpus_are_asked_for_whole(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        resources = container["resources"]
        if GPU not in resources.get("limits", {}) | resources.get("requests", {}):
            continue
        if resources.get("requests") != resources.get("limits"):
            yield f"{name(workload)} has a GPU, and requests that are not its limits"
        if workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") != 0:
            yield f"{name(workload)} has a GPU, and wants a spare one to be rolled"


def resources_are_said(manifests: list[Manifest]) -> Iterator[str]:
    for workload, container in containers(manifests):
        requests, limits = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
        if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
            yield f"{name(workload)} does not say what it needs"


def goes_slowly(manifests: list[Manifest]) -> Iterator[str]:
    """A pod goes on answering until whoever calls it has heard that it goes."""
    for workload, container in containers(of(manifests, "Deployment")):
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
        if sleep != SLEEP_S:
            yield f"{name(workload)} has no preStop sleep of {SLEEP_S} s"
        if pod(workload).get("terminationGracePeriodSeconds", 0) < SLEEP_S + 8:
            yield f"{name(workload)} is killed before it could end"


def disruptions_are_borne(manifests: list[Manifest]) -> Iterator[str]:
    budgets = of(manifests, "PodDisruptionBudget")
    for workload in of(manifests, "Deployment"):
        if not any(selects(budget["spec"]["selector"], labels(workload)) for budget in budgets):
            yield f"{name(workload)} has no PodDisruptionBudget"
        spread = pod(workload).get("topologySpreadConstraints", [])
        if not any(selects(one["labelSelector"], labels(workload)) for one in spread):
            yield f"{name(workload)} is not spread over nodes"


def everything_is_locked_down(manifests: list[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        context = pod(workload).get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            yield f"{name(workload)} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name(workload)} has no seccomp profile"
        if pod(workload).get("automountServiceAccountToken") is not False:
            yield f"{name(workload)} gets a token of its service account"
    for workload, container in containers(manifests):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name(workload)} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name(workload)} may write to its root"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name(workload)} keeps capabilities"
    for account in of(manifests, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name(account)} hands out its token"


def accounts_and_files_are_there(manifests: list[Manifest]) -> Iterator[str]:
    """What pods are given by name: accounts, ConfigMaps, claims. Secrets are the operator's."""
    there = {kind: {one["metadata"]["name"] for one in of(manifests, kind)} for kind in GIVEN}
    for workload in workloads(manifests):
        for kind, wanted in _given(pod(workload)):
            if wanted not in there[kind]:
                yield f"{name(workload)} wants the {kind} {wanted}, which is not there"


GIVEN = ("ServiceAccount", "ConfigMap", "PersistentVolumeClaim")


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


def env(container: Manifest) -> dict[str, Any]:
    """Variables with a value of their own."""
    return {one["name"]: one.get("value") for one in container.get("env", [])}


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


Arrow = tuple[str, str, int]


def arrows(manifests: list[Manifest], direction: str) -> set[Arrow]:
    """(caller, answerer, port) between our own pods, as the policies for one direction, ingress or egress, have it."""
    found = set()
    for policy in of(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get(direction, []):
            peers = [peer for peer in rule["from" if direction == "ingress" else "to"] if "podSelector" in peer]
            for peer in (part for peer in peers for part in parts(peer["podSelector"])):
                for mine in parts(policy["spec"]["podSelector"]):
                    pair = (peer, mine) if direction == "ingress" else (mine, peer)
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


def nothing_secret_stands_here(manifests: list[Manifest]) -> Iterator[str]:
    for secret in of(manifests, "Secret"):
        yield f"{name(secret)} stands in the repository"
    for workload, container in containers(manifests):
        for variable, value in env(container).items():
            if value is not None and re.search("PASSWORD|DATABASE_URL|SECRET|TOKEN", variable):
                yield f"{name(workload)} has {variable} in the open"


RULES: tuple[Rule, ...] = (
    selectors_find_their_pods,
    ports_are_listened_on,
    edges_lead_somewhere,
    health_checks_ask_what_the_probe_asks,
    probes_on_everything,
    images_are_pinned,
    gpus_are_asked_for_whole,
    resources_are_said,
    goes_slowly,
    disruptions_are_borne,
    everything_is_locked_down,
    accounts_and_files_are_there,
    api_and_replicas_are_given_one_card,
    nobody_is_scaled_twice,
    keda_asks_pods_that_listen,
    arrows_have_two_ends,
    policies_fit_the_pods,
    policies_begin_with_silence,
    nothing_secret_stands_here,
)


def complaints(manifests: list[Manifest]) -> list[str]:
    """All that any rule has to say."""
    return [complaint for rule in RULES for complaint in rule(manifests)]
