"""A Docker engine: the one that is running, or one that is started for the tests."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import REPOSITORY, wait_until

# Kept between runs, because base images take minutes.
FOLDER = Path(os.environ.get("MOMALISA_ENGINE_FOLDER", REPOSITORY / ".run" / "engine"))
INSTALL = "the container tests need a Docker engine and Compose v2: run make system-packages-containers"


@dataclass
class DockerEngine:
    """An engine. started_here: the tests started it, so it has no images of others and image names can be reused."""

    environment: dict[str, str]
    started_here: bool

    def docker(self, *arguments: str | Path, **environment: str) -> str:
        """The output of a docker command. Raises AssertionError with its errors if it fails."""
        done = self.try_docker(*arguments, **environment)
        assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def try_docker(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a docker command that may fail."""
        return subprocess.run(
            ["docker", *arguments],
            env=os.environ | self.environment | environment,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def has(self, image: str) -> bool:
        return self.try_docker("image", "inspect", image).returncode == 0


@contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """A running engine with Compose. Raises AssertionError if there is none and none can be started."""
    assert shutil.which("docker"), INSTALL
    found = DockerEngine({}, started_here=False)
    if found.try_docker("info").returncode == 0:
        found.docker("compose", "version")
        yield found
        return
    daemon = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert daemon, INSTALL
    assert os.geteuid() == 0, f"{INSTALL}; starting an engine needs root"
    with tempfile.TemporaryDirectory(prefix="momalisa-engine-") as folder, _started(daemon, Path(folder)) as started:
        started.docker("compose", "version")
        yield started


@contextmanager
def _started(daemon: str, folder: Path) -> Iterator[DockerEngine]:
    """Start an engine. folder: for its socket; the paths of sockets must be short."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    socket = f"unix://{folder}/socket"
    options = [
        f"--data-root={FOLDER}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host={socket}",
    ]
    with (FOLDER / "log").open("ab") as log:
        process = subprocess.Popen([daemon, *options], stdout=log, stderr=log)
        try:
            started = DockerEngine({"DOCKER_HOST": socket}, started_here=True)
            wait_until(lambda: process.poll() is not None or started.try_docker("info").returncode == 0, every_s=0.2)
            assert process.poll() is None, f"dockerd exited; see {FOLDER}/log"
            yield started
        finally:
            process.terminate()
            process.wait(120)
            # Containers on the host's network leave mounts there.
            for mount in (folder / "exec" / "netns").glob("*"):
                subprocess.run(["umount", mount], capture_output=True, check=False)
