"""Each rule is shown a mistake and finds it; without that, it would be a rule in name."""

import copy
from collections.abc import Callable

import pytest

from tests.ops.k8s import connection_rules, edge_rules, pod_rules, rules, safety_rules, schemas, wiring_rules
from tests.ops.k8s.kustomize import SKIP, Manifest, build_with, tool
from tests.ops.k8s.manifests import PART, labels, pod
from tests.ops.test_k8s import COMPONENTS, one

Mistake = Callable[[list[Manifest]], object]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    manifests = build_with(tmp_path_factory.mktemp("right"), COMPONENTS)
    assert rules.complaints(manifests) == []
    return manifests


def container(manifests: list[Manifest], name: str = "web") -> Manifest:
    found: Manifest = pod(one(manifests, "Deployment", name))["containers"][0]
    return found


def spec(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found: Manifest = one(manifests, kind, name)["spec"]
    return found


def volume(manifests: list[Manifest], name: str) -> Manifest:
    return next(found for found in pod(one(manifests, "Deployment", "model"))["volumes"] if found["name"] == name)


def drop(manifests: list[Manifest], kind: str, name: str) -> None:
    manifests.remove(one(manifests, kind, name))


MISTAKES: list[tuple[rules.Rule, Mistake]] = [
    (wiring_rules.selectors_find_their_pods, lambda m: spec(m, "Service", "api")["selector"].update({PART: "api"})),
    (wiring_rules.selectors_find_their_pods, lambda m: labels(one(m, "Deployment", "web")).update({PART: "wab"})),
    (wiring_rules.selectors_find_their_pods, lambda m: drop(m, "Deployment", "model")),
    (
        wiring_rules.services_lead_to_ports_that_listen,
        lambda m: spec(m, "Service", "api")["ports"][0].update(targetPort="web"),
    ),
    (
        wiring_rules.probes_and_scrapes_ask_ports_that_listen,
        lambda m: container(m)["livenessProbe"]["httpGet"].update(port="web"),
    ),
    (
        wiring_rules.probes_and_scrapes_ask_ports_that_listen,
        lambda m: spec(m, "PodMonitoring", "momalisa")["endpoints"][0].update(port="web"),
    ),
    (edge_rules.edges_lead_somewhere, lambda m: spec(m, "Service", "frontend")["ports"][0].update(port=81)),
    (edge_rules.routes_and_policies_hang_on_something, lambda m: drop(m, "Gateway", "momalisa")),
    (
        edge_rules.routes_and_policies_hang_on_something,
        lambda m: spec(m, "GCPBackendPolicy", "frontend")["targetRef"].update(name="front"),
    ),
    (
        edge_rules.health_checks_ask_what_the_probe_asks,
        lambda m: container(m, "frontend")["ports"][0].update(containerPort=81),
    ),
    (pod_rules.probes_on_everything, lambda m: container(m, "model").pop("startupProbe")),
    (pod_rules.probes_on_everything, lambda m: container(m).update(livenessProbe={"periodSeconds": 3})),
    (pod_rules.images_are_pinned, lambda m: container(m).update(image="momalisa/api:latest")),
    (pod_rules.images_are_pinned, lambda m: container(m).update(image="registry:5000/momalisa/api")),
    (pod_rules.gpus_are_asked_for_whole, lambda m: container(m, "model")["resources"]["limits"].update(cpu="4")),
    (
        pod_rules.gpus_are_asked_for_whole,
        lambda m: spec(m, "Deployment", "model")["strategy"]["rollingUpdate"].update(maxSurge=1),
    ),
    (pod_rules.resources_are_said, lambda m: container(m)["resources"].pop("limits")),
    (pod_rules.goes_slowly, lambda m: container(m, "worker").pop("lifecycle")),
    (pod_rules.goes_slowly, lambda m: container(m)["lifecycle"].update(preStop={"exec": {"command": ["sleep", "5"]}})),
    (pod_rules.goes_slowly, lambda m: pod(one(m, "Deployment", "web")).update(terminationGracePeriodSeconds=6)),
    (pod_rules.disruptions_are_borne, lambda m: drop(m, "PodDisruptionBudget", "web")),
    (pod_rules.disruptions_are_borne, lambda m: pod(one(m, "Deployment", "web")).pop("topologySpreadConstraints")),
    (
        safety_rules.pods_are_nobodys,
        lambda m: pod(one(m, "StatefulSet", "postgres"))["securityContext"].update(runAsNonRoot=False),
    ),
    (
        safety_rules.pods_are_nobodys,
        lambda m: pod(one(m, "Job", "migrate"))["securityContext"].pop("seccompProfile"),
    ),
    (
        safety_rules.pods_are_nobodys,
        lambda m: pod(one(m, "Job", "migrate")).pop("automountServiceAccountToken"),
    ),
    (
        safety_rules.containers_are_locked_down,
        lambda m: container(m)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        safety_rules.containers_are_locked_down,
        lambda m: container(m)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    ),
    (
        safety_rules.containers_are_locked_down,
        lambda m: container(m)["securityContext"].pop("allowPrivilegeEscalation"),
    ),
    (safety_rules.pods_are_nobodys, lambda m: one(m, "ServiceAccount", "api").pop("automountServiceAccountToken")),
    (wiring_rules.accounts_and_files_are_there, lambda m: drop(m, "ServiceAccount", "model")),
    (
        wiring_rules.accounts_and_files_are_there,
        lambda m: container(m)["envFrom"][0]["configMapRef"].update(name="settings"),
    ),
    (
        wiring_rules.api_and_replicas_are_given_one_card,
        lambda m: volume(m, "model-card")["configMap"].update(name="another"),
    ),
    (
        wiring_rules.nobody_is_scaled_twice,
        lambda m: spec(m, "HorizontalPodAutoscaler", "web")["scaleTargetRef"].update(name="model"),
    ),
    (wiring_rules.nobody_is_scaled_twice, lambda m: spec(m, "Deployment", "model").update(replicas=2)),
    (
        wiring_rules.nobody_is_scaled_twice,
        lambda m: spec(m, "ScaledObject", "model")["scaleTargetRef"].update(name="gpu"),
    ),
    (wiring_rules.keda_asks_pods_that_listen, lambda m: [one.update(namespace="other") for one in map(_metadata, m)]),
    (wiring_rules.keda_asks_pods_that_listen, lambda m: spec(m, "ScaledObject", "model").pop("fallback")),
    (connection_rules.arrows_have_two_ends, lambda m: spec(m, "NetworkPolicy", "frontend")["egress"].clear()),
    (connection_rules.arrows_have_two_ends, lambda m: spec(m, "NetworkPolicy", "model")["ingress"].clear()),
    (
        connection_rules.arrows_have_two_ends,
        lambda m: spec(m, "NetworkPolicy", "model")["ingress"][0]["ports"][0].update(port=81),
    ),
    (connection_rules.policies_fit_the_pods, lambda m: container(m, "model")["ports"][0].update(containerPort=8101)),
    (
        connection_rules.policies_fit_the_pods,
        lambda m: spec(m, "NetworkPolicy", "edge")["podSelector"]["matchLabels"].update({PART: "front"}),
    ),
    (connection_rules.policies_begin_with_silence, lambda m: drop(m, "NetworkPolicy", "silence")),
    (
        safety_rules.nothing_secret_stands_here,
        lambda m: m.append({"kind": "Secret", "metadata": {"name": "momalisa-database"}}),
    ),
    (
        safety_rules.nothing_secret_stands_here,
        lambda m: container(m)["env"].append({"name": "MOMALISA_DATABASE_URL", "value": "postgresql://m:m@db/m"}),
    ),
]


def _metadata(manifest: Manifest) -> Manifest:
    found: Manifest = manifest["metadata"]
    return found


@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[rule.__name__ for rule, _ in MISTAKES])
def test_a_rule_finds_the_mistake_that_it_is_for(right: list[Manifest], rule: rules.Rule, mistake: Mistake):
    wrong = copy.deepcopy(right)
    mistake(wrong)
    assert list(rule(wrong))


