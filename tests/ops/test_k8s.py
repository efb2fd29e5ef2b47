"""The manifests as kustomize builds them: every overlay, and the base with combinations of components."""

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from momalisa_api.metrics import Metrics as ApiMetrics
from momalisa_api.settings import Settings as ApiSettings
from momalisa_model.metrics import Metrics as ModelMetrics
from momalisa_model.settings import Settings as ModelSettings
from tests.ops.k8s import schemas
from tests.ops.k8s.connection_rules import connections
from tests.ops.k8s.edge_rules import routes
from tests.ops.k8s.kustomize import COMPONENTS, K8S, RECIPES, REPOSITORY, WITHOUT_KEDA, Manifest, build, build_with
from tests.ops.k8s.manifests import PART, containers, env, labels, of, one, pod, ports, workloads
from tests.ops.k8s.rules import violations

OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
# Components that need another one.
NEEDS = {"gateway-tls": "gateway"}
# What kind's own pods request on its one node: cores and bytes.
KIND = (0.95, 290 * 2**20)
LOOPBACK, CLOSED_PORT = "127.0.0.1", 1
# Of pg_isready's exit codes; 3 is "no attempt".
NO_RESPONSE = 2
CONNECTIONS = {
    ("frontend", "web", 8000),
    ("worker", "model", 8100),
    ("web", "postgres", 5432),
    ("worker", "postgres", 5432),
    ("migrate", "postgres", 5432),
}


def combinations() -> list[tuple[str, ...]]:
    """No, one, all but one, and all components. MOMALISA_COMBINATIONS=pairs adds all pairs, =all all combinations."""
    whole = len(COMPONENTS)
    more = {"": [], "pairs": [2], "all": range(whole + 1)}[os.environ.get("MOMALISA_COMBINATIONS", "")]
    sizes = sorted({0, 1, whole - 1, whole, *more})
    found = [one for size in sizes for one in itertools.combinations(COMPONENTS, size)]
    return [one for one in found if all(NEEDS[name] in one for name in one if name in NEEDS)]


