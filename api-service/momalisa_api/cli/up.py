"""A whole deployment on one machine: replicas and the api as processes of one terminal."""

import errno
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx

from momalisa_api.cli.argument_types import MAX_PORT
from momalisa_api.cli.die_with_parent import bound_to
from momalisa_api.cli.errors import CommandError
from momalisa_api.cli.gpus import usable_gpus
from momalisa_api.cli.greeting import greeting
from momalisa_api.cli.supervisor import SupervisedCommand, Supervisor

GALLERY = Path(__file__).parents[3] / "frontend" / "dist"
REPLICAS_WITHOUT_GPU = 2
READY_S = 300
READY_POLL_S = 0.2
# The line in which the api logs what a replica says about itself.
UNFIT = re.compile(r"""replica is unfit .*?reason=(['"])not ready: (.*?)\1 url=""")
UP_STOP_S = 15
LOOPBACK = "127.0.0.1"


def run_deployment(replicas: int | None = None, first_port: int | None = None) -> int:
    """Run replicas and the api until Ctrl-C; a replica that crashes is restarted. Returns an exit code.

    replicas: their number; None starts one on each GPU, or two without a GPU. first_port: the port of the first
    replica, the others use the ports after it; None takes free ports. If MOMALISA_REPLICAS is set, the api uses those
    addresses instead, for example those of a proxy.
    """
    host = os.environ.get("MOMALISA_HOST") or LOOPBACK
    port = os.environ.get("MOMALISA_PORT") or "8000"
    _check_free(host, port, "MOMALISA_PORT")
    devices = _devices()
    count = replicas or len(devices) or REPLICAS_WITHOUT_GPU
    ports = list(range(first_port, first_port + count)) if first_port else _free_ports(count)
    for replica_port in ports:
        _check_free(LOOPBACK, str(replica_port), "--first-port")
    shared = _environment(ports)
    if not shutil.which("momalisa-model", path=shared["PATH"]):
        raise CommandError("momalisa-model is not installed. Install the model service, too.", 2)
    commands = [
        SupervisedCommand(
            f"replica-{number}",
            ("momalisa-model", "serve"),
            # Replicas do not authenticate callers: they listen on localhost only, whatever the api listens on.
            {**shared, "MOMALISA_HOST": LOOPBACK, "MOMALISA_PORT": str(replica_port), **device},
            restarts=True,
        )
        for number, (replica_port, device) in enumerate(zip(ports, cycle(devices or [{}]), strict=False), 1)
    ]
    # The replicas bring their cards, and the file may hold only a few fields for them.
    of_api = {name: value for name, value in shared.items() if name != "MOMALISA_MODEL_CARD"}
    commands.append(SupervisedCommand("api", ("momalisa", "serve"), {**of_api, "MOMALISA_PORT": port}))
    return anyio.run(_supervise, commands, f"http://{_host_to_visit(host)}:{port}")