def test_every_rule_was_shown_a_mistake():
    assert {rule for rule, _ in MISTAKES} == set(rules.RULES)


def test_a_path_that_one_edge_lacks_is_a_difference(right: list[Manifest]):
    wrong = copy.deepcopy(right)
    spec(wrong, "Ingress", "momalisa")["rules"][0]["http"]["paths"][0]["path"] = "/api"
    assert edge_rules.routes(wrong, "Ingress") != edge_rules.routes(wrong, "HTTPRoute")


def test_kubernetes_schemas_know_every_field(right: list[Manifest]):
    """Strictly: a misspelt field is ignored by the server at best."""
    wrong = copy.deepcopy(right)
    container(wrong)["lifecycle"]["preStop"] = {"sleep": {"second": 5}}
    assert schemas.wrong_for_kubernetes([one(wrong, "Deployment", "web")])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("HTTPRoute", "momalisa"),
        ("Gateway", "momalisa"),
        ("ScaledObject", "model"),
        ("HealthCheckPolicy", "frontend"),
        ("GCPBackendPolicy", "frontend"),
        ("Rules", "momalisa"),
    ],
)
def test_controllers_schemas_know_every_field(right: list[Manifest], kind: str, name: str):
    wrong = copy.deepcopy(one(right, kind, name))
    wrong["spec"]["misspelt"] = 1
    assert schemas.wrong_for_controllers([wrong])


def test_controllers_schemas_know_values(right: list[Manifest]):
    wrong = copy.deepcopy(one(right, "HealthCheckPolicy", "frontend"))
    wrong["spec"]["default"]["config"]["httpHealthCheck"]["portSpecification"] = "SOME_PORT"
    assert schemas.wrong_for_controllers([wrong])


def test_a_missing_kustomize_fails_and_is_skipped_by_a_variable_alone(monkeypatch: pytest.MonkeyPatch):
    """A check that skips itself in silence is none."""
    monkeypatch.delenv(SKIP, raising=False)
    with pytest.raises(pytest.fail.Exception, match="install kubectl"):
        tool.__wrapped__("")
    monkeypatch.setenv(SKIP, "1")
    with pytest.raises(pytest.skip.Exception, match="no manifest was built"):
        tool.__wrapped__("")
