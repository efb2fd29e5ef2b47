"""The Dockerfiles and the compose file in a real Docker engine: `make test-containers`. Too slow for `make test`."""

import dataclasses
import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image

from momalisa_api import __version__
from tests.ops.base_images import NGINX, PYTHON, provide_base_images, torch_index
from tests.ops.compose_file import COMPOSE, OVERRIDES, SERVICES
from tests.ops.docker_engine import FOLDER, DockerEngine, docker_engine
from tests.support.client import Client
from tests.support.hub import serving
from tests.support.processes import REPOSITORY, free_port, wait_until
from tests.support.recipes import write_recipe
from tests.support.small_families import small_family

pytestmark = pytest.mark.skipif(
    os.environ.get("MOMALISA_SKIP_CONTAINERS") == "1", reason="MOMALISA_SKIP_CONTAINERS=1: containers are not tested"
)

MB = 1_000_000
RECIPES = "atelier /recipes/toy.yml"
# Without the service's own networks, which a service in the machine's network must not have.
RESET = "fetch:\n    networks: !reset null"
MODELS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8100/v1/models').read().decode())"
REQUIRED_VARIABLES = {"MOMALISA_BUCKET": "gs://bucket"}
RUNNING = [name for name, service in SERVICES.items() if "healthcheck" not in service or name == "postgres"]


