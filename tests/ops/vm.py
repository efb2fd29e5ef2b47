"""The playbooks of the VM over SSH, with real images from a real registry: `make test-vm`; too long for `make test`."""

import io
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.journey.client import Client
from tests.journey.processes import free_port, wait_until
from tests.ops.base_images import POSTGRES, have_bases, torch_index
from tests.ops.certificates import certificate
from tests.ops.debian_host import USER, DebianHost, machine
from tests.ops.docker_engine import engine
from tests.ops.playbooks import Operator, PlaybookRun

pytestmark = pytest.mark.skipif(
    os.environ.get("MOMALISA_SKIP_CONTAINERS") == "1", reason="MOMALISA_SKIP_CONTAINERS=1: no machine is tried"
)

DOMAIN = "museum.test"
WISH = {"start": "a red sunburst on yellow", "end": "blue waves", "frames": 5, "spacing": "uniform"}
# What pebble, the authority for certificates, listens at over there.
ACME = 14_000


@dataclass
class Site:
    """A machine, and whoever runs playbooks against it."""

    machine: DebianHost
    operator: Operator
    inventory: Path
    variables: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://{self.machine.address}"

    def play(self, playbook: str, *arguments: str, **variables: Any) -> PlaybookRun:
        """Run a playbook as an operator does; it must succeed."""
        self.inventory.write_text(json.dumps(self._inventory()))
        played = self.operator.play(
            playbook, "-i", "inventory", "-i", str(self.inventory), *arguments, **(self.variables | variables)
        )
        assert played.code == 0, played.why
        return played

    def _inventory(self) -> dict[str, Any]:
        host = {
            "ansible_host": self.machine.address,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.machine.key),
            "ansible_ssh_common_args": " ".join(self.machine.options),
        }
        return {"all": {"children": {"momalisa_vm": {"hosts": {"museum": host}}}}}


