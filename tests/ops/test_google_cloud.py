"""The playbooks against a fake Google Cloud API, which validates every call against Google's discovery documents."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.ops.fake_google import discovery
from tests.ops.fake_google.cloud import PROJECT, FakeGoogleCloud
from tests.ops.k8s.kustomize import build_with
from tests.ops.k8s.model_rules import pools_fit
from tests.ops.playbooks import DEPLOYMENT, Operator, google_operator

CLUSTER = f"v1/projects/{PROJECT}/locations/us-central1-a/clusters/momalisa"
VERTEX = f"v1/projects/{PROJECT}/locations/us-central1"
CPU_RECIPES = [
    {"name": name, "model_id": model, "license": "free", "commercial": True}
    | {"resources": {"gpu": None, "memory_gib": memory, "cpus": cpus}}
    for name, model, memory, cpus in (("atelier", "atelier", 2, 1), ("sd15", "owner/sd15", 8, 2))
]
COMPUTE = f"compute/v1/projects/{PROJECT}"
# Tags of what the fake does not support: images need a Docker engine, a release needs a Kubernetes API.
WITHOUT = ("--skip-tags", "build,push,release,overlay,services")
# The resources that a teardown keeps, and all resources of a project before it.
KEPT = {
    f"storage/v1/b/{PROJECT}-momalisa",
    f"storage/v1/b/{PROJECT}-momalisa-backups",
    f"storage/v1/b/{PROJECT}-momalisa-weights",
    f"{COMPUTE}/zones/us-central1-a/disks/momalisa-data",
}
EXISTING = KEPT | {
    CLUSTER,
    f"{CLUSTER}/nodePools/gpu",
    f"{VERTEX}/endpoints/momalisa",
    f"{VERTEX}/models/momalisa-0-1-0-flux2-klein-4b",
    f"{VERTEX}/repositories/momalisa",
    f"{VERTEX.replace('v1', 'v2', 1)}/services/momalisa",
    f"{VERTEX.replace('v1', 'v2', 1)}/jobs/momalisa-migrate",
    f"v1/projects/{PROJECT}/instances/momalisa",
    f"v1/projects/{PROJECT}/secrets/momalisa-database",
    f"v1/projects/{PROJECT}/serviceAccounts/momalisa-node@{PROJECT}.iam.gserviceaccount.com",
    f"{COMPUTE}/regions/us-central1/forwardingRules/momalisa-database",
    f"{COMPUTE}/regions/us-central1/addresses/momalisa-database",
    f"{COMPUTE}/regions/us-central1/addresses/momalisa",
    f"{COMPUTE}/zones/us-central1-a/instances/momalisa",
    f"{COMPUTE}/global/networks/momalisa",
    f"{COMPUTE}/global/firewalls/momalisa-web",
}


@pytest.fixture
def google(tmp_path: Path) -> Iterator[FakeGoogleCloud]:
    with FakeGoogleCloud().running(tmp_path) as google:
        yield google


@pytest.fixture
def operator(google: FakeGoogleCloud, tmp_path: Path) -> Operator:
    return google_operator(google, tmp_path)


def bodies(google: FakeGoogleCloud, verb: str) -> list[Any]:
    """The bodies of all calls of one method."""
    return [call.body for call in google.changes if call.id == verb]


def test_a_cluster_is_created_once_and_repaired_where_it_differs(google: FakeGoogleCloud, operator: Operator) -> None:
    """A second run must change nothing, and must restore what was deleted or changed by hand."""
    dry = operator.play("deploy-k8s-cluster.yml", "--check", "--diff", *WITHOUT)
    assert dry.code == 0, dry.error
    assert "Create or delete the cluster" in dry.changed
    assert google.changes == []

    first = operator.play("deploy-k8s-cluster.yml", *WITHOUT)
    assert first.code == 0, first.error
    check_cluster(google)

    again = operator.play("deploy-k8s-cluster.yml", *WITHOUT)
    assert (again.code, again.changed) == (0, []), again.error

    google.delete_behind(f"{CLUSTER}/nodePools/gpu-l4-spot")
    google.resources[CLUSTER]["addonsConfig"].pop("gcsFuseCsiDriverConfig")
    dry = operator.play("deploy-k8s-cluster.yml", "--check", "--diff", "--tags", "always,cluster")
    assert dry.changed == ["Create or delete the cluster", "Create the node pools"]
    assert "gcsFuseCsiDriverConfig" in str(
        [result["diff"] for name, result in dry.tasks if name == "Create or delete the cluster"]
    )
    repaired = operator.play("deploy-k8s-cluster.yml", "--tags", "always,cluster")
    assert repaired.changed == dry.changed
    (update,) = bodies(google, "container.projects.locations.clusters.update")
    assert list(update["update"]) == ["desiredAddonsConfig"]
    check_all_addons_listed(update["update"]["desiredAddonsConfig"])

    larger = operator.play("deploy-k8s-cluster.yml", "--tags", "always,cluster", gke_cluster_gpu_nodes_max=9)
    assert larger.changed == ["Create the node pools", "Create the node pools"]
    assert google.resources[f"{CLUSTER}/nodePools/gpu-l4"]["autoscaling"]["totalMaxNodeCount"] == 9

    immutable = operator.play("deploy-k8s-cluster.yml", "--tags", "always,cluster", gke_cluster_gpu_disk_gib=200)
    assert immutable.code == 2
    assert "cannot be changed in place" in immutable.text


def check_cluster(google: FakeGoogleCloud) -> None:
    (created,) = bodies(google, "container.projects.locations.clusters.create")
    cluster = created["cluster"]
    check_all_addons_listed(cluster["addonsConfig"])
    assert cluster["addonsConfig"]["httpLoadBalancing"] == {"disabled": False}
    assert cluster["workloadIdentityConfig"] == {"workloadPool": f"{PROJECT}.svc.id.goog"}
    assert cluster["networkConfig"]["gatewayApiConfig"] == {"channel": "CHANNEL_STANDARD"}
    pools = [each["nodePool"] for each in bodies(google, "container.projects.locations.clusters.nodePools.create")]
    assert {pool["name"]: pool["config"].get("spot", False) for pool in pools} == {"gpu-l4-spot": True, "gpu-l4": False}
    check_pools(pools)
    pool = {"nodePool": pools[0]}
    assert pool["nodePool"]["autoscaling"] == {
        "enabled": True,
        "totalMinNodeCount": 0,
        "totalMaxNodeCount": 4,
        "locationPolicy": "ANY",
    }
    assert pool["nodePool"]["initialNodeCount"] == 0
    for config in (pool["nodePool"]["config"], cluster["nodePools"][0]["config"]):
        assert config["workloadMetadataConfig"] == {"mode": "GKE_METADATA"}
        assert config["gcfsConfig"] == {"enabled": True}
        assert config["serviceAccount"] == f"momalisa-node@{PROJECT}.iam.gserviceaccount.com"
    node = pool["nodePool"]["config"]
    (accelerator,) = node["accelerators"]
    assert accelerator["gpuDriverInstallationConfig"] == {"gpuDriverVersion": "LATEST"}
    assert (accelerator["acceleratorType"], accelerator["acceleratorCount"]) == ("nvidia-l4", "1")
    check_foundation(google)


def check_foundation(google: FakeGoogleCloud) -> None:
    for bucket in bodies(google, "storage.buckets.insert"):
        assert bucket["iamConfiguration"] == {
            "uniformBucketLevelAccess": {"enabled": True},
            "publicAccessPrevention": "enforced",
        }
    assert google.resources[f"storage/v1/b/{PROJECT}-momalisa"]["lifecycle"] == {"rule": []}
    pods = "principal://iam.googleapis.com/projects/123456789/locations/global/workloadIdentityPools"
    assert google.policies[f"storage/v1/b/{PROJECT}-momalisa"]["bindings"] == [
        {"role": "roles/storage.objectUser", "members": [f"{pods}/{PROJECT}.svc.id.goog/subject/ns/momalisa/sa/api"]}
    ]
    granted = google.policies[f"storage/v1/b/{PROJECT}-momalisa-weights"]["bindings"]
    of_weights = {each["role"]: each["members"] for each in granted}
    assert [each.rpartition("/")[2] for each in of_weights["roles/storage.objectUser"]] == ["fetch"]
    assert [each.rpartition("/")[2] for each in of_weights["roles/storage.objectViewer"]] == ["model"]
    (database,) = bodies(google, "sql.instances.insert")
    assert database["settings"]["backupConfiguration"]["pointInTimeRecoveryEnabled"] is True
    assert database["settings"]["ipConfiguration"]["ipv4Enabled"] is False
    (user,) = bodies(google, "sql.users.insert")
    assert len(user["password"]) == 40


def check_all_addons_listed(config: dict[str, Any]) -> None:
    """GKE disables addons that an incomplete list omits, such as HTTP load balancing."""
    assert config.keys() == discovery.api("container", "v1").fields("AddonsConfig")


def check_pools(pools: list[Any]) -> None:
    """The pods of the same recipe fit the nodes, and select and tolerate them; planted mistakes are found."""
    with TemporaryDirectory(dir=DEPLOYMENT.parent / ".run") as folder:
        manifests = build_with(Path(folder), ["nodes-l4"], ["flux2-klein-4b"], "overlays/gke")
    defaults = yaml.safe_load((DEPLOYMENT / "roles/gke_cluster/defaults/main.yml").read_text())
    machines = {one["type"]: one for kind in defaults["gke_cluster_gpu_machines"].values() for one in kind["machines"]}
    assert list(pools_fit(manifests, pools, machines)) == []
    for path, value in (
        ("config/labels", {}),
        ("config/accelerators", [{"acceleratorType": "nvidia-tesla-t4"}]),
        ("config/taints", [{"key": "own", "value": "taint"}]),
        ("config/machineType", "g2-standard-4"),
        ("name", "gpu"),
    ):
        wrong = copy.deepcopy(pools)
        *above, field = path.split("/")
        functools.reduce(dict.__getitem__, above, wrong[0])[field] = value
        assert list(pools_fit(manifests, wrong, machines)), path


def test_models_without_a_recipe_or_nodes_and_unaccepted_licences_are_refused(
    google: FakeGoogleCloud, operator: Operator
) -> None:
    """Before anything is created."""
    styles = operator.play("deploy-vertex-endpoint.yml", momalisa_vertex_model="styles")
    assert (styles.code, google.changes) == (2, [])
    assert (
        "styles has the engine style, and only models with the engine diffusion can be deployed there" in styles.error
    )
    restricted = {"name": "turbo", "license": "research only", "commercial": False, "resources": {"gpu": "tpu"}}
    for variables, error in (
        ({"momalisa_models": "klein"}, "There is no recipe klein. Set momalisa_models to some of: atelier, "),
        ({"momalisa_recipes": [restricted]}, "The licence of turbo forbids commercial use"),
        (
            {"momalisa_recipes": [restricted], "momalisa_accept_noncommercial": True},
            "No nodes for the models with the GPU",
        ),
    ):
        refused = operator.play("deploy-k8s-cluster.yml", "--tags", "always", **variables)
        assert (refused.code, google.changes) == (2, [])
        assert error in refused.error


def test_the_output_contains_no_secret(google: FakeGoogleCloud, tmp_path: Path) -> None:
    """The output of playbooks is copied into tickets and CI logs. Here, the modules start as they do for operators."""
    operator = google_operator(google, tmp_path, warm=False)
    played = operator.play("deploy-k8s-cluster.yml", "-vvv", "--tags", "always,database")
    assert played.code == 0, played.error
    (user,) = bodies(google, "sql.users.insert")
    assert user["password"] not in played.text
    (version,) = bodies(google, "secretmanager.projects.secrets.addVersion")
    assert version["payload"]["data"] not in played.text


def test_a_vm_is_created_once_and_its_data_disk_is_kept(google: FakeGoogleCloud, operator: Operator) -> None:
    """The data disk has the database of walks."""
    first = operator.play("deploy-create-instance.yml", *WITHOUT, momalisa_wait_for_vm=False)
    assert first.code == 0, first.error
    (instance,) = bodies(google, "compute.instances.insert")
    boot, data = instance["disks"]
    assert (boot["autoDelete"], data["autoDelete"]) == (True, False)
    assert boot["initializeParams"]["sourceImage"] == "projects/debian-cloud/global/images/family/debian-13"
    assert instance["networkInterfaces"][0]["accessConfigs"] == [{"type": "ONE_TO_ONE_NAT", "natIP": "192.0.2.20"}]

    assert instance["metadata"]["items"][0] == {"key": "ssh-keys", "value": "debian:ssh-ed25519 AAAA fake"}

    google.delete_behind(f"{COMPUTE}/zones/us-central1-a/instances/momalisa")
    again = operator.play("deploy-create-instance.yml", *WITHOUT, momalisa_wait_for_vm=False)
    assert again.changed == ["Create or delete the instance"], again.error
    google.delete_behind(f"{COMPUTE}/zones/us-central1-a/instances/momalisa")
    without = operator.play("deploy-create-instance.yml", *WITHOUT, momalisa_models="atelier sdxl")
    assert "sdxl cannot render without a GPU" in without.error
    options = {"momalisa_models": "atelier sdxl", "momalisa_vm_gpu": "nvidia-tesla-t4", "gcp_instance_disk_gib": 50}
    assert operator.play("deploy-create-instance.yml", *WITHOUT, momalisa_wait_for_vm=False, **options).code == 0
    instance = bodies(google, "compute.instances.insert")[-1]
    assert instance["machineType"].endswith("/n1-standard-8")
    assert instance["guestAccelerators"][0]["acceleratorType"].endswith("/nvidia-tesla-t4")
    assert instance["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert instance["shieldedInstanceConfig"]["enableSecureBoot"] is False

    deleted = operator.play("deploy-create-instance.yml", momalisa_state="absent")
    assert deleted.changed == ["Create or delete the instance", "Release the static address"], deleted.error
    assert f"{COMPUTE}/zones/us-central1-a/disks/momalisa-data" in google.resources


def test_a_vertex_endpoint_is_dedicated_and_deploys_a_new_image(google: FakeGoogleCloud, operator: Operator) -> None:
    """Shared endpoints end calls after a minute."""
    first = operator.play("deploy-vertex-endpoint.yml")
    assert first.code == 0, first.error
    (endpoint,) = bodies(google, "aiplatform.projects.locations.endpoints.create")
    assert endpoint["dedicatedEndpointEnabled"] is True
    assert endpoint["clientConnectionConfig"] == {"inferenceTimeout": "1800s"}
    again = operator.play("deploy-vertex-endpoint.yml")
    assert (again.code, again.changed) == (0, []), again.error

    newer = operator.play("deploy-vertex-endpoint.yml", momalisa_image_tag="0.2.0")
    assert newer.changed == ["Upload the model", "Deploy the model", "Undeploy other models"], newer.error
    (deployed,) = google.resources[f"{VERTEX}/endpoints/momalisa"]["deployedModels"]
    assert deployed["model"].endswith("/models/momalisa-0-2-0-flux2-klein-4b")
    assert deployed["dedicatedResources"]["machineSpec"]["acceleratorType"] == "NVIDIA_L4"
    container = bodies(google, "aiplatform.projects.locations.models.upload")[-1]["model"]["containerSpec"]
    assert {"name": "MOMALISA_RECIPES", "value": "flux2-klein-4b"} in container["env"]
    check_use_of_vertex(google, operator)


def check_use_of_vertex(google: FakeGoogleCloud, operator: Operator) -> None:
    """The api of a cluster gets the endpoint's address, and may call it."""
    folder = operator.folder / "overlay"
    options = {"momalisa_replicas_vertex": True, "momalisa_models": "atelier", "k8s_release_folder": str(folder)}
    played = operator.play(
        "deploy-k8s-cluster.yml", "--tags", "accounts,overlay", momalisa_database="in-cluster", **options
    )
    assert played.code == 0, played.error
    granted = {one["role"]: one["members"] for one in google.policies[f"v3/projects/{PROJECT}"]["bindings"]}
    assert granted["roles/aiplatform.user"][0].endswith("/subject/ns/momalisa/sa/api")
    overlay = (folder / "kustomization.yaml").read_text()
    address = f"vertex+https://e.prediction.vertexai.goog/{VERTEX}/endpoints/momalisa#4"
    assert f"MOMALISA_REPLICAS=dns+http://model:8100 {address}" in overlay
    assert "MOMALISA_MODELS=atelier flux2-klein-4b" in overlay