@cache
def overlay(name: str) -> tuple[Manifest, ...]:
    return tuple(build(K8S / "overlays" / name))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The base with all components and all models, as in a cluster with KEDA."""
    components = [name for name in COMPONENTS if name != WITHOUT_KEDA]
    return build_with(tmp_path_factory.mktemp("whole"), components, RECIPES)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_short(name: str):
    """Anything longer belongs in a component, which other overlays can use."""
    assert len((K8S / "overlays" / name / "kustomization.yaml").read_text().splitlines()) <= 25


def test_combinations_of_components_violate_no_rule_and_no_schema(tmp_path: Path):
    """The author of an overlay may combine any components."""
    built: dict[str, Manifest] = {}
    for number, chosen in enumerate(combinations()):
        folder = tmp_path / str(number)
        folder.mkdir()
        manifests = build_with(folder, chosen)
        assert violations(manifests) == [], chosen
        built |= {schemas.key(manifest): manifest for manifest in manifests}
    assert schemas.wrong_for_kubernetes(found for found in built.values() if not schemas.is_custom(found)) == []
    assert schemas.wrong_for_controllers([found for found in built.values() if schemas.is_custom(found)]) == []


def test_every_component_is_documented():
    """A component that is not documented is not used."""
    page = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    assert [name for name in COMPONENTS if f"`{name}`" not in page] == []


def test_gateway_and_ingress_have_the_same_routes(whole: list[Manifest]):
    """A change from one to the other must not lose a path."""
    assert routes(whole, "Ingress") == routes(whole, "HTTPRoute") == {("Prefix", "/", "frontend", 80)}


def test_network_policies_allow_the_documented_connections_only(whole: list[Manifest]):
    assert connections(whole, "ingress") == connections(whole, "egress") == CONNECTIONS


def test_the_api_connects_to_each_model_pod_directly(whole: list[Manifest]):
    """A Service with one address would balance connections, not requests, and the api keeps connections open."""
    assert one(whole, "Service", "model")["spec"]["clusterIP"] == "None"
    settings = next(found["data"] for found in of(whole, "ConfigMap") if "MOMALISA_REPLICAS" in found["data"])
    assert settings["MOMALISA_REPLICAS"] == "dns+http://model:8100"


def test_the_local_overlay_fits_two_cores_and_6_gib_also_during_an_update():
    """On a smaller node than the requests, pods stay pending, and only `kubectl describe` says why."""
    requested = [requests_during_an_update(workload) for workload in workloads(list(overlay("local")))]
    assert sum(cores for cores, _ in requested) + KIND[0] <= 2
    assert sum(memory for _, memory in requested) + KIND[1] <= 6 * 2**30


def test_the_migration_asks_for_postgresql_as_a_user_that_the_image_does_not_know(whole: list[Manifest]):
    """Without a name for its user, in /etc/passwd or given, pg_isready asks nobody: the Job would wait for ever."""
    spec = pod(one(whole, "Job", "migrate"))
    [waiting] = [each for each in spec["initContainers"] if each["name"] == "wait-for-postgres"]
    [call] = re.findall(r"until (pg_isready .*?);", waiting["command"][-1])
    program = shutil.which("pg_isready") or max(Path("/usr/lib/postgresql").glob("*/bin/pg_isready"))
    arguments = [f"--host={LOOPBACK}" if each.startswith("--host=") else each for each in call.split()[1:]]
    user = spec["securityContext"]["runAsUser"] if os.getuid() == 0 else None
    done = subprocess.run([program, *arguments, f"--port={CLOSED_PORT}"], user=user, cwd="/", check=False)
    assert done.returncode == NO_RESPONSE


def requests_during_an_update(workload: Manifest) -> tuple[float, float]:
    """Cores and bytes that all pods of a workload request while it is replaced."""
    spec = workload["spec"]
    pods = spec.get("replicas", 1) + spec.get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0)
    asked = [each["resources"]["requests"] for each in pod(workload)["containers"]]
    return pods * sum(amount(each["cpu"]) for each in asked), pods * sum(amount(each["memory"]) for each in asked)


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi)?", quantity).groups()  # type: ignore[union-attr]
    return float(number) * {"m": 1e-3, "Mi": 2**20, "Gi": 2**30, None: 1}[unit]


def metrics() -> set[str]:
    """The names of all metrics of the services."""
    families = [*ApiMetrics()._registry.collect(), *ModelMetrics().registry.collect()]
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def test_alerts_use_existing_metrics(whole: list[Manifest]):
    """An alert on a metric that does not exist never fires."""
    rules = [rule for group in one(whole, "Rules", "momalisa")["spec"]["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"momalisa_\w+", rule["expr"])}
    assert used
    assert used - metrics() == set()


def test_every_alert_is_documented(whole: list[Manifest]):
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    rules = [rule for group in one(whole, "Rules", "momalisa")["spec"]["groups"] for rule in group["rules"]]
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in page] == []


def test_environment_variables_are_settings_of_the_services(whole: list[Manifest]):
    """A misspelt variable would be ignored silently."""
    known = {f"MOMALISA_{name.upper()}" for kind in (ApiSettings, ModelSettings) for name in kind.model_fields}
    template = set(re.findall(r"\$\{([A-Z_]+)\}", (REPOSITORY / "frontend" / "nginx.conf").read_text()))
    used = {name for found in of(whole, "ConfigMap") for name in found["data"] if name.isupper()}
    for workload, container in containers(whole):
        if labels(workload)[PART] != "postgres":
            used |= set(env(container))
    assert used - known - template == {"HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "NAMESPACE"}


# What the manifests set themselves; the ConfigMap api-settings sets all others.
FIXED = {"HOST", "PORT", "BLOCKLIST", "TRUSTED_PROXIES", "DATABASE_URL"}


@pytest.mark.parametrize("name", ["web", "worker"])
def test_every_setting_of_the_api_can_be_set(whole: list[Manifest], name: str):
    """A variable of the container wins over the ConfigMap, so a setting that is among them could not be changed."""
    api = pod(one(whole, "Deployment", name))["containers"][0]
    settings = {f"MOMALISA_{field.upper()}" for field in ApiSettings.model_fields}
    fixed = FIXED | ({"SIGN_IN_CLIENT_SECRET"} if name == "web" else set())
    assert settings & set(env(api)) == {f"MOMALISA_{field}" for field in fixed}
    assert [source["configMapRef"]["name"].partition("-settings")[0] for source in api["envFrom"]] == ["api"]


def test_images_have_the_version_of_this_checkout():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    for name in OVERLAYS:
        images = {container["image"] for _, container in containers(list(overlay(name)))}
        own = {image.rpartition(":")[2] for image in images if "momalisa/" in image}
        assert own == {version}


def test_the_frontends_probe_requests_an_existing_file(whole: list[Manifest]):
    probe = pod(one(whole, "Deployment", "frontend"))["containers"][0]["readinessProbe"]["httpGet"]["path"]
    assert (REPOSITORY / "frontend" / "public" / probe.removeprefix("/")).is_file()


def test_no_container_listens_below_port_1024(whole: list[Manifest]):
    """An unprivileged process may not."""
    assert all(port > 1023 for workload in workloads(whole) for port in ports(workload).values())


def test_the_ingress_component_warns_that_it_is_retired():
    text = (K8S / "components" / "ingress-nginx" / "kustomization.yaml").read_text().replace("\n# ", " ")
    assert "Retired upstream" in text
    assert "March 2026" in text


def test_every_file_is_listed_in_its_kustomization():
    """kustomize ignores files that are not listed."""
    for kustomization in K8S.rglob("kustomization.yaml"):
        read = yaml.safe_load(kustomization.read_text())
        named = {*read.get("resources", []), *(patch["path"] for patch in read.get("patches", []) if "path" in patch)}
        named |= {*read.get("configurations", [])}
        named |= {file for made in read.get("configMapGenerator", []) for file in made.get("files", [])}
        files = {path.name for path in kustomization.parent.iterdir() if path.is_file()} - {"kustomization.yaml"}
        assert files <= named, kustomization
