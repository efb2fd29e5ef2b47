"""The playbooks against a made-up Google that holds every body against Google's own discovery documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ops.fake_google import discovery
from tests.ops.fake_google.cloud import PROJECT, FakeGoogleCloud
from tests.ops.playbooks import Operator, customer

CLUSTER = f"v1/projects/{PROJECT}/locations/us-central1-a/clusters/momalisa"
VERTEX = f"v1/projects/{PROJECT}/locations/us-central1"
COMPUTE = f"compute/v1/projects/{PROJECT}"
# What is beyond the fake Google Cloud: images want a Docker engine, a release wants a cluster.
WITHOUT = ("--skip-tags", "build,push,release,overlay,services")
# What may stand in a project, and what of it a teardown leaves.
KEPT = {
    f"storage/v1/b/{PROJECT}-momalisa",
    f"storage/v1/b/{PROJECT}-momalisa-backups",
    f"{COMPUTE}/zones/us-central1-a/disks/momalisa-data",
}
STANDING = KEPT | {
    CLUSTER,
    f"{CLUSTER}/nodePools/gpu",
    f"{VERTEX}/endpoints/momalisa",
    f"{VERTEX}/models/momalisa-0-1-0",
    f"{VERTEX}/repositories/momalisa",
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
    return customer(google, tmp_path)


def bodies(google: FakeGoogleCloud, verb: str) -> list[Any]:
    """What was sent to one of Google's methods."""
    return [request.body for request in google.changes if request.call.id == verb]


def test_a_cluster_is_made_once_and_mended_where_it_was_broken(google: FakeGoogleCloud, operator: Operator) -> None:
    """A playbook that is run again must change nothing, and must put back what somebody took away."""
    dry = operator.play("deploy-k8s-cluster.yml", "--check", "--diff", *WITHOUT)
    assert dry.code == 0, dry.why
    assert "Have the cluster" in dry.changed
    assert google.changes == []

    first = operator.play("deploy-k8s-cluster.yml", *WITHOUT)
    assert first.code == 0, first.why
    the_cluster_is_as_it_must_be(google)

    again = operator.play("deploy-k8s-cluster.yml", *WITHOUT)
    assert (again.code, again.changed) == (0, []), again.why

    google.forget(f"{CLUSTER}/nodePools/gpu")
    google.things[CLUSTER]["addonsConfig"].pop("gcsFuseCsiDriverConfig")
    dry = operator.play("deploy-k8s-cluster.yml", "--check", "--diff", "--tags", "always,cluster")
    assert dry.changed == ["Have the cluster", "Have its pools"]
    assert "gcsFuseCsiDriverConfig" in str([result["diff"] for name, result in dry.tasks if name == "Have the cluster"])
    mended = operator.play("deploy-k8s-cluster.yml", "--tags", "always,cluster")
    assert mended.changed == dry.changed
    (update,) = bodies(google, "container.projects.locations.clusters.update")
    assert list(update["update"]) == ["desiredAddonsConfig"]
    every_addon_is_named(update["update"]["desiredAddonsConfig"])

    grown = operator.play("deploy-k8s-cluster.yml", "--tags", "always,cluster", gke_cluster_gpu_nodes_max=9)
    assert grown.changed == ["Have its pools"]
    assert google.things[f"{CLUSTER}/nodePools/gpu"]["autoscaling"]["totalMaxNodeCount"] == 9

    stuck = operator.play(
        "deploy-k8s-cluster.yml", "--tags", "always,cluster", gke_cluster_gpu_machine_type="g2-standard-8"
    )
    assert stuck.code == 2
    assert "cannot be changed in place" in stuck.text


def the_cluster_is_as_it_must_be(google: FakeGoogleCloud) -> None:
    (created,) = bodies(google, "container.projects.locations.clusters.create")
    cluster = created["cluster"]
    every_addon_is_named(cluster["addonsConfig"])
    assert cluster["addonsConfig"]["httpLoadBalancing"] == {"disabled": False}
    assert cluster["workloadIdentityConfig"] == {"workloadPool": f"{PROJECT}.svc.id.goog"}
    assert cluster["networkConfig"]["gatewayApiConfig"] == {"channel": "CHANNEL_STANDARD"}
    (pool,) = bodies(google, "container.projects.locations.clusters.nodePools.create")
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
    assert node["spot"] is True
    (accelerator,) = node["accelerators"]
    assert accelerator["gpuDriverInstallationConfig"] == {"gpuDriverVersion": "LATEST"}
    assert (accelerator["acceleratorType"], accelerator["acceleratorCount"]) == ("nvidia-l4", "1")
    what_it_stands_on_is_as_it_must_be(google)


