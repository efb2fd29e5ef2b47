"""The VM's playbooks over SSH, with real images from a real registry: `make test-vm`. Too slow for `make test`."""

import io
import json
import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.ops.base_images import POSTGRES, provide_base_images, torch_index
from tests.ops.certificates import certificate
from tests.ops.debian_host import USER, DebianHost, debian_host
from tests.ops.docker_engine import docker_engine
from tests.ops.playbooks import Operator, PlaybookRun
from tests.support.client import Client
from tests.support.processes import free_port, start, wait_until

pytestmark = pytest.mark.skipif(
    os.environ.get("MOMALISA_SKIP_CONTAINERS") == "1", reason="MOMALISA_SKIP_CONTAINERS=1: the VM is not tested"
)

DOMAIN = "museum.test"
WALK = {"start": "a red sunburst on yellow", "end": "blue waves", "frames": 5, "spacing": "uniform"}
# The port of pebble, the ACME server, on the host.
ACME = 14_000


@dataclass
class DeployedHost:
    """A host with MoMALisa, and an operator who runs playbooks against it."""

    host: DebianHost
    operator: Operator
    inventory: Path
    variables: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://{self.host.address}"

    def play(self, playbook: str, *arguments: str, **variables: Any) -> PlaybookRun:
        """Run a playbook, which must succeed."""
        self.inventory.write_text(json.dumps(self._inventory()))
        played = self.operator.play(
            playbook, "-i", "inventory", "-i", str(self.inventory), *arguments, **(self.variables | variables)
        )
        assert played.code == 0, played.error
        return played

    def _inventory(self) -> dict[str, Any]:
        host = {
            "ansible_host": self.host.address,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.host.key),
            "ansible_ssh_common_args": " ".join(self.host.options),
        }
        return {"all": {"children": {"momalisa_vm": {"hosts": {"museum": host}}}}}


