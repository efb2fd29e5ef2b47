"""Each rule must find a mistake that is made on purpose."""

import copy
from collections.abc import Callable

import pytest

from tests.ops.k8s import (
    connection_rules,
    edge_rules,
    model_rules,
    pod_rules,
    rules,
    safety_rules,
    schemas,
    wiring_rules,
)
from tests.ops.k8s.kustomize import COMPONENTS, SKIP, WITHOUT_KEDA, Manifest, build_with, tool
from tests.ops.k8s.manifests import PART, labels, one, pod

MODELS = ("atelier", "flux2-klein-4b")
KLEIN = "model-flux2-klein-4b"
Mistake = Callable[[list[Manifest]], object]


@pytest.fixture(scope="module")
def correct(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    components = [name for name in COMPONENTS if name != WITHOUT_KEDA]
    manifests = build_with(tmp_path_factory.mktemp("correct"), components, MODELS)
    settings = next(one["data"] for one in manifests if "MOMALISA_REPLICAS" in one.get("data", {}))
    settings["MOMALISA_MODELS"] = " ".join(MODELS)
    assert rules.violations(manifests) == []
    return manifests


def container(manifests: list[Manifest], name: str = "web") -> Manifest:
    found: Manifest = pod(one(manifests, "Deployment", name))["containers"][0]
    return found


def spec(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found: Manifest = one(manifests, kind, name)["spec"]
    return found


def drop(manifests: list[Manifest], kind: str, name: str) -> None:
    manifests.remove(one(manifests, kind, name))


MISTAKES: list[tuple[rules.Rule, Mistake]] = [
    (wiring_rules.selectors_match_pods, lambda m: spec(m, "Service", "api")["selector"].update({PART: "api"})),
    (wiring_rules.selectors_match_pods, lambda m: labels(one(m, "Deployment", "web")).update({PART: "wab"})),
    (wiring_rules.selectors_match_pods, lambda m: drop(m, "Deployment", KLEIN)),
    (wiring_rules.selectors_match_pods, lambda m: spec(m, "Service", "model").pop("clusterIP")),
    (
        wiring_rules.services_target_open_ports,
        lambda m: spec(m, "Service", "api")["ports"][0].update(targetPort="web"),
    ),
    (
        wiring_rules.probes_and_scrapes_use_open_ports,
        lambda m: container(m)["livenessProbe"]["httpGet"].update(port="web"),
    ),
    (
        wiring_rules.probes_and_scrapes_use_open_ports,
        lambda m: spec(m, "PodMonitoring", "momalisa")["endpoints"][0].update(port="web"),
    ),
    (edge_rules.edges_route_to_services, lambda m: spec(m, "Service", "frontend")["ports"][0].update(port=81)),
    (edge_rules.routes_and_policies_have_targets, lambda m: drop(m, "Gateway", "momalisa")),
    (
        edge_rules.routes_and_policies_have_targets,
        lambda m: spec(m, "GCPBackendPolicy", "frontend")["targetRef"].update(name="front"),
    ),
    (
        edge_rules.health_checks_match_the_readiness_probe,
        lambda m: container(m, "frontend")["ports"][0].update(containerPort=81),
    ),
    (pod_rules.containers_have_probes, lambda m: container(m, KLEIN).pop("startupProbe")),
    (pod_rules.containers_have_probes, lambda m: container(m).update(livenessProbe={"periodSeconds": 3})),
    (pod_rules.images_are_pinned, lambda m: container(m).update(image="momalisa/api:latest")),
    (pod_rules.images_are_pinned, lambda m: container(m).update(image="registry:5000/momalisa/api")),
    (pod_rules.gpu_requests_equal_limits, lambda m: container(m, KLEIN)["resources"]["limits"].update(cpu="8")),
    (
        pod_rules.gpu_requests_equal_limits,
        lambda m: spec(m, "Deployment", KLEIN)["strategy"]["rollingUpdate"].update(maxSurge=1),
    ),
    (pod_rules.resources_are_declared, lambda m: container(m)["resources"].pop("limits")),
    (pod_rules.pods_stop_gracefully, lambda m: container(m, "worker").pop("lifecycle")),
    (
        pod_rules.pods_stop_gracefully,
        lambda m: container(m)["lifecycle"].update(preStop={"exec": {"command": ["sleep", "5"]}}),
    ),
    (
        pod_rules.pods_stop_gracefully,
        lambda m: pod(one(m, "Deployment", "web")).update(terminationGracePeriodSeconds=6),
    ),
    (pod_rules.disruptions_are_limited, lambda m: drop(m, "PodDisruptionBudget", "web")),
    (pod_rules.disruptions_are_limited, lambda m: pod(one(m, "Deployment", "web")).pop("topologySpreadConstraints")),
    (
        pod_rules.disruptions_are_limited,
        lambda m: pod(one(m, "Deployment", "web"))["topologySpreadConstraints"][0].pop("matchLabelKeys"),
    ),
    (
        pod_rules.failed_jobs_keep_their_logs,
        lambda m: pod(one(m, "Job", "migrate")).update(restartPolicy="OnFailure"),
    ),
    (pod_rules.failed_jobs_keep_their_logs, lambda m: spec(m, "Job", "migrate").update(backoffLimit=10)),
    (
        safety_rules.pods_are_unprivileged,
        lambda m: pod(one(m, "StatefulSet", "postgres"))["securityContext"].update(runAsNonRoot=False),
    ),
    (
        safety_rules.pods_are_unprivileged,
        lambda m: pod(one(m, "Job", "migrate"))["securityContext"].pop("seccompProfile"),
    ),
    (
        safety_rules.pods_are_unprivileged,
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
    (safety_rules.pods_are_unprivileged, lambda m: one(m, "ServiceAccount", "api").pop("automountServiceAccountToken")),
    (wiring_rules.references_exist, lambda m: drop(m, "ServiceAccount", "model")),
    (
        wiring_rules.references_exist,
        lambda m: container(m)["envFrom"][0]["configMapRef"].update(name="settings"),
    ),
    (
        model_rules.pods_know_their_model,
        lambda m: spec(m, "Deployment", KLEIN)["selector"]["matchLabels"].pop("momalisa/model"),
    ),
    (
        model_rules.pods_know_their_model,
        lambda m: labels(one(m, "Deployment", KLEIN)).update({"momalisa/model": "atelier"}),
    ),
    (
        model_rules.scalers_count_frames_of_their_model,
        lambda m: spec(m, "ScaledObject", KLEIN)["scaleTargetRef"].update(name="model-atelier"),
    ),
    (model_rules.the_api_allows_the_models, lambda m: drop(m, "Deployment", "model-atelier")),
    (model_rules.gpu_pods_have_nodes, lambda m: drop(m, "ComputeClass", "momalisa-l4")),
    (
        model_rules.gpu_pods_have_nodes,
        lambda m: pod(one(m, "Deployment", KLEIN))["nodeSelector"].update({model_rules.CLASS: "momalisa-t5"}),
    ),
    (model_rules.gpu_pods_have_nodes, lambda m: pod(one(m, "Deployment", KLEIN)).pop("tolerations")),
    (
        model_rules.weights_are_within_reach,
        lambda m: spec(m, "NetworkPolicy", "storage")["podSelector"]["matchExpressions"][0]["values"].remove("model"),
    ),
    (model_rules.weights_are_within_reach, lambda m: drop(m, "PersistentVolume", "momalisa-weights")),
    (
        wiring_rules.each_workload_has_one_scaler,
        lambda m: spec(m, "HorizontalPodAutoscaler", "web")["scaleTargetRef"].update(name=KLEIN),
    ),
    (wiring_rules.each_workload_has_one_scaler, lambda m: spec(m, "Deployment", KLEIN).update(replicas=2)),
    (
        wiring_rules.each_workload_has_one_scaler,
        lambda m: spec(m, "ScaledObject", KLEIN)["scaleTargetRef"].update(name="gpu"),
    ),
    (wiring_rules.keda_queries_open_ports, lambda m: [one.update(namespace="other") for one in map(_metadata, m)]),
    (wiring_rules.keda_queries_open_ports, lambda m: spec(m, "ScaledObject", KLEIN).pop("fallback")),
    (
        connection_rules.connections_have_egress_and_ingress,
        lambda m: spec(m, "NetworkPolicy", "frontend")["egress"].clear(),
    ),
    (
        connection_rules.connections_have_egress_and_ingress,
        lambda m: spec(m, "NetworkPolicy", "model")["ingress"].clear(),
    ),
    (
        connection_rules.connections_have_egress_and_ingress,
        lambda m: spec(m, "NetworkPolicy", "model")["ingress"][0]["ports"][0].update(port=81),
    ),
    (
        connection_rules.policies_match_pods,
        lambda m: [container(m, f"model-{name}")["ports"][0].update(containerPort=8101) for name in MODELS],
    ),
    (
        connection_rules.policies_match_pods,
        lambda m: spec(m, "NetworkPolicy", "edge")["podSelector"]["matchLabels"].update({PART: "front"}),
    ),
    (connection_rules.policies_deny_by_default, lambda m: drop(m, "NetworkPolicy", "default-deny")),
    (
        safety_rules.manifests_contain_no_secrets,
        lambda m: m.append({"kind": "Secret", "metadata": {"name": "momalisa-database"}}),
    ),
    (
        safety_rules.manifests_contain_no_secrets,
        lambda m: container(m)["env"].append({"name": "MOMALISA_DATABASE_URL", "value": "postgresql://m:m@db/m"}),
    ),
]


def _metadata(manifest: Manifest) -> Manifest:
    found: Manifest = manifest["metadata"]
    return found


@pytest.mark.parametrize(("rule", "mistake"), MISTAKES, ids=[rule.__name__ for rule, _ in MISTAKES])
def test_a_rule_finds_a_mistake(correct: list[Manifest], rule: rules.Rule, mistake: Mistake):
    wrong = copy.deepcopy(correct)
    mistake(wrong)
    assert list(rule(wrong))


def test_every_rule_is_tested_with_a_mistake():
    assert {rule for rule, _ in MISTAKES} == set(rules.RULES)


def test_a_path_that_is_missing_from_one_edge_is_found(correct: list[Manifest]):
    wrong = copy.deepcopy(correct)
    spec(wrong, "Ingress", "momalisa")["rules"][0]["http"]["paths"][0]["path"] = "/api"
    assert edge_rules.routes(wrong, "Ingress") != edge_rules.routes(wrong, "HTTPRoute")


def test_an_unknown_field_violates_kubernetes_schemas(correct: list[Manifest]):
    """At best, the server ignores a misspelt field."""
    wrong = copy.deepcopy(correct)
    container(wrong)["lifecycle"]["preStop"] = {"sleep": {"second": 5}}
    assert schemas.wrong_for_kubernetes([one(wrong, "Deployment", "web")])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("HTTPRoute", "momalisa"),
        ("Gateway", "momalisa"),
        ("ScaledObject", KLEIN),
        ("ComputeClass", "momalisa-l4"),
        ("HealthCheckPolicy", "frontend"),
        ("GCPBackendPolicy", "frontend"),
        ("Rules", "momalisa"),
    ],
)
def test_an_unknown_field_violates_custom_schemas(correct: list[Manifest], kind: str, name: str):
    wrong = copy.deepcopy(one(correct, kind, name))
    wrong["spec"]["misspelt"] = 1
    assert schemas.wrong_for_controllers([wrong])


def test_a_wrong_value_violates_custom_schemas(correct: list[Manifest]):
    wrong = copy.deepcopy(one(correct, "HealthCheckPolicy", "frontend"))
    wrong["spec"]["default"]["config"]["httpHealthCheck"]["portSpecification"] = "SOME_PORT"
    assert schemas.wrong_for_controllers([wrong])


def test_a_missing_kustomize_fails_unless_a_variable_skips_it(monkeypatch: pytest.MonkeyPatch):
    """A check that is skipped silently protects nothing."""
    monkeypatch.delenv(SKIP, raising=False)
    with pytest.raises(pytest.fail.Exception, match="install kubectl"):
        tool.__wrapped__("")
    monkeypatch.setenv(SKIP, "1")
    with pytest.raises(pytest.skip.Exception, match="no manifests were built"):
        tool.__wrapped__("")
