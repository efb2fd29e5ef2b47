"""All rules for the manifests. Each takes all manifests and yields what is wrong."""

from collections.abc import Callable, Iterator

from tests.ops.k8s import connection_rules, edge_rules, model_rules, pod_rules, safety_rules, wiring_rules
from tests.ops.k8s.kustomize import Manifest

Rule = Callable[[list[Manifest]], Iterator[str]]

RULES: tuple[Rule, ...] = (
    pod_rules.containers_have_probes,
    pod_rules.images_are_pinned,
    pod_rules.gpu_requests_equal_limits,
    pod_rules.resources_are_declared,
    pod_rules.pods_stop_gracefully,
    pod_rules.disruptions_are_limited,
    pod_rules.failed_jobs_keep_their_logs,
    safety_rules.pods_are_unprivileged,
    safety_rules.containers_are_locked_down,
    safety_rules.manifests_contain_no_secrets,
    wiring_rules.selectors_match_pods,
    wiring_rules.services_target_open_ports,
    wiring_rules.probes_and_scrapes_use_open_ports,
    wiring_rules.references_exist,
    wiring_rules.each_workload_has_one_scaler,
    wiring_rules.keda_queries_open_ports,
    model_rules.pods_know_their_model,
    model_rules.scalers_count_frames_of_their_model,
    model_rules.the_api_allows_the_models,
    model_rules.gpu_pods_have_nodes,
    model_rules.weights_are_within_reach,
    edge_rules.edges_route_to_services,
    edge_rules.routes_and_policies_have_targets,
    edge_rules.health_checks_match_the_readiness_probe,
    connection_rules.connections_have_egress_and_ingress,
    connection_rules.policies_match_pods,
    connection_rules.policies_deny_by_default,
)


def violations(manifests: list[Manifest]) -> list[str]:
    """What all rules find."""
    return [violation for rule in RULES for violation in rule(manifests)]
