"""A whole deployment on one machine: replicas and the api as processes of one terminal, under honcho."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx
from honcho.manager import Manager

from momalisa_api.cli.client import Unhappy

MODEL_CARD = Path(__file__).parents[3] / "model-service" / "atelier" / "weights" / "card.json"
GALLERY = Path(__file__).parents[3] / "frontend" / "dist"
WAKE_S = 300
STOP_S = 15


def up(replicas: int, first_port: int | None = None) -> int:
    """Run replicas and the api until Ctrl-C; a replica that dies is started again. Returns an exit code.

    first_port: the first replica's port, the others follow; None takes free ones. An api that is told MOMALISA_REPLICAS
    goes there instead, through a proxy for example.
    """
    asked_port = os.environ.get("MOMALISA_PORT", "8000")
    if not asked_port.isdecimal() or not _is_free(int(asked_port)):
        print(f"momalisa: port {asked_port} is taken or is none. Set MOMALISA_PORT to a free one.", file=sys.stderr)
        return 2
    ports = list(range(first_port, first_port + replicas)) if first_port else _free_ports(replicas)
    environment = _environment(ports)
    greet = partial(_greet, f"http://127.0.0.1:{asked_port}", replicas, gallery="MOMALISA_GALLERY" in environment)
    manager = _Patient(greet)
    for number, port in enumerate(ports, 1):
        # exec: the shell that honcho starts must not stand between it and the process.
        respawned = f"exec {shlex.quote(sys.executable)} -m momalisa_api.cli.respawn momalisa-model serve"
        # Replicas ask nobody who they are: they listen to this machine alone, wherever the api listens.
        own = {"MOMALISA_HOST": "127.0.0.1", "MOMALISA_PORT": str(port)}
        manager.add_process(f"replica-{number}", respawned, env={**environment, **own})
    manager.add_process("api", "exec momalisa serve", env={**environment, "MOMALISA_PORT": asked_port})
    # A terminal that is closed stops everything as Ctrl-C does; honcho knows the other two signals.
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    manager.loop()
    # Stopped by Ctrl-C or SIGTERM is how this ends well.
    return 0 if manager.returncode in (130, 143) else int(manager.returncode or 0)


class _Patient(Manager):  # type: ignore[misc]
    """Honcho, but a Ctrl-C that comes while it still starts is kept until all processes have started."""

    def __init__(self, greet: Callable[[], None]) -> None:
        super().__init__()
        self._greet = greet
        self._asked_to_stop = False

    def _start(self) -> None:
        super()._start()
        # Not before: a process must not be forked while threads run.
        threading.Thread(target=self._greet, daemon=True).start()

    def terminate(self) -> None:
        self._asked_to_stop = True
        if self._all_started():
            super().terminate()

    def _any_stopped(self) -> bool:
        return self._asked_to_stop or bool(super()._any_stopped())


@contextmanager
def deployment(url: str, *, start: bool) -> Iterator[str]:
    """The url of a deployment that answers: the one at `url`, or, with `start`, one that lives as long as the block.

    Raises Unhappy where a started one does not come up.
    """
    if not start or _awake(url):
        yield url
        return
    [port] = _free_ports(1)
    log = Path(".run") / "up.log"
    log.parent.mkdir(exist_ok=True)
    print("Starting two replicas and the api; they stop when the walk is done.", file=sys.stderr)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "momalisa_api.cli.main", "up"],
            env={**os.environ, "MOMALISA_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + WAKE_S
        while not _awake(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unhappy(f"the deployment did not come up; {log} says why", 3)
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _environment(ports: list[int]) -> dict[str, str]:
    """What all processes share: this environment, the model card, the cores dealt evenly over the replicas."""
    scripts = str(Path(sys.executable).parent)
    share = max(1, (os.cpu_count() or 1) // len(ports))
    # A power of two: other counts make a frame's last bits depend on its place in the batch.
    threads = 1 << (share.bit_length() - 1)
    # Where nobody has built it, as for `make walk`, there is none.
    built = {"MOMALISA_GALLERY": str(GALLERY)} if (GALLERY / "index.html").is_file() else {}
    return {
        **built,
        "MOMALISA_MODEL_CARD": str(MODEL_CARD),
        "MOMALISA_REPLICAS": " ".join(f"http://127.0.0.1:{port}" for port in ports),
        "MOMALISA_THREADS": str(threads),
        "MOMALISA_LOG_FORMAT": "console",
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }


def _greet(url: str, replicas: int, *, gallery: bool) -> None:
    """Once the first replica is awake, say where to go."""
    deadline = time.monotonic() + WAKE_S
    while not _awake(url):
        if time.monotonic() > deadline:
            print("No replica has come up in five minutes; the lines above say why.", flush=True)
            return
        time.sleep(0.2)
    about = httpx.get(f"{url}/api/v1/model", timeout=5, trust_env=False).json()["card"]["about"]
    start, end = about["examples"][0] if about["examples"] else ("a giraffe", "a battleship")
    query = urlencode({"start": start, "end": end, "frames": 25, "wait": 25})
    first = f"The gallery:       {url}/\n    " if gallery else ""
    print(
        f"""
  MoMALisa is up; {replicas} replicas render here.

    {first}The API, to try:   {url}/api/docs
    A walk in one GET: curl -o walk.gif '{url}/api/v1/walk?{query}'

  Ctrl-C stops everything.
""",
        flush=True,
    )


def _awake(url: str) -> bool:
    """Whether an api answers there that has a replica to render with."""
    try:
        return bool(httpx.get(f"{url}/api/v1/model", timeout=2, trust_env=False).json()["replicas"]["awake"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all held at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
