"""Processes as an orchestrator sees them: started, killed, frozen, told to stop, and their logs listened to."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import psutil

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = Path(os.environ.get("MOMALISA_MODEL_ID", REPOSITORY / "model-service" / "atelier" / "weights"))
SCRIPTS = Path(sys.executable).parent
# From another place in each process: several suites may run on one machine.
_ports = iter(range(20_000 + os.getpid() % 1000 * 10, 32_000, 2))


def free_port() -> int:
    """A port that is free, and so is the next; never the same twice.

    Below those that the system hands out: what is free there can be somebody's the moment after.
    """
    for port in _ports:
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue
    raise AssertionError("no port is free")


def wait_until(happened: Callable[[], Any], limit_s: float = 120.0, every_s: float = 0.02) -> Any:
    """The first true answer of `happened`, which is called again and again; fails where none comes in time."""
    deadline = time.monotonic() + limit_s
    while not (answer := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every_s)
    return answer


class Service:
    """One process, which may have several lives at the same port. What it says outlives them all."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        """log: the file that keeps all that it says, for whoever looks into a test that failed."""
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.lines: list[dict[str, Any]] = []
        self.hear: Callable[[Service, dict[str, Any]], None] = lambda service, line: None
        self._life: subprocess.Popen[bytes] | None = None
        self._command = [str(SCRIPTS / command[0]), *command[1:]]
        self._environment = {**environment, "MOMALISA_PORT": str(self.port), "MOMALISA_LOG_FORMAT": "json"}

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The life it leads, or led last."""
        assert self._life, f"{self.name} was not started"
        return self._life

    @property
    def running(self) -> bool:
        return self._life is not None and self._life.poll() is None

    def start(self, **settings: str) -> None:
        """Begin a life. settings: what this life alone is told otherwise."""
        self._life = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._life.stdout
        self._reader = threading.Thread(target=self._listen, args=(self._life.stdout,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL: no signal handler, no last word, no connection that is closed in good order."""
        self.process.kill()
        self.process.wait()

    def restart(self, **settings: str) -> None:
        """Kill what may be left of it and start it again at once, as an orchestrator would."""
        self.end()
        self.start(**settings)

    def tell_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: alive for the system, silent for everybody else."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill it, where it was started, and hear its last line."""
        if self._life:
            self.kill()
            self._reader.join(10)

    def said(self, event: str, **about: Any) -> list[dict[str, Any]]:
        """The lines of an event so far, from all lives."""
        return [line for line in self.lines if line["event"] == event and about.items() <= line.items()]

    def ports(self) -> set[int]:
        """The near ends of all its connections."""
        return {at.laddr.port for at in psutil.Process(self.process.pid).net_connections("tcp")}

    def _listen(self, output: IO[bytes]) -> None:
        with output, self.log.open("ab", buffering=0) as log:
            for raw in output:
                line = _read(raw)
                if "event" in line:
                    # Before anything else: who sets a trap wants it to snap while the process is still there.
                    self.hear(self, line)
                    self.lines.append(line)
                log.write(raw)


def _read(raw: bytes) -> dict[str, Any]:
    """A line of a log; nothing where it is no JSON object: a traceback, or cut off by a kill."""
    try:
        line = json.loads(raw)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


class Trap:
    """Does something to whichever process says the nth line of an event; once."""

    def __init__(self, event: str, nth: int, act: Callable[[Service], None]) -> None:
        self._event = event
        self._left = nth
        self._act = act
        self._lock = threading.Lock()
        self._struck = Future[Service]()

    def hear(self, service: Service, line: dict[str, Any]) -> None:
        """Called with each line, in the thread that reads it."""
        if line["event"] != self._event:
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        try:
            self._act(service)
        except Exception as error:
            self._struck.set_exception(error)
        else:
            self._struck.set_result(service)

    def sprung(self) -> Service:
        """Who said it, once that is done which the trap was set for."""
        try:
            return self._struck.result(120)
        except TimeoutError:
            raise AssertionError(f"nobody said {self._event!r}") from None