@contextmanager
def registry(folder: Path) -> Iterator[int]:
    """A registry of our own on loopback, of which engines want no certificate. Gives its port."""
    program = shutil.which("docker-registry")
    assert program, "no docker-registry here: make system-packages-vm installs it"
    port = free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", folder / "registry.yml"], stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/v2/"))
            yield port
        finally:
            process.terminate()
            process.wait(20)
            shutil.rmtree(folder / "registry", ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What site-vm.yml makes of a bare machine."""
    folder = tmp_path_factory.mktemp("vm")
    with ExitStack() as stack:
        running = stack.enter_context(engine())
        have_bases(running)
        index = stack.enter_context(torch_index(folder / "index"))
        port = stack.enter_context(registry(folder))
        over_there = stack.enter_context(machine(running, folder))
        home = f"127.0.0.1:{port}/momalisa"
        running.docker("tag", POSTGRES, f"{home}/postgres:17")
        running.docker("push", f"{home}/postgres:17")
        variables = {
            "momalisa_vm_is_googles": False,
            "momalisa_registry": home,
            "docker_images_args": {"TORCH_INDEX": index} if index else {},
            # Builds reach what this machine reaches, its loopback too.
            "docker_images_network": "host",
            "containers_settings": {"POSTGRES_IMAGE": f"{home}/postgres:17"},
        }
        operator = Operator(folder, **running.environment)
        site = Site(over_there, operator, folder / "mine.yml", variables)
        with over_there.reaches(port):
            # A look before the leap says what would come, and does nothing.
            assert "Have Docker's folder" in site.play("site-vm.yml", "--check", "--diff").changed
            assert over_there.tries("test -e /etc/docker").returncode == 1
            site.play("site-vm.yml")
            yield site


def test_a_walk_comes_through_the_machines_own_nginx(site: Site) -> None:
    """The whole way: the host's nginx, the frontend's, the api, the queue, two replicas."""
    page = httpx.get(site.url + "/")
    assert "<title>MoMALisa" in page.text
    visitor = Client(site.url)
    walk = visitor.ended(visitor.ask(**WISH, seed=1))
    assert walk["state"] == "done", walk
    with Image.open(io.BytesIO(visitor.fetch(f"{walk['url']}/walk.gif"))) as film:
        assert film.n_frames == 2 * 5 - 2  # type: ignore[attr-defined]


def test_nothing_but_the_door_is_open(site: Site) -> None:
    """The containers answer on loopback alone; what they are told is root's to read."""
    listening = site.machine.does("ss -Hltn | tr -s \\  | cut -d\\  -f 4").split()
    outside = {line.rpartition(":")[2] for line in listening if not line.startswith("127.")}
    assert outside == {"22", "80"}
    assert site.machine.does("stat -c %a:%U /srv/momalisa/compose/.env").strip() == "600:root"


def test_a_second_run_changes_nothing(site: Site) -> None:
    """Neither when it only looks, nor when it may."""
    assert site.play("site-vm.yml", "--check", "--diff").changed == []
    assert site.play("site-vm.yml").changed == []


def test_a_dump_brings_back_what_was_there(site: Site) -> None:
    """By the timer's own service, and the playbook that operators have for the worst day."""
    visitor = Client(site.url)
    before = visitor.ended(visitor.ask(**WISH, seed=2))
    site.machine.does("systemctl start momalisa-backup")
    after = visitor.ended(visitor.ask(**WISH, seed=3))
    site.play("restore.yml")
    wait_until(lambda: visitor.awake() == 2)
    assert visitor.read(before)["state"] == "done"
    assert visitor.read(after)["status"] == 404
    assert "momalisa-backup.timer" in site.machine.does("systemctl list-timers --no-pager")


def test_all_stands_up_again_after_a_power_cut(site: Site) -> None:
    """Nobody signs in after one."""
    visitor = Client(site.url)
    walk = visitor.ended(visitor.ask(**WISH, seed=4))
    site.machine.restarts()
    visitor = Client(site.url)
    wait_until(lambda: visitor.awake() == 2)
    assert visitor.read(walk)["state"] == "done"
    assert visitor.ended(visitor.ask(**WISH, seed=5))["state"] == "done"


def test_a_domain_brings_a_certificate(site: Site, tmp_path: Path) -> None:
    """By certbot and ACME, from an authority that asks for the domain's proof as Let's Encrypt does."""
    held = certificate(tmp_path)
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
    site.machine.puts(held, "/root/acme.pem")
    site.machine.puts(tmp_path / "pebble.json", "/root/pebble.json")
    site.machine.puts(tmp_path / "ca.pem", "/usr/local/share/ca-certificates/acme.crt")
    site.machine.does("update-ca-certificates")
    site.machine.does(f"echo 127.0.0.1 {DOMAIN} >> /etc/hosts")
    site.machine.does("systemd-run --setenv=PEBBLE_VA_NOSLEEP=1 pebble -config /root/pebble.json")
    asked = {
        "momalisa_domain": DOMAIN,
        "momalisa_email": f"curator@{DOMAIN}",
        "webserver_acme_server": f"https://127.0.0.1:{ACME}/dir",
    }
    site.play("deploy-setup-webserver.yml", **asked)
    assert site.play("deploy-setup-webserver.yml", **asked).changed == []

    trusted = ssl.create_default_context(
        cadata=site.machine.does(f"curl --silent --insecure https://127.0.0.1:{ACME + 1}/roots/0")
    )
    name = {"Host": DOMAIN}
    with httpx.Client(verify=trusted, headers=name) as visitor:
        page = visitor.get(f"https://{site.machine.address}/", extensions={"sni_hostname": DOMAIN})
    assert "<title>MoMALisa" in page.text
    assert "max-age" in page.headers["strict-transport-security"]
    led = httpx.get(f"{site.url}/gallery", headers=name)
    assert (led.status_code, led.headers["location"]) == (308, f"https://{DOMAIN}/gallery")


def test_what_is_not_wanted_goes(site: Site) -> None:
    """The containers and the door; the data stay on their disk."""
    site.play("deploy-setup-containers.yml", momalisa_state="absent")
    site.play("deploy-setup-webserver.yml", momalisa_state="absent")
    assert site.machine.does("docker ps --quiet").split() == []
    assert not _answers(site.url)
    assert "momalisa_bucket" in site.machine.does("docker volume ls --quiet")
