"""A Docker engine: the one that answers here, or one of our own, started for as long as it is needed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.journey.processes import REPOSITORY, wait_until

# Kept from one run to the next: base images take minutes.
FOLDER = Path(os.environ.get("MOMALISA_ENGINE_FOLDER", REPOSITORY / ".run" / "engine"))
INSTALL = "the containers need a Docker engine and Compose v2: make system-packages-containers installs them"


@dataclass
class DockerEngine:
    """Whom `docker` talks to. ours: nobody else's images are in it, so that stand-ins may bear any name."""

    environment: dict[str, str]
    ours: bool

    def docker(self, *arguments: str | Path, **environment: str) -> str:
        """What a docker command prints. Raises AssertionError with what went wrong."""
        done = self.tries(*arguments, **environment)
        assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def tries(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A docker command that may fail."""
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
        return self.tries("image", "inspect", image).returncode == 0


@contextmanager
def engine() -> Iterator[DockerEngine]:
    """An engine that answers and knows compose. Raises AssertionError where none can be had."""
    assert shutil.which("docker"), INSTALL
    found = DockerEngine({}, ours=False)
    if found.tries("info").returncode == 0:
        found.docker("compose", "version")
        yield found
        return
    daemon = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert daemon, INSTALL
    assert os.geteuid() == 0, f"{INSTALL}; only root can start one"
    with tempfile.TemporaryDirectory(prefix="momalisa-engine-") as folder, _started(daemon, Path(folder)) as started:
        started.docker("compose", "version")
        yield started


@contextmanager
def _started(daemon: str, folder: Path) -> Iterator[DockerEngine]:
    """An engine of our own. folder: where its socket lies; paths of sockets are short."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    socket = f"unix://{folder}/socket"
    places = [f"--data-root={FOLDER}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host={socket}"]
    with (FOLDER / "log").open("ab") as log:
        process = subprocess.Popen([daemon, *places], stdout=log, stderr=log)
        try:
            started = DockerEngine({"DOCKER_HOST": socket}, ours=True)
            wait_until(lambda: process.poll() is not None or started.tries("info").returncode == 0, every_s=0.2)
            assert process.poll() is None, f"dockerd ended; see {FOLDER}/log"
            yield started
        finally:
            process.terminate()
            process.wait(120)
            # Containers on the host's network leave it mounted there.
            for left in (folder / "exec" / "netns").glob("*"):
                subprocess.run(["umount", left], capture_output=True, check=False)
