"""Processes as an orchestrator controls them: started, killed, suspended, terminated; and their logs."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import psutil

from momalisa_api.cli.die_with_parent import bound_to

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = Path(os.environ.get("MOMALISA_MODEL_ID") or REPOSITORY / "model-service" / "atelier" / "weights")
SCRIPTS = Path(sys.executable).parent
_FIRST_PORT, _LAST_PORT = 20_000, 32_000


def _own_ports() -> Iterator[int]:
    """Even numbers that no other process of the same test run tries: a port is free until its service starts.

    Each process starts at a different one: several test suites may run on one machine.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = (_LAST_PORT - _FIRST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = _FIRST_PORT + worker * ports
    return iter(range(first + os.getpid() * 2 % (ports // 3 * 2), first + ports - 1, 2))


_ports = _own_ports()


def free_port() -> int:
    """A free port whose successor is free too; never the same twice.

    Below the ephemeral ports, which the system may give to another process at any moment.
    """
    for port in _ports:
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue
    raise AssertionError("no port is free")


def wait_until(condition: Callable[[], Any], limit_s: float = 120.0, every_s: float = 0.02) -> Any:
    """Call `condition` until its result is true, and return that. Fails if this does not happen in time."""
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(every_s)
    return answer


# The kernel ends a bound process with the thread that started it: this one ends with the tests.
_starter = ThreadPoolExecutor(1, "starter")


def start(
    command: Sequence[str], *, death_signal: signal.Signals = signal.SIGKILL, **options: Any
) -> subprocess.Popen[Any]:
    """Start a process that ends with the tests, also if they are killed; on Linux only.

    death_signal: what it gets then; options: those of subprocess.Popen.
    """
    # Elsewhere a test that kills the process would only reach the one beside it.
    bound = bound_to(os.getpid(), *command, death_signal=death_signal) if sys.platform == "linux" else list(command)
    return _starter.submit(lambda: subprocess.Popen(bound, **options)).result()


class Service:
    """A process that can be restarted at the same port. Its log lines are kept across restarts."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        """log: the file that its output is appended to, for the analysis of failed tests."""
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self.lines: list[dict[str, Any]] = []
        self.on_line: Callable[[Service, dict[str, Any]], None] = lambda service, line: None
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [str(SCRIPTS / command[0]), *command[1:]]
        self._environment = {**environment, "MOMALISA_PORT": str(self.port), "MOMALISA_LOG_FORMAT": "json"}

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of the last start."""
        assert self._process, f"{self.name} was not started"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, **settings: str) -> None:
        """Start the process. settings: environment variables for this start only."""
        self._process = start(
            self._command,
            env={**os.environ, **self._environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout
        self._reader = threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL: no signal handler, no last log line, no orderly close of connections."""
        self.process.kill()
        self.process.wait()

    def restart(self, **settings: str) -> None:
        """Kill the process if it runs, and start it again at once, as an orchestrator would."""
        self.end()
        self.start(**settings)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: the process exists but does not respond."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the process if it was started, and read the rest of its output."""
        if self._process:
            self.kill()
            self._reader.join(10)

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The log lines of an event so far, from all starts."""
        return [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]

    def ports(self) -> set[int]:
        """The local ports of all its connections."""
        return {at.laddr.port for at in psutil.Process(self.process.pid).net_connections("tcp")}

    def _read_output(self, output: IO[bytes]) -> None:
        with output, self.log.open("ab", buffering=0) as log:
            for raw in output:
                line = _read(raw)
                if "event" in line:
                    # First of all: a trap must act while the process still runs.
                    self.on_line(self, line)
                    self.lines.append(line)
                log.write(raw)


def _read(raw: bytes) -> dict[str, Any]:
    """A log line. Empty if it is not a JSON object: part of a traceback, or cut off by a kill."""
    try:
        line = json.loads(raw)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


class Trap:
    """Acts once, on the process that logs the nth line of an event."""

    def __init__(self, event: str, nth: int, act: Callable[[Service], None]) -> None:
        self._event = event
        self._left = nth
        self._act = act
        self._lock = threading.Lock()
        self._result = Future[Service]()

    def on_line(self, service: Service, line: dict[str, Any]) -> None:
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
            self._result.set_exception(error)
        else:
            self._result.set_result(service)

    def wait(self) -> Service:
        """Wait until the trap has acted. Returns the process that logged the line."""
        try:
            return self._result.result(120)
        except TimeoutError:
            raise AssertionError(f"no process logged {self._event!r}") from None
