"""Docker images of Debian built from its packages, for machines without a registry and for images with systemd."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

from tests.ops.docker_engine import DockerEngine

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def debian_root(root: Path, release: str, packages: str) -> Path:
    """Install Debian into a folder. packages: names, separated by commas."""
    debootstrap = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    assert debootstrap, "debootstrap is not installed: run make system-packages-vm"
    shutil.rmtree(root, ignore_errors=True)
    run(debootstrap, "--variant=minbase", f"--include={packages}", release, root)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    # Trust the same certificate authorities as this machine, such as that of a proxy.
    if authority := os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile:
        shutil.copyfile(authority, root / CERTIFICATES.lstrip("/"))
    return root


def import_image(engine: DockerEngine, root: Path, image: str) -> None:
    """Create an image from the folder, and delete the folder."""
    archive = root.with_suffix(".tar")
    run("tar", "-C", root, "-cf", archive, ".")
    trust = " ".join(f"{name}={CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"))
    engine.docker("import", "--change", f"ENV {trust}", archive, image)
    archive.unlink()
    shutil.rmtree(root)


def run(*command: str | Path) -> None:
    """Run a command, which must succeed."""
    done = subprocess.run([*command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
