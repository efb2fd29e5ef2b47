"""What the playbooks hand to kustomize and to nginx, read by kustomize and nginx themselves, and what they do to a
made-up Kubernetes."""

import base64
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from momalisa_api import __version__
from tests.nginx import NGINX, read_by_nginx
from tests.ops.certificates import certificate
from tests.ops.fake_google.cloud import PROJECT, FakeGoogleCloud
from tests.ops.fake_kubernetes.cluster import FakeCluster
from tests.ops.fake_kubernetes.controllers import ADDRESS
from tests.ops.k8s.kustomize import Manifest, build, build_with, tool
from tests.ops.playbooks import DEPLOYMENT, Operator, PlaybookRun, customer

# As KEDA's own manifests begin, and no more of them than makes its kind known.
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
        yield customer(google, tmp_path)


def test_a_release_is_the_overlay_with_what_is_ours(operator: Operator, tmp_path: Path) -> None:
    """An image or a bucket that is still somebody's example would be found out by the cluster, half an hour later."""
    folder = DEPLOYMENT.parent / ".run" / "overlay-tried"
    played = operator.play(
        "deploy-k8s-cluster.yml", "--tags", "overlay", momalisa_database="in-cluster", k8s_release_folder=str(folder)
    )
    assert played.code == 0, played.why
    built = subprocess.run([*tool(), str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    things = [thing for thing in yaml.safe_load_all(built.stdout) if thing]
    pods = [thing["spec"]["template"]["spec"] for thing in things if "template" in thing.get("spec", {})]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    home = f"us-central1-docker.pkg.dev/{PROJECT}/momalisa"
    assert images - {
        f"{home}/frontend:{__version__}",
        f"{home}/api:{__version__}",
        f"{home}/model:{__version__}-cuda",
    } == {image for image in images if image.startswith("postgres:")}
    assert "your-" not in built.stdout
    assert f"gs://{PROJECT}-momalisa" in built.stdout
    assert any(thing["kind"] == "StatefulSet" for thing in things)


class Release:
    """The playbook's part that speaks to a cluster, with PostgreSQL in it and its folders in `folder`."""

    def __init__(self, google: FakeGoogleCloud, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self._operator = customer(google, folder, TMPDIR=str(folder))
        self.overlay = folder / "overlay"
        (folder / "keda.yaml").write_text(yaml.safe_dump_all(KEDA))
        self._options = {
            "momalisa_database": "in-cluster",
            "k8s_release_kubeconfig": str(folder / "cluster" / "kubeconfig"),
            "k8s_release_folder": str(self.overlay),
            "k8s_release_keda": str(folder / "keda.yaml"),
            "k8s_release_wait_s": 20,
            "k8s_release_pause_s": 1,
        }

    def play(self, *arguments: str, **variables: Any) -> PlaybookRun:
        return self._operator.play(
            "deploy-k8s-cluster.yml", "--tags", "always,overlay,release", *arguments, **self._options | variables
        )

    def secret(self) -> dict[str, str]:
        held = self.cluster.things["momalisa/Secret/momalisa-database"]["data"]
        return {name: base64.b64decode(value).decode() for name, value in held.items()}


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    manifests = build(DEPLOYMENT.parent / "k8s/overlays/gke") + build_with(tmp_path, ["in-cluster-postgres"])
    (tmp_path / "cluster").mkdir()
    kinds = [manifest for manifest in manifests if manifest["kind"] != "ScaledObject"]
    with FakeGoogleCloud().running(tmp_path) as google, FakeCluster(kinds).running(tmp_path / "cluster") as cluster:
        yield Release(google, cluster, tmp_path)


def name_of(manifest: Manifest) -> str:
    """As a cluster keeps it."""
    return "/".join((manifest["metadata"].get("namespace", ""), manifest["kind"], manifest["metadata"]["name"]))


def test_a_release_is_made_once_and_goes_again(release: Release) -> None:
    """A second run changes nothing, a look beforehand even less, and nobody reads the password."""
    cluster = release.cluster
    looked = release.play("--check")
    assert (looked.code, looked.changed[-1], cluster.changes) == (0, "Have the namespace", []), looked.why

    first = release.play("-vvv")
    assert first.code == 0, first.why
    assert f"MoMALisa is at http://{ADDRESS}" in first.text
    assert {name_of(manifest) for manifest in build(release.overlay)} < set(cluster.things)
    secret = release.secret()
    assert secret["url"] == f"postgresql://momalisa:{secret['password']}@postgres/momalisa"
    assert len(secret["password"]) == 40
    assert secret["password"] not in first.text

    done = len(cluster.changes)
    again = release.play()
    assert (again.code, again.changed, cluster.changes[done:]) == (0, [], []), again.why
    gone = release.play(momalisa_state="absent")
    assert gone.changed == ["Have no MoMALisa in it", "Have no kubeconfig"], gone.why
    assert not [key for key in cluster.things if "momalisa" in key]


def test_a_new_tag_migrates_anew_and_waits_for_new_pods(release: Release) -> None:
    """A Deployment stays Available by its old pods, so that it can be called through before it has begun."""
    cluster = release.cluster
    assert release.play().code == 0
    done = len(cluster.changes)
    looked = release.play("--check", momalisa_image_tag="0.2.0")
    assert looked.changed == ["Write it", "Have it gone otherwise, for a Job cannot be changed", "Have all of it"]
    assert (looked.code, cluster.changes[done:]) == (0, []), looked.why

    cluster.controllers.looks = {"web": 4}
    secret = release.secret()
    newer = release.play(momalisa_image_tag="0.2.0")
    assert newer.code == 0, newer.why
    assert cluster.controllers.left["web"] == 0
    assert [(method, key.partition("/")[2]) for method, key in cluster.changes[done:]] == [
        ("DELETE", "Job/migrate"),
        *[("PATCH", f"Deployment/{name}") for name in ("frontend", "model", "web", "worker")],
        ("POST", "Job/migrate"),
    ]
    assert release.secret() == secret


def test_what_does_not_come_through_is_named(release: Release) -> None:
    """What to look at next, instead of a playbook that ends well, or for no reason that it could tell."""
    controllers = release.cluster.controllers
    controllers.failing = {"migrate"}
    failed = release.play()
    assert failed.code == 2
    assert "kubectl -n momalisa logs job/migrate" in failed.why

    # The same release again: the Job that failed is in its way.
    controllers.failing, controllers.gateways = set(), False
    del release.cluster.things["momalisa/Gateway/momalisa"]
    homeless = release.play(k8s_release_wait_s=1)
    assert homeless.code == 2
    assert "its Gateway has no address" in homeless.why

    controllers.stuck, controllers.looks = {"worker"}, {"frontend": 1_000_000}
    stuck = release.play(momalisa_image_tag="0.2.0", k8s_release_database_password="p@ss/word")
    assert stuck.code == 2
    assert "Not all pods of frontend, worker are new and ready" in stuck.why
    assert release.secret()["url"] == "postgresql://momalisa:p%40ss%2Fword@postgres/momalisa"


def version() -> tuple[int, ...]:
    """Of the nginx that is here."""
    assert NGINX, "no nginx here: make system-packages installs it"
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(int(part) for part in re.findall(r"\d+", said)[:3])


@pytest.mark.parametrize("domain", ["", "momalisa.example.org"])
def test_nginx_takes_the_door(tmp_path: Path, domain: str) -> None:
    """A door that nginx refuses leaves the old one, or none."""
    template = (DEPLOYMENT / "roles/webserver/templates/momalisa.conf.j2").read_text()
    door = (
        jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
        .from_string(template)
        .render(
            ansible_managed="made up",
            webserver_domain=domain,
            webserver_certified=bool(domain),
            webserver_upstream="127.0.0.1:8080",
        )
    )
    if version() < (1, 25, 1):
        # Debian 13's nginx takes it; this one does not know the word.
        door = door.replace("http2 on;", "")
    held = certificate(tmp_path)
    for name in ("fullchain", "privkey"):
        door = door.replace(f"/etc/letsencrypt/live/{domain}/{name}.pem", str(held))
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{door}\n}}\n")
    done = read_by_nginx(whole)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
