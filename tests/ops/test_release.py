"""The release on Kubernetes: what the playbook gives to kustomize, and what it does to a fake cluster."""

import base64
import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from momalisa_api import __version__
from tests.ops.fake_google.cloud import PROJECT, FakeGoogleCloud
from tests.ops.fake_kubernetes.cluster import FakeCluster
from tests.ops.fake_kubernetes.controllers import ADDRESS, condition
from tests.ops.fake_kubernetes.kinds import CLUSTER_WIDE
from tests.ops.k8s.kustomize import Manifest, build, build_with, tool
from tests.ops.k8s.rules import violations
from tests.ops.playbooks import DEPLOYMENT, Operator, PlaybookRun, google_operator

# The beginning of KEDA's own manifests: just enough to define its resource type.
KEDA: list[Manifest] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}},
    {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {"kind": "ScaledObject", "plural": "scaledobjects"},
            "versions": [{"name": "v1alpha1", "served": True, "storage": True}],
        },
    },
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "keda-operator", "namespace": "keda"},
        "spec": {
            "selector": {"matchLabels": {"app": "keda-operator"}},
            "template": {
                "metadata": {"labels": {"app": "keda-operator"}},
                "spec": {"containers": [{"name": "keda-operator", "image": "keda"}]},
            },
        },
    },
]


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with FakeGoogleCloud().running(tmp_path) as google:
        yield google_operator(google, tmp_path)


def test_a_release_replaces_all_example_names_in_the_overlay(operator: Operator) -> None:
    """An image or bucket that kept its example name would fail in the cluster, half an hour later."""
    folder = DEPLOYMENT.parent / ".run" / "overlay-test"
    words = operator.folder / "words.txt"
    words.write_text("haystack\n")
    played = operator.play(
        *("deploy-k8s-cluster.yml", "--tags", "overlay"),
        momalisa_database="in-cluster",
        k8s_release_folder=str(folder),
        k8s_release_namespace="museum",
        momalisa_settings={"MOMALISA_MAX_FRAMES": 121},
        momalisa_blocklist=str(words),
        k8s_release_smtp_password="hush",
    )
    assert played.code == 0, played.error
    built = subprocess.run([*tool(), str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(built.stdout) if manifest]
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests if "template" in manifest.get("spec", {})]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    home = f"us-central1-docker.pkg.dev/{PROJECT}/momalisa"
    assert images - {
        f"{home}/frontend:{__version__}",
        f"{home}/api:{__version__}",
        f"{home}/model:{__version__}",
        f"{home}/model:{__version__}-cuda",
    } == {image for image in images if image.startswith("postgres:")}
    assert "your-" not in built.stdout
    assert f"gs://{PROJECT}-momalisa" in built.stdout
    assert any(manifest["kind"] == "StatefulSet" for manifest in manifests)
    data = {name: text for found in manifests for name, text in found.get("data", {}).items()}
    assert (data["MOMALISA_MAX_FRAMES"], data["blocklist.txt"]) == ("121", "haystack\n")
    assert (data["MOMALISA_SMTP_PASSWORD_FILE"], "hush" in built.stdout) == ("/etc/momalisa-smtp/password", False)
    # The first one is the default of requests.
    assert data["MOMALISA_MODELS"] == "flux2-klein-4b atelier"
    assert f"volumeHandle: {PROJECT}-momalisa-weights" in built.stdout
    assert {manifest["metadata"].get("namespace", "museum") for manifest in manifests} == {"museum"}
    assert violations(manifests) == []
    assert "http://api.museum:8000/metrics" in built.stdout


