"""What the playbooks hand to kustomize and to nginx, read by kustomize and nginx themselves."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.nginx import NGINX, read_by_nginx
from tests.ops.authority import certificate
from tests.ops.google import PROJECT, Google
from tests.ops.playbooks import DEPLOYMENT, Operator, customer


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with Google().running(tmp_path) as google:
        yield customer(google, tmp_path)


def test_a_release_is_the_overlay_with_what_is_ours(operator: Operator, tmp_path: Path) -> None:
    """An image or a bucket that is still somebody's example would be found out by the cluster, half an hour later."""
    folder = DEPLOYMENT.parent / ".run" / "overlay-tried"
    played = operator.play(
        "deploy-k8s-cluster.yml", "--tags", "overlay", momalisa_database="in-cluster", k8s_release_folder=str(folder)
    )
    assert played.code == 0, played.why
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    things = [thing for thing in yaml.safe_load_all(built.stdout) if thing]
    pods = [thing["spec"]["template"]["spec"] for thing in things if "template" in thing.get("spec", {})]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    home = f"us-central1-docker.pkg.dev/{PROJECT}/momalisa"
    assert images - {f"{home}/frontend:0.1.0", f"{home}/api:0.1.0", f"{home}/model:0.1.0-cuda"} == {
        image for image in images if image.startswith("postgres:")
    }
    assert "your-" not in built.stdout
    assert f"gs://{PROJECT}-momalisa" in built.stdout
    assert any(thing["kind"] == "StatefulSet" for thing in things)


def version() -> tuple[int, ...]:
    """Of the nginx that is here."""
    assert NGINX, "no nginx here; install one: apt-get install nginx-light"
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
