"""All rules for the manifests: each takes them all, and says what is wrong."""

from collections.abc import Callable, Iterator

from tests.ops.k8s import connection_rules, edge_rules, pod_rules, safety_rules, wiring_rules
from tests.ops.k8s.kustomize import Manifest

Rule = Callable[[list[Manifest]], Iterator[str]]

RULES: tuple[Rule, ...] = (
    pod_rules.probes_on_everything,
    pod_rules.images_are_pinned,
    pod_rules.gpus_are_asked_for_whole,
    pod_rules.resources_are_said,
    pod_rules.goes_slowly,
    pod_rules.disruptions_are_borne,
    safety_rules.pods_are_nobodys,
    safety_rules.containers_are_locked_down,
    safety_rules.nothing_secret_stands_here,
    wiring_rules.selectors_find_their_pods,
    wiring_rules.services_lead_to_ports_that_listen,
    wiring_rules.probes_and_scrapes_ask_ports_that_listen,
    wiring_rules.accounts_and_files_are_there,
    wiring_rules.api_and_replicas_are_given_one_card,
    wiring_rules.nobody_is_scaled_twice,
    wiring_rules.keda_asks_pods_that_listen,
    edge_rules.edges_lead_somewhere,
    edge_rules.routes_and_policies_hang_on_something,
    edge_rules.health_checks_ask_what_the_probe_asks,
    connection_rules.arrows_have_two_ends,
    connection_rules.policies_fit_the_pods,
    connection_rules.policies_begin_with_silence,
)


def complaints(manifests: list[Manifest]) -> list[str]:
    """All that any rule has to say."""
    return [complaint for rule in RULES for complaint in rule(manifests)]