class ReleasePlaybook:
    """The release part of the playbook, with PostgreSQL in the cluster and all its files in `folder`."""

    def __init__(self, google: FakeGoogleCloud, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self._operator = google_operator(google, folder, TMPDIR=str(folder))
        self.overlay = folder / "overlay"
        (folder / "keda.yaml").write_text(yaml.safe_dump_all(KEDA))
        self._options = {
            "momalisa_database": "in-cluster",
            "k8s_release_kubeconfig": str(folder / "cluster" / "kubeconfig"),
            "k8s_release_folder": str(self.overlay),
            "k8s_release_keda": str(folder / "keda.yaml"),
            "k8s_release_wait_s": 20,
        }

    def play(self, *arguments: str, **variables: Any) -> PlaybookRun:
        return self._operator.play(
            "deploy-k8s-cluster.yml", "--tags", "always,overlay,release", *arguments, **self._options | variables
        )

    def secret(self) -> dict[str, str]:
        data = self.cluster.objects["momalisa/Secret/momalisa-database"]["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}


@pytest.fixture
def release(tmp_path: Path) -> Iterator[ReleasePlaybook]:
    manifests = build_with(tmp_path, ["nodes-l4"], ["flux2-klein-4b"], "overlays/gke")
    manifests += build_with(tmp_path, ["in-cluster-postgres"])
    (tmp_path / "cluster").mkdir()
    kinds = [manifest for manifest in manifests if manifest["kind"] != "ScaledObject"]
    with FakeGoogleCloud().running(tmp_path) as google, FakeCluster(kinds).running(tmp_path / "cluster") as cluster:
        yield ReleasePlaybook(google, cluster, tmp_path)


def key_of(manifest: Manifest) -> str:
    """A manifest's key in FakeCluster.objects. kustomize does not know that compute classes have no namespace."""
    namespace = "" if manifest["kind"] in CLUSTER_WIDE else manifest["metadata"]["namespace"]
    return "/".join((namespace, manifest["kind"], manifest["metadata"]["name"]))


def config_map(name: str, labels: dict[str, str]) -> Manifest:
    metadata = {"name": name, "namespace": "momalisa", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def waiting_pod(name: str, uses: str) -> Manifest:
    """A pod of an earlier release that is not replaced yet, and mounts a ConfigMap."""
    metadata = {"name": name, "namespace": "momalisa", "labels": {}}
    spec = {"containers": [], "volumes": [{"name": "card", "configMap": {"name": uses}}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _replace_by_a_newer_tag(release: ReleasePlaybook) -> None:
    """It migrates again, and waits for new pods.

    A Deployment stays Available with its old pods, so that condition does not show that the rollout is complete. Nor
    does it count that an earlier rollout was stuck. What the new release no longer has is deleted.
    """
    cluster = release.cluster
    of_release = {"app.kubernetes.io/part-of": "momalisa"}
    cluster.objects |= {
        "momalisa/ConfigMap/own": config_map("own", {}),
        "momalisa/ConfigMap/api-settings-old": config_map("api-settings-old", of_release),
        "momalisa/ConfigMap/model-card-old": config_map("model-card-old", of_release),
        "momalisa/Pod/old-model": waiting_pod("old-model", uses="model-card-old"),
        # Before there were several models, their Deployment was named model.
        "momalisa/Deployment/model": copy.deepcopy(cluster.objects["momalisa/Deployment/model-atelier"]),
    }
    cluster.objects["momalisa/Deployment/model"]["metadata"]["name"] = "model"
    cluster.controllers.observations_left["model"] = 0
    stuck = cluster.objects["momalisa/Deployment/web"]["status"]["conditions"]
    stuck.append(condition("Progressing", "False", "ProgressDeadlineExceeded"))
    done = len(cluster.changes)
    dry = release.play("--check", momalisa_image_tag="0.2.0", momalisa_models=["atelier"])
    assert dry.changed == ["Write the overlay", "Delete the previous Job", "Apply the manifests"]
    assert (dry.code, cluster.changes[done:]) == (0, []), dry.error

    cluster.controllers.rollout_observations = {"web": 4}
    secret = release.secret()
    newer = release.play(momalisa_image_tag="0.2.0", momalisa_models=["atelier"])
    assert newer.code == 0, newer.error
    assert f"MoMALisa is at http://{ADDRESS}" in newer.text
    assert cluster.controllers.observations_left["web"] == 0
    changes = [(method, key.partition("/")[2]) for method, key in cluster.changes[done:]]
    applied = [key for method, key in changes if method != "DELETE" and "ConfigMap/" not in key]
    assert changes[0] == ("DELETE", "Job/migrate")
    assert applied == [
        *[f"Deployment/{name}" for name in ("frontend", "model-atelier", "web", "worker")],
        "Job/migrate",
        "Gateway/momalisa",
        "HTTPRoute/momalisa",
    ]
    deleted = {key for method, key in changes[1:] if method == "DELETE"}
    assert {key for key in deleted if "ConfigMap/api-settings-" not in key} == {
        "HTTPRoute/redirect",
        "Deployment/model",
        *(f"{kind}/model-flux2-klein-4b" for kind in ("Deployment", "PodDisruptionBudget", "ScaledObject")),
        "Job/fetch-flux2-klein-4b",
    }
    assert "ConfigMap/api-settings-old" in deleted
    assert release.secret() == secret


def test_a_release_is_made_once_replaced_by_a_newer_one_and_removed(release: ReleasePlaybook) -> None:
    """One story, because each run of the playbook takes half a minute."""
    cluster = release.cluster
    # All the while, KEDA's API for metrics does not answer; a deleted namespace then stays, and who waited for that
    # would wait for ever.
    cluster.kinds.unanswered = {"external.metrics.k8s.io/v1beta1"}
    dry = release.play("--check")
    assert (dry.code, dry.changed[-1], cluster.changes) == (0, "Create the namespace", []), dry.error

    first = release.play("-vvv", momalisa_domain="momalisa.example.org")
    assert first.code == 0, first.error
    assert {key_of(manifest) for manifest in build(release.overlay)} < set(cluster.objects)
    assert "momalisa/HTTPRoute/redirect" in cluster.objects
    secret = release.secret()
    assert secret["url"] == f"postgresql://momalisa:{secret['password']}@postgres/momalisa"
    assert len(secret["password"]) == 40
    assert secret["password"] not in first.text

    done = len(cluster.changes)
    again = release.play(momalisa_domain="momalisa.example.org")
    assert (again.code, again.changed, cluster.changes[done:]) == (0, [], []), again.error

    _replace_by_a_newer_tag(release)

    removed = release.play(momalisa_state="absent")
    assert removed.changed == ["Delete MoMALisa from the cluster", "Delete the kubeconfig"], removed.error
    # What belongs to the whole cluster is deleted with it.
    left = {key for key in cluster.objects if "momalisa" in key}
    assert left == {"/Namespace/momalisa", "/PersistentVolume/momalisa-weights", "/ComputeClass/momalisa-l4"}


def test_a_failed_release_says_what_failed_and_where_to_look(release: ReleasePlaybook) -> None:
    """A playbook that reports success, or fails without a reason, would leave the operator searching."""
    controllers = release.cluster.controllers
    controllers.failing = {"migrate"}
    failed = release.play(k8s_release_database_password="p@ss/word")
    assert failed.code == 2
    assert "log of migrate-3" in failed.error
    assert "Error: exit status 1" in failed.error
    assert release.secret()["url"] == "postgresql://momalisa:p%40ss%2Fword@postgres/momalisa"

    # The same release again: it must replace the failed Job.
    controllers.failing, controllers.gateways_work = set(), False
    del release.cluster.objects["momalisa/Gateway/momalisa"]
    without_address = release.play(k8s_release_wait_s=1)
    assert without_address.code == 2
    assert "its Gateway has no address" in without_address.error

    controllers.stuck, controllers.rollout_observations = {"worker"}, {"frontend": 1_000_000}
    stuck = release.play(momalisa_image_tag="0.2.0", k8s_release_wait_s=8)
    assert stuck.code == 2
    assert "Not all pods of frontend, worker are new and ready" in stuck.error
    for name in ("frontend", "worker"):
        assert f"\nPod {name}-2-0 is not ready" in stuck.error
        assert f"log of {name}-2-0" in stuck.error
    assert "Back-off restarting failed container" in stuck.error


@pytest.mark.parametrize(("installed", "found"), [("", "none"), ("v1.20.5", "1.20")])
def test_a_release_without_a_recent_kubectl_stops_before_anything_else(
    tmp_path: Path, installed: str, found: str
) -> None:
    """The playbook needs it only after the cluster is created, twenty minutes later."""
    if installed:
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(f"""#!/bin/sh\necho '{{"clientVersion": {{"gitVersion": "{installed}"}}}}'\n""")
        kubectl.chmod(0o755)
    with FakeGoogleCloud().running(tmp_path) as google:
        played = google_operator(google, tmp_path, PATH=str(tmp_path)).play("deploy-k8s-cluster.yml")
        assert played.code == 2
        assert f"needs kubectl 1.27 or newer on this machine; found: {found}" in played.error
        assert google.changes == []
