"""The real Dockerfiles and the compose file in a real engine: `make test-containers`; too long for `make test`."""

import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

from momalisa_api import __version__
from tests.journey.client import Client
from tests.journey.processes import free_port, wait_until
from tests.ops.base_images import NGINX, PYTHON, have_bases, torch_index
from tests.ops.docker_engine import FOLDER, DockerEngine, engine
from tests.ops.test_compose import COMPOSE, NEEDED, OVERRIDES, SERVICES

pytestmark = pytest.mark.skipif(
    os.environ.get("MOMALISA_SKIP_CONTAINERS") == "1", reason="MOMALISA_SKIP_CONTAINERS=1: no container is tried"
)

MB = 1_000_000
RUNNING = [name for name, service in SERVICES.items() if "healthcheck" not in service or name == "postgres"]


@dataclass
class Stack:
    """The compose file, up, under a name of its own."""

    engine: DockerEngine
    files: list[str | Path]
    url: str

    def compose(self, *arguments: str) -> str:
        settings = {"MOMALISA_PUBLISH": self.url.removeprefix("http://"), "COMPOSE_PROJECT_NAME": "momalisa-tried"}
        return self.engine.docker("compose", *self.files, *arguments, **settings)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """What a command in a service's first container says."""
        return self.engine.tries("exec", self.containers(service)[0], *command)

    def size(self, image: str) -> int:
        """Bytes."""
        return int(self.engine.docker("image", "inspect", "--format", "{{.Size}}", image))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Built, and up until all say that they are well. Two workers, so that one may die."""
    folder = tmp_path_factory.mktemp("containers")
    with engine() as running, torch_index(folder / "index") as index:
        have_bases(running)
        # Builds reach what this machine reaches, its loopback too.
        build = {"build": {"network": "host"}}
        (folder / "here.json").write_text(
            json.dumps({"services": dict.fromkeys(("frontend", "api-web", "model"), build)})
        )
        files: list[str | Path] = ["--file", "docker-compose.yml", "--file", folder / "here.json"]
        stack = Stack(running, files, f"http://127.0.0.1:{free_port()}")
        running.docker("compose", *files, "build", "frontend", "api-web", "model", TORCH_INDEX=index)
        try:
            stack.compose("up", "--no-build", "--wait", "--scale", "api-worker=2")
            yield stack
        finally:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / "containers.log").write_text(stack.compose("logs", "--no-color", "--timestamps"))
            stack.compose("down", "--volumes", "--timeout", "20")


@pytest.mark.parametrize("override", [None, *OVERRIDES], ids=lambda path: path.name if path else "alone")
def test_compose_reads_it(override: Path | None) -> None:
    """Compose is stricter than YAML."""
    files = [argument for file in (COMPOSE, override) if file for argument in ("--file", str(file))]
    DockerEngine({}, ours=False).docker("compose", *files, "config", "--quiet", **NEEDED)


@pytest.mark.parametrize(("image", "base", "limit"), [("frontend", NGINX, 30 * MB), ("api", PYTHON, 350 * MB)])
def test_images_add_little_to_their_base(stack: Stack, image: str, base: str, limit: int) -> None:
    """Small images are pulled quickly where a new machine joins."""
    assert stack.size(f"momalisa/{image}:{__version__}") - stack.size(base) < limit


@pytest.mark.parametrize("service", RUNNING)
def test_a_service_is_nobody_and_writes_nothing_but_what_it_must(stack: Stack, service: str) -> None:
    """What the compose file forbids is forbidden by the kernel."""
    assert stack.inside(service, "id", "-u").stdout.strip() != "0"
    assert stack.inside(service, "touch", "/usr/bin/mine").returncode != 0
    assert stack.inside(service, "touch", "/tmp/mine").returncode == 0
    status = stack.inside(service, "cat", "/proc/self/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_the_gallery_and_the_api_stand_behind_one_port(stack: Stack) -> None:
    """nginx fills in the page's head by the api, and passes the api on."""
    page = httpx.get(stack.url + "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>MoMALisa" in page.text
    assert wait_until(lambda: Client(stack.url).awake() == 2)


def test_a_walk_arrives_though_a_replica_and_a_worker_die_on_its_way(stack: Stack) -> None:
    """Nothing holds a walk in memory alone, and what one container stored the others find."""
    visitor = Client(stack.url)
    wish = {"start": "a red sunburst on yellow", "end": "blue waves", "frames": 49, "steps": 30, "spacing": "uniform"}
    walk = visitor.ask(**wish)
    wait_until(lambda: visitor.read(walk)["landed"])
    stack.engine.docker("kill", stack.containers("model")[0], stack.containers("api-worker")[0])
    assert visitor.read(walk)["state"] not in ("done", "failed")
    walk = visitor.ended(walk)
    assert walk["state"] == "done", walk
    with Image.open(io.BytesIO(visitor.fetch(f"{walk['url']}/walk.gif"))) as film:
        assert film.n_frames == 2 * 49 - 2  # type: ignore[attr-defined]


def test_what_stopped_stands_up_again_with_what_it_held(stack: Stack) -> None:
    """An upgrade is a second `docker compose up`: the password, the database and the bucket stay."""
    visitor = Client(stack.url)
    walk = visitor.ended(visitor.ask(start="a gold star", end="a navy rainbow", frames=3, seed=1, spacing="uniform"))
    stack.compose("down", "--timeout", "20")
    stack.compose("up", "--no-build", "--wait")
    assert visitor.read(walk)["state"] == "done"
    assert visitor.fetch(f"{walk['url']}/frames/1.png").startswith(b"\x89PNG")


def test_no_log_tells_the_password(stack: Stack) -> None:
    """Logs are read by more people than the database should be."""
    password = stack.inside("postgres", "cat", "/run/momalisa/password").stdout.strip()
    assert len(password) >= 30
    assert password not in stack.compose("logs", "--no-color")
