"""Single steps of the release on Kubernetes, each run alone against a fake cluster."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ops.fake_kubernetes.cluster import FakeCluster
from tests.ops.k8s.kustomize import Manifest, build
from tests.ops.playbooks import DEPLOYMENT, Operator, PlaybookRun

KEDA: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keda", "namespace": "momalisa"}}


class ReleaseTasks:
    """The task files of the role k8s_release, run without Google Cloud and without the rest of the playbook."""

    # Not warm: the modules for Kubernetes start as they do for operators.
    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self._operator = Operator(folder, TMPDIR=str(folder))

    def play(self, tasks: str, *arguments: str, **variables: Any) -> PlaybookRun:
        role = {"name": "k8s_release", "tasks_from": tasks}
        steps = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}]
        (self._folder / "play.yml").write_text(yaml.safe_dump(steps))
        kubeconfig = str(self._folder / "cluster" / "kubeconfig")
        given = {"k8s_release_kubeconfig": kubeconfig, "momalisa_recipes": []} | variables
        return self._operator.play(str(self._folder / "play.yml"), *arguments, **given)

    def secret(self) -> dict[str, str]:
        data = self.cluster.objects["momalisa/Secret/momalisa-database"]["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}


@pytest.fixture
def release(tmp_path: Path) -> Iterator[ReleaseTasks]:
    (tmp_path / "cluster").mkdir()
    with FakeCluster(build(DEPLOYMENT.parent / "k8s/overlays/gke")).running(tmp_path / "cluster") as cluster:
        namespace = {"name": "momalisa"}
        cluster.objects["/Namespace/momalisa"] = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}
        yield ReleaseTasks(cluster, tmp_path)


def test_the_password_of_the_database_in_the_cluster_stays(release: ReleaseTasks) -> None:
    """Its volume was initialized with it. If the secret changed, nobody could sign in again."""
    assert release.play("secret").code == 0
    first = release.secret()
    other = release.play("secret", k8s_release_database_password="another")
    assert other.code == 2
    assert "not the password of the PostgreSQL in the cluster" in other.error
    assert release.secret() == first
    assert first["password"] not in other.text

    external = {"k8s_release_database_host": "192.0.2.40", "k8s_release_database_password": "cloud"}
    assert release.play("secret", **external).code == 0
    assert release.secret() == first | {"url": "postgresql://momalisa:cloud@192.0.2.40/momalisa"}


def test_absent_waits_until_the_disks_are_deleted(release: ReleaseTasks) -> None:
    """They would remain, and cost money, after the cluster is deleted."""
    claim = {"namespace": "momalisa", "name": "data-postgres-0"}
    specs = {
        "disk": {"claimRef": claim, "persistentVolumeReclaimPolicy": "Delete"},
        "kept": {"claimRef": claim, "persistentVolumeReclaimPolicy": "Retain"},
        "free": {"persistentVolumeReclaimPolicy": "Delete"},
    }
    for name, spec in specs.items():
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
        release.cluster.objects[f"/PersistentVolume/{name}"] = volume
    waited = release.play("absent", k8s_release_wait_s=1, k8s_release_poll_s=1)
    assert waited.error.startswith("Wait until the disks are deleted")


def test_a_keda_of_another_tool_is_left_alone(release: ReleaseTasks, tmp_path: Path) -> None:
    """Forcing our fields would break an installation that Helm updates."""
    key = "momalisa/ConfigMap/keda"
    installed = KEDA | {"data": {"version": "2.21"}}
    release.cluster.objects[key], release.cluster.owners[key] = installed, "helm"
    (tmp_path / "keda.yaml").write_text(yaml.safe_dump(KEDA | {"data": {"version": "2.20"}}))
    conflict = release.play("main", "--tags", "keda", k8s_release_keda=str(tmp_path / "keda.yaml"))
    assert conflict.code == 2
    assert "-e k8s_release_keda=''" in conflict.error
    assert 'conflict with \\"helm\\"' in conflict.error
    assert release.cluster.objects[key] == installed


def test_a_migration_that_waits_for_its_database_names_the_databases_pod(release: ReleaseTasks) -> None:
    """The migration itself has no error then, and no log."""
    metadata = {
        "name": "postgres-0",
        "namespace": "momalisa",
        "labels": {"app.kubernetes.io/component": "postgres"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "postgres"}]}}
    release.cluster.objects["momalisa/Pod/postgres-0"] = pod | {"status": {"phase": "Pending"}}
    failed = release.play("wait", k8s_release_manifests=[], k8s_release_wait_s=1)
    assert failed.code == 2
    assert "\nPod postgres-0 is not ready. The end of its log:\nlog of postgres-0\n" in failed.error


def test_a_cluster_without_keda_has_none_of_its_resources_to_delete(tmp_path: Path) -> None:
    """With an overlay without autoscaling, the release would fail at its last step."""
    (tmp_path / "cluster").mkdir()
    key, labels = "momalisa/ConfigMap/old", {"app.kubernetes.io/part-of": "momalisa"}
    with FakeCluster(build(DEPLOYMENT.parent / "k8s/overlays/local")).running(tmp_path / "cluster") as cluster:
        metadata = {"name": "old", "namespace": "momalisa", "labels": labels}
        cluster.objects[key] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        pruned = ReleaseTasks(cluster, tmp_path).play("prune", k8s_release_manifests=[])
    assert pruned.code == 0, pruned.error
    assert key not in cluster.objects
