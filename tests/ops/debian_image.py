"""Images of Debian, from its packages: where no image can be pulled, and where no image is made like a machine."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

from tests.ops.docker_engine import DockerEngine

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def debian(root: Path, release: str, packages: str) -> Path:
    """A folder with a Debian in it, and with the packages, whose names stand between commas."""
    debootstrap = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    assert debootstrap, "a Debian needs debootstrap: make system-packages-vm installs it"
    shutil.rmtree(root, ignore_errors=True)
    run(debootstrap, "--variant=minbase", f"--include={packages}", release, root)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    # Whoever signs for the registries here, a proxy of the house for example, is believed in there too.
    if authority := os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile:
        shutil.copyfile(authority, root / CERTIFICATES.lstrip("/"))
    return root


def imported(engine: DockerEngine, root: Path, image: str) -> None:
    """Make an image of the folder, which is then gone."""
    archive = root.with_suffix(".tar")
    run("tar", "-C", root, "-cf", archive, ".")
    believe = " ".join(f"{name}={CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"))
    engine.docker("import", "--change", f"ENV {believe}", archive, image)
    archive.unlink()
    shutil.rmtree(root)


def run(*command: str | Path) -> None:
    """A command, which must succeed."""
    done = subprocess.run([*command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