@dataclass
class ComposeProject:
    """The running compose project."""

    engine: DockerEngine
    files: list[str | Path]
    url: str

    def compose(self, *arguments: str, **settings: str) -> str:
        settings |= {"MOMALISA_PUBLISH": self.url.removeprefix("http://"), "COMPOSE_PROJECT_NAME": "momalisa-test"}
        return self.engine.docker("compose", *self.files, *arguments, **settings)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the first container of a service."""
        return self.engine.try_docker("exec", self.containers(service)[0], *command)

    def size(self, image: str) -> int:
        """The size of an image in bytes."""
        return int(self.engine.docker("image", "inspect", "--format", "{{.Size}}", image))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    """Build the images and start the project until it is healthy, with two workers, so that one can be killed."""
    folder = tmp_path_factory.mktemp("containers")
    with docker_engine() as engine, torch_index(folder / "index") as index:
        provide_base_images(engine)
        # Builds need this machine's localhost for the torch index.
        build = {"build": {"network": "host"}}
        (folder / "build.json").write_text(
            json.dumps({"services": dict.fromkeys(("frontend", "api-web", "model"), build)})
        )
        files: list[str | Path] = ["--file", "docker-compose.yml", "--file", folder / "build.json"]
        project = ComposeProject(engine, files, f"http://127.0.0.1:{free_port()}")
        engine.docker("compose", *files, "build", "frontend", "api-web", "model", TORCH_INDEX=index)
        try:
            project.compose("up", "--no-build", "--wait", "--scale", "api-worker=2")
            yield project
        finally:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / "containers.log").write_text(project.compose("logs", "--no-color", "--timestamps"))
            project.compose("down", "--volumes", "--timeout", "20")


@pytest.mark.parametrize("override", [None, *OVERRIDES], ids=lambda path: path.name if path else "alone")
def test_compose_accepts_the_files(override: Path | None) -> None:
    """Compose checks more than YAML syntax."""
    files = [argument for file in (COMPOSE, override) if file for argument in ("--file", str(file))]
    DockerEngine({}, started_here=False).docker("compose", *files, "config", "--quiet", **REQUIRED_VARIABLES)


@pytest.mark.parametrize(("image", "base", "limit"), [("frontend", NGINX, 30 * MB), ("api", PYTHON, 350 * MB)])
def test_images_add_little_to_their_base(project: ComposeProject, image: str, base: str, limit: int) -> None:
    """New machines pull small images quickly."""
    assert project.size(f"momalisa/{image}:{__version__}") - project.size(base) < limit


@pytest.mark.parametrize("service", RUNNING)
def test_a_service_runs_unprivileged_on_a_read_only_root(project: ComposeProject, service: str) -> None:
    """The kernel enforces the restrictions of the compose file."""
    assert project.inside(service, "id", "-u").stdout.strip() != "0"
    assert project.inside(service, "touch", "/usr/bin/test-file").returncode != 0
    assert project.inside(service, "touch", "/tmp/test-file").returncode == 0
    status = project.inside(service, "cat", "/proc/self/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_the_gallery_and_the_api_share_one_port(project: ComposeProject) -> None:
    """nginx inserts the page's head from the api, and proxies the api."""
    page = httpx.get(project.url + "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>MoMALisa" in page.text
    assert wait_until(lambda: Client(project.url).awake() == 2)


def test_a_walk_completes_when_a_replica_and_a_worker_are_killed(project: ComposeProject) -> None:
    """No container holds a walk in memory only, and each finds what the others stored."""
    visitor = Client(project.url)
    request = {
        "start": "a red sunburst on yellow",
        "end": "blue waves",
        "frames": 49,
        "steps": 30,
        "spacing": "uniform",
    }
    walk = visitor.request_walk(**request)
    wait_until(lambda: visitor.read(walk)["frames_ready"])
    project.engine.docker("kill", project.containers("model")[0], project.containers("api-worker")[0])
    assert visitor.read(walk)["state"] not in ("done", "failed")
    walk = visitor.ended(walk)
    assert walk["state"] == "done", walk
    with Image.open(io.BytesIO(visitor.fetch(f"{walk['url']}/walk.gif"))) as film:
        assert film.n_frames == 2 * 49 - 2  # type: ignore[attr-defined]


def test_a_restart_keeps_all_data(project: ComposeProject) -> None:
    """An upgrade is another `docker compose up`: the password, the database and the bucket are kept."""
    visitor = Client(project.url)
    walk = visitor.ended(
        visitor.request_walk(start="a gold star", end="a navy rainbow", frames=3, seed=1, spacing="uniform")
    )
    project.compose("down", "--timeout", "20")
    project.compose("up", "--no-build", "--wait")
    assert visitor.read(walk)["state"] == "done"
    assert visitor.fetch(f"{walk['url']}/frames/1.png").startswith(b"\x89PNG")


def test_the_first_password_stays_when_another_one_is_set(project: ComposeProject) -> None:
    """PostgreSQL was initialized with it, and it is stored nowhere else."""
    project.compose("up", "--no-build", "--wait", POSTGRES_PASSWORD="another")
    assert "POSTGRES_PASSWORD is ignored" in project.compose("logs", "secret")
    assert Client(project.url).fetch("/api/v1/walks")
    project.compose("up", "--no-build", "--wait")
    assert Client(project.url).fetch("/api/v1/walks")


def test_the_logs_do_not_contain_the_password(project: ComposeProject) -> None:
    """More people may read the logs than the database."""
    password = project.inside("postgres", "cat", "/run/momalisa/password").stdout.strip()
    assert len(password) >= 30
    assert password not in project.compose("logs", "--no-color")


def test_the_deployment_image_has_what_the_playbooks_need(project: ComposeProject) -> None:
    """Operators have no Python then. Without Docker's client, which this base image has no packages of."""
    arguments = ("--build-arg", f"BASE_IMAGE={PYTHON}", "--build-arg", "PACKAGES=openssh-client", "--network", "host")
    project.engine.docker("build", *arguments, "--file", "deployment/Dockerfile", "--tag", "momalisa/deploy:test", ".")
    mounted = ("--volume", f"{REPOSITORY}:/momalisa:ro", "momalisa/deploy:test")
    project.engine.docker("run", "--rm", *mounted, "ansible-playbook", "--syntax-check", "site-gke.yml", "site-vm.yml")
    assert "v1." in project.engine.docker("run", "--rm", *mounted, "kubectl", "version", "--client")


def test_a_second_model_is_fetched_by_its_recipe_and_then_needs_no_hub(project: ComposeProject, tmp_path: Path) -> None:
    """Both replicas hold it beside the atelier. Another start does not ask the hub, which is down then."""
    small_family("sdxl").save_pretrained(tmp_path / "model")
    recipe = write_recipe(tmp_path, "toy", "someone/toy", revision="main")
    both = dataclasses.replace(project, files=[*project.files, "--file", tmp_path / "override.yml"])
    with serving({"someone/toy": tmp_path / "model"}) as hub:
        volumes = [f"{recipe}:/recipes/toy.yml:ro"]
        # The containers' network ends at this machine, so the test fetches in its network.
        fetch = {"environment": {"HF_ENDPOINT": hub.url}, "network_mode": "host", "volumes": volumes}
        services = {"fetch": fetch, "model": {"volumes": volumes}}
        (tmp_path / "override.yml").write_text(yaml.safe_dump({"services": services}).replace("fetch:", RESET))
        both.compose("up", "--no-build", "--wait", MOMALISA_RECIPES=RECIPES)
        assert "unet/diffusion_pytorch_model.safetensors" in hub.downloaded
    for replica in both.containers("model"):
        known = json.loads(both.engine.docker("exec", replica, "python", "-c", MODELS))["models"]
        assert [one["card"]["model"] for one in known] == ["atelier", "toy"]
    both.compose("down", "--timeout", "20")
    both.compose("up", "--no-build", "--wait", MOMALISA_RECIPES=RECIPES)