def what_it_stands_on_is_as_it_must_be(google: FakeGoogleCloud) -> None:
    for bucket in bodies(google, "storage.buckets.insert"):
        assert bucket["iamConfiguration"] == {
            "uniformBucketLevelAccess": {"enabled": True},
            "publicAccessPrevention": "enforced",
        }
    assert google.things[f"storage/v1/b/{PROJECT}-momalisa"]["lifecycle"] == {"rule": []}
    pods = "principal://iam.googleapis.com/projects/123456789/locations/global/workloadIdentityPools"
    assert google.policies[f"storage/v1/b/{PROJECT}-momalisa"]["bindings"] == [
        {"role": "roles/storage.objectUser", "members": [f"{pods}/{PROJECT}.svc.id.goog/subject/ns/momalisa/sa/api"]}
    ]
    (database,) = bodies(google, "sql.instances.insert")
    assert database["settings"]["backupConfiguration"]["pointInTimeRecoveryEnabled"] is True
    assert database["settings"]["ipConfiguration"]["ipv4Enabled"] is False
    (user,) = bodies(google, "sql.users.insert")
    assert len(user["password"]) == 40


def every_addon_is_named(config: dict[str, Any]) -> None:
    """Naming one alone switches others off, HTTP load balancing among them."""
    assert config.keys() == discovery.api("container", "v1").fields("AddonsConfig")


def test_no_secret_is_shown(google: FakeGoogleCloud, operator: Operator) -> None:
    """What a playbook prints ends in tickets and in CI's logs."""
    played = operator.play("deploy-k8s-cluster.yml", "-vvv", "--tags", "always,database")
    assert played.code == 0, played.why
    (user,) = bodies(google, "sql.users.insert")
    assert user["password"] not in played.text
    (version,) = bodies(google, "secretmanager.projects.secrets.addVersion")
    assert version["payload"]["data"] not in played.text


def test_a_vm_is_made_once_and_its_disk_outlives_it(google: FakeGoogleCloud, operator: Operator) -> None:
    """The pictures and the catalogue are on that disk."""
    first = operator.play("deploy-create-instance.yml", *WITHOUT, momalisa_vm_answers=False)
    assert first.code == 0, first.why
    (instance,) = bodies(google, "compute.instances.insert")
    boot, data = instance["disks"]
    assert (boot["autoDelete"], data["autoDelete"]) == (True, False)
    assert boot["initializeParams"]["sourceImage"] == "projects/debian-cloud/global/images/family/debian-13"
    assert instance["networkInterfaces"][0]["accessConfigs"] == [{"type": "ONE_TO_ONE_NAT", "natIP": "192.0.2.20"}]

    assert instance["metadata"]["items"][0] == {"key": "ssh-keys", "value": "debian:ssh-ed25519 AAAA made up"}

    google.forget(f"{COMPUTE}/zones/us-central1-a/instances/momalisa")
    again = operator.play("deploy-create-instance.yml", *WITHOUT, momalisa_vm_answers=False)
    assert again.changed == ["Have the instance"], again.why
    gone = operator.play("deploy-create-instance.yml", momalisa_state="absent")
    assert gone.changed == ["Have the instance", "Have no address"], gone.why
    assert f"{COMPUTE}/zones/us-central1-a/disks/momalisa-data" in google.things


def test_a_vertex_endpoint_is_dedicated_and_follows_the_image(google: FakeGoogleCloud, operator: Operator) -> None:
    """The shared endpoint ends calls after a minute."""
    first = operator.play("deploy-vertex-endpoint.yml")
    assert first.code == 0, first.why
    (endpoint,) = bodies(google, "aiplatform.projects.locations.endpoints.create")
    assert endpoint["dedicatedEndpointEnabled"] is True
    assert endpoint["clientConnectionConfig"] == {"inferenceTimeout": "1800s"}
    again = operator.play("deploy-vertex-endpoint.yml")
    assert (again.code, again.changed) == (0, []), again.why

    newer = operator.play("deploy-vertex-endpoint.yml", momalisa_image_tag="0.2.0")
    assert newer.changed == ["Have the model", "Have the model stand at it", "Have nothing else stand there"], newer.why
    (standing,) = google.things[f"{VERTEX}/endpoints/momalisa"]["deployedModels"]
    assert standing["model"].endswith("/models/momalisa-0-2-0")


def test_a_teardown_asks_and_keeps_what_was_made(google: FakeGoogleCloud, operator: Operator) -> None:
    """Frames cost GPU hours; nobody may lose them to a slip."""
    for path in STANDING:
        google.things[path] = {"name": path.rpartition("/")[2]}
    google.things[f"{VERTEX}/endpoints/momalisa"]["deployedModels"] = [{"id": "1", "model": "models/momalisa-0-1-0"}]
    google.things[f"{COMPUTE}/global/firewalls/momalisa-web"]["network"] = (
        f"projects/{PROJECT}/global/networks/momalisa"
    )
    refused = operator.play("teardown.yml", teardown_sure="no")
    assert refused.code == 2
    assert CLUSTER in google.things

    assert operator.play("teardown.yml", teardown_sure="yes").code == 0
    assert set(google.things) == KEPT
    again = operator.play("teardown.yml", teardown_sure="yes")
    assert (again.code, again.changed) == (0, []), again.why
    assert operator.play("teardown.yml", teardown_sure="yes", teardown_data=True).code == 0
    assert google.things == {}