@contextmanager
def deployment(url: str, *, start: bool) -> Iterator[str]:
    """The URL of a running deployment: the one at `url`, or, with `start`, one that runs as long as the block.

    Raises CommandError if a started deployment does not become ready.
    """
    if not start or _ready_models(url):
        yield url
        return
    [port] = _free_ports(1)
    log = Path(".run") / "up.log"
    try:
        log.parent.mkdir(exist_ok=True)
        opened = log.open("wb")
    except OSError as error:
        raise CommandError(
            f"Cannot write {log}: {error.strerror}. Change to a folder that you can write to.", 2
        ) from error
    print("Starting replicas and the API. They stop when the walk is done.", file=sys.stderr)
    with opened as output:
        process = subprocess.Popen(
            bound_to(os.getpid(), sys.executable, "-m", "momalisa_api.cli.main", "up"),
            env={
                **os.environ,
                "MOMALISA_HOST": LOOPBACK,
                "MOMALISA_PORT": str(port),
                "MOMALISA_LOG_FORMAT": "console",
                "MOMALISA_LOG_LEVEL": "info",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://{LOOPBACK}:{port}"
        _wait_until_ready(url, process, log)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(UP_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a replica can render, and print what the replicas say meanwhile: progress, or what is wrong.

    Raises CommandError once the deployment has ended, or said nothing new for READY_S seconds.
    """
    said, deadline = "", time.monotonic() + READY_S
    while not _ready_models(url):
        if process.poll() is not None or time.monotonic() > deadline:
            why = f"The last reason was: {said}" if said else f"See {log} for the reason."
            raise CommandError(f"The deployment did not start. {why}", 3)
        if (newest := _why_not_ready(log)) not in ("", said):
            said, deadline = newest, time.monotonic() + READY_S
            print(f"Not ready yet: {said}", file=sys.stderr)
        time.sleep(READY_POLL_S)


def _why_not_ready(log: Path) -> str:
    """The newest reason for which the api says that a replica is not ready, or an empty text."""
    reasons = [match[2] for match in UNFIT.finditer(log.read_text(errors="replace"))]
    return reasons[-1] if reasons else ""


async def _supervise(commands: list[SupervisedCommand], url: str) -> int:
    supervisor = Supervisor(commands)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_greet, supervisor, url, commands)
        code = await supervisor.run()
        tasks.cancel_scope.cancel()
    return code


def _devices() -> list[dict[str, str]]:
    """The setting of a replica for each GPU of this machine; none if MOMALISA_DEVICE names one device for all."""
    wanted = os.environ.get("MOMALISA_DEVICE") or "auto"
    gpus = usable_gpus() if wanted in ("auto", "cuda") else 0
    return [{"MOMALISA_DEVICE": f"cuda:{index}"} for index in range(gpus)]


def _environment(ports: list[int]) -> dict[str, str]:
    """Variables of all processes: this environment, the addresses, an equal share of the cores for each replica."""
    scripts = str(Path(sys.executable).parent)
    share = max(1, (os.cpu_count() or 1) // len(ports))
    # A power of two: with other counts, a frame's last bits depend on its position in the batch.
    threads = 1 << (share.bit_length() - 1)
    # `make walk` does not build the gallery.
    built = {"MOMALISA_GALLERY": str(GALLERY)} if (GALLERY / "index.html").is_file() else {}
    return {
        **built,
        "MOMALISA_REPLICAS": " ".join(f"http://{LOOPBACK}:{port}" for port in ports),
        "MOMALISA_THREADS": str(threads),
        "MOMALISA_LOG_FORMAT": "console",
        # An empty variable counts as unset.
        **{name: value for name, value in os.environ.items() if value or not name.startswith("MOMALISA_")},
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }


async def _greet(supervisor: Supervisor, url: str, commands: list[SupervisedCommand]) -> None:
    """As soon as one replica is ready, print the addresses to visit. A download can take longer than five minutes."""
    while True:
        with anyio.move_on_after(READY_S):
            # The api is another process: there is no event to wait for.
            while not (models := await anyio.to_thread.run_sync(_ready_models, url, abandon_on_cancel=True)):  # noqa: ASYNC110
                await anyio.sleep(READY_POLL_S)
            *replicas, api = commands
            gallery = "MOMALISA_GALLERY" in api.environment
            await supervisor.write(greeting(url, models, len(replicas), gallery=gallery))
            return
        await supervisor.write("No replica is ready after another 5 minutes. See the lines above for the reason.\n")


def _ready_models(url: str) -> list[dict[str, Any]]:
    """What an api says about its models that have a replica that is ready: a replica is ready with all its models."""
    try:
        models: list[dict[str, Any]] = httpx.get(f"{url}/api/v1/models", timeout=2, trust_env=False).json()["models"]
        return [model for model in models if model["replicas"]["awake"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return []


def _free_ports(count: int) -> list[int]:
    """Free ports, all different because they are held at the same time."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def _check_free(host: str, port: str, setting: str) -> None:
    """Raises CommandError, which names the setting, if a server cannot listen there."""
    digits = port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))
    if not (digits and 1 <= int(port) <= MAX_PORT):
        raise CommandError(f"port {port} is not a valid port. Set {setting} to a port from 1 to {MAX_PORT}.", 2)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(f"port {port} is in use. Set {setting} to a free port.", 2) from error
        raise CommandError(f"cannot listen at {host}, port {port}: {error.strerror or error}.", 2) from error
    except UnicodeError as error:
        raise CommandError(f"{host} is not a host name. Correct MOMALISA_HOST.", 2) from error


def _host_to_visit(host: str) -> str:
    """The host of URLs for this machine's user, from the address that a server listens on."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = LOOPBACK if address.version == 4 else "::1"
    return f"[{host}]" if ":" in host else host