@contextmanager
def registry(folder: Path) -> Iterator[int]:
    """A registry on localhost, where engines accept plain HTTP. Yields its port."""
    program = shutil.which("docker-registry")
    assert program, "docker-registry is not installed: run make system-packages-vm"
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))
    with (folder / "registry.log").open("wb") as log:
        process = start([program, "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
        try:
            wait_until(lambda: _is_up(f"http://127.0.0.1:{port}/v2/"))
            yield port
        finally:
            process.terminate()
            process.wait(20)
            shutil.rmtree(folder / "registry", ignore_errors=True)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedHost]:
    """A new host after site-vm.yml."""
    folder = tmp_path_factory.mktemp("vm")
    with ExitStack() as stack:
        running = stack.enter_context(docker_engine())
        provide_base_images(running)
        index = stack.enter_context(torch_index(folder / "index"))
        port = stack.enter_context(registry(folder))
        host = stack.enter_context(debian_host(running, folder))
        repository = f"127.0.0.1:{port}/momalisa"
        running.docker("tag", POSTGRES, f"{repository}/postgres:17")
        running.docker("push", f"{repository}/postgres:17")
        variables = {
            "momalisa_use_google_vm": False,
            "momalisa_registry": repository,
            "docker_images_args": {"TORCH_INDEX": index} if index else {},
            # Builds need this machine's localhost for the torch index.
            "docker_images_network": "host",
            "containers_settings": {"POSTGRES_IMAGE": f"{repository}/postgres:17"},
        }
        operator = Operator(folder, **running.environment)
        site = DeployedHost(host, operator, folder / "host.yml", variables)
        with host.remote_forward(port):
            # A dry run reports changes and makes none.
            assert "Create Docker's data folder" in site.play("site-vm.yml", "--check", "--diff").changed
            assert host.try_command("test -e /etc/docker").returncode == 1
            assert f"MoMALisa is at {site.url}" in site.play("site-vm.yml").text
            yield site


def test_a_walk_completes_through_the_hosts_nginx(site: DeployedHost) -> None:
    """The complete path: the host's nginx, the frontend's nginx, the api, the queue and two replicas."""
    page = httpx.get(site.url + "/")
    assert "<title>MoMALisa" in page.text
    visitor = Client(site.url)
    walk = visitor.ended(visitor.request_walk(**WALK, seed=1))
    assert walk["state"] == "done", walk
    with Image.open(io.BytesIO(visitor.fetch(f"{walk['url']}/walk.gif"))) as film:
        assert film.n_frames == 2 * 5 - 2  # type: ignore[attr-defined]


def test_only_ssh_and_http_are_open(site: DeployedHost) -> None:
    """The containers listen on localhost only, and only root can read their settings."""
    listening = site.host.run("ss -Hltn | tr -s \\  | cut -d\\  -f 4").split()
    outside = {line.rpartition(":")[2] for line in listening if not line.startswith("127.")}
    assert outside == {"22", "80"}
    assert site.host.run("stat -c %a:%U /srv/momalisa/compose/.env").strip() == "600:root"


def test_a_second_run_changes_nothing(site: DeployedHost) -> None:
    """Neither a dry run nor a real run."""
    assert site.play("site-vm.yml", "--check", "--diff").changed == []
    assert site.play("site-vm.yml").changed == []


def test_a_restore_brings_back_the_backed_up_walks(site: DeployedHost) -> None:
    """With the timer's service and with the playbook for operators."""
    visitor = Client(site.url)
    before = visitor.ended(visitor.request_walk(**WALK, seed=2))
    site.host.run("systemctl start momalisa-backup")
    after = visitor.ended(visitor.request_walk(**WALK, seed=3))
    site.play("restore.yml")
    wait_until(lambda: visitor.awake() == 2)
    assert visitor.read(before)["state"] == "done"
    assert visitor.read(after)["status"] == 404
    assert "momalisa-backup.timer" in site.host.run("systemctl list-timers --no-pager")


def test_everything_restarts_after_a_power_cut(site: DeployedHost) -> None:
    """No operator signs in after a power cut."""
    visitor = Client(site.url)
    walk = visitor.ended(visitor.request_walk(**WALK, seed=4))
    site.host.power_cycle()
    visitor = Client(site.url)
    wait_until(lambda: visitor.awake() == 2)
    assert visitor.read(walk)["state"] == "done"
    assert visitor.ended(visitor.request_walk(**WALK, seed=5))["state"] == "done"


def test_a_domain_gets_a_certificate(site: DeployedHost, tmp_path: Path) -> None:
    """From an ACME server that validates the domain as Let's Encrypt does."""
    pem = certificate(tmp_path)
    settings = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{ACME}",
            "managementListenAddress": f"127.0.0.1:{ACME + 1}",
            "certificate": "/root/acme.pem",
            "privateKey": "/root/acme.pem",
            "httpPort": 80,
            "tlsPort": 443,
        }
    }
    (tmp_path / "pebble.json").write_text(json.dumps(settings))
    site.host.copy(pem, "/root/acme.pem")
    site.host.copy(tmp_path / "pebble.json", "/root/pebble.json")
    site.host.copy(tmp_path / "ca.pem", "/usr/local/share/ca-certificates/acme.crt")
    site.host.run("update-ca-certificates")
    site.host.run(f"echo 127.0.0.1 {DOMAIN} >> /etc/hosts")
    site.host.run("systemd-run --setenv=PEBBLE_VA_NOSLEEP=1 pebble -config /root/pebble.json")
    variables = {
        "momalisa_domain": DOMAIN,
        "momalisa_email": f"curator@{DOMAIN}",
        "webserver_acme_server": f"https://127.0.0.1:{ACME}/dir",
    }
    site.play("deploy-setup-webserver.yml", **variables)
    assert site.play("deploy-setup-webserver.yml", **variables).changed == []

    trusted = ssl.create_default_context(
        cadata=site.host.run(f"curl --silent --insecure https://127.0.0.1:{ACME + 1}/roots/0")
    )
    headers = {"Host": DOMAIN}
    with httpx.Client(verify=trusted, headers=headers) as visitor:
        page = visitor.get(f"https://{site.host.address}/", extensions={"sni_hostname": DOMAIN})
    assert "<title>MoMALisa" in page.text
    assert "max-age" in page.headers["strict-transport-security"]
    redirect = httpx.get(f"{site.url}/gallery", headers=headers)
    assert (redirect.status_code, redirect.headers["location"]) == (308, f"https://{DOMAIN}/gallery")


def test_absent_removes_the_containers_and_the_site(site: DeployedHost) -> None:
    """The data stay on their disk."""
    site.play("deploy-setup-containers.yml", momalisa_state="absent")
    site.play("deploy-setup-webserver.yml", momalisa_state="absent")
    assert site.host.run("docker ps --quiet").split() == []
    assert not _is_up(site.url)
    assert "momalisa_bucket" in site.host.run("docker volume ls --quiet")