def test_cloud_run_gets_a_service_with_all_models(google: FakeGoogleCloud, operator: Operator) -> None:
    """The migration and the weights come before the service, and again only if something changes."""
    options = {"momalisa_models": "atelier sd15", "momalisa_recipes": CPU_RECIPES}
    first = operator.play("deploy-cloud-run.yml", "--skip-tags", "services", **options)
    assert first.code == 0, first.error
    assert "MoMALisa is at https://momalisa-fake.a.run.app" in first.text
    migrate, fetch = bodies(google, "run.projects.locations.jobs.create")
    assert migrate["template"]["template"]["containers"][0]["command"] == ["momalisa", "migrate"]
    assert fetch["template"]["template"]["containers"][0]["command"] == ["momalisa-model", "fetch", "sd15"]
    (service,) = bodies(google, "run.projects.locations.services.create")
    frontend, api, model = service["template"]["containers"]
    assert [one["name"] for one in (frontend, api, model) if "ports" in one] == ["frontend"]
    assert all(one["resources"]["cpuIdle"] is False for one in (frontend, api, model))
    assert service["template"]["scaling"]["minInstanceCount"] == 1
    settings = {one["name"]: one.get("value") for one in api["env"]}
    assert settings["MOMALISA_DATABASE_URL"] == "postgresql://momalisa@10.0.0.9/momalisa"
    assert (settings["MOMALISA_MODELS"], settings["PGPASSWORD"]) == ("atelier sd15", None)
    assert model["resources"]["limits"] == {"cpu": "2", "memory": "10Gi"}

    again = operator.play("deploy-cloud-run.yml", "--skip-tags", "services", **options)
    assert (again.code, again.changed) == (0, []), again.error
    tags = ("--tags", "always,database,run")
    newer = operator.play("deploy-cloud-run.yml", *tags, momalisa_image_tag="0.2.0", **options)
    changed = ["Run the migration and fetch the weights"] * 2 + ["Create or delete the service"]
    assert newer.changed == changed, newer.error
    on_gpu = operator.play("deploy-cloud-run.yml", *tags, momalisa_models="flux2-klein-4b")
    assert on_gpu.code == 0, on_gpu.error
    (service,) = [one for path, one in google.resources.items() if path.endswith("/services/momalisa")]
    assert service["template"]["nodeSelector"] == {"accelerator": "nvidia-l4"}
    assert service["template"]["containers"][2]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    removed = operator.play("deploy-cloud-run.yml", "--tags", "run", momalisa_state="absent")
    assert removed.changed == changed, removed.error


def test_a_teardown_asks_first_and_keeps_the_data(google: FakeGoogleCloud, operator: Operator) -> None:
    """Rendering frames costs GPU hours; a slip of the operator must not delete them."""
    for path in EXISTING:
        google.resources[path] = {"name": path.rpartition("/")[2]}
    google.resources[f"{VERTEX}/endpoints/momalisa"]["deployedModels"] = [{"id": "1", "model": "models/momalisa-0-1-0"}]
    google.resources[f"{COMPUTE}/global/firewalls/momalisa-web"]["network"] = (
        f"projects/{PROJECT}/global/networks/momalisa"
    )
    refused = operator.play("teardown.yml", teardown_sure="no")
    assert refused.code == 2
    assert CLUSTER in google.resources

    assert operator.play("teardown.yml", teardown_sure="yes").code == 0
    assert set(google.resources) == KEPT
    again = operator.play("teardown.yml", teardown_sure="yes")
    assert (again.code, again.changed) == (0, []), again.error
    assert operator.play("teardown.yml", teardown_sure="yes", teardown_data=True).code == 0
    assert google.resources == {}
