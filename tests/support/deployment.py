"""The real processes of `make up`, with a recording proxy between the API and each replica."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.client import Client
from tests.support.processes import SCRIPTS, WEIGHTS, free_port, start, wait_until
from tests.support.proxy import Proxy


class Deployment(Client):
    """A running `momalisa up`, seen from outside."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], proxies: list[Proxy], log: Path) -> None:
        super().__init__(url)
        self.process = process
        self.proxies = proxies
        self.log = log

    @property
    def rendered(self) -> list[tuple[str, float]]:
        """Every frame that any replica has sent so far."""
        return [frame for proxy in self.proxies for frame in proxy.recording.frames]

    def replica_behind(self, proxy: Proxy) -> psutil.Process:
        """The model service that a proxy forwards to."""
        port = int(proxy.upstream.rpartition(":")[2])
        [found] = [
            process
            for process in self.replica_processes()
            if any(at.laddr.port == port for at in process.net_connections() if at.status == psutil.CONN_LISTEN)
        ]
        return found

    def replica_processes(self) -> list[psutil.Process]:
        """The model services, without their supervisors."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if any("momalisa-model" in part for part in child.cmdline()[:2]):
                    found.append(child)
        return found


@contextmanager
def deployed(folder: Path, *, proxied: bool = True, recipes: Sequence[str] = ()) -> Iterator[Deployment]:
    """`momalisa up` with two replicas, stopped as by Ctrl-C.

    proxied: whether each replica is behind a proxy. recipes: the model recipes that each replica loads; none: the
    atelier.
    """
    first, port = free_port(), free_port()
    proxies = [Proxy(f"http://127.0.0.1:{first + replica}") for replica in range(2)] if proxied else []
    environment = {
        **os.environ,
        **({"MOMALISA_RECIPES": " ".join(recipes)} if recipes else {"MOMALISA_MODEL_ID": str(WEIGHTS)}),
        "MOMALISA_PORT": str(port),
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
        "MOMALISA_REFRESH_S": "0.5",
        # A late shard would be rendered twice, which is correct but would disturb the counts of the tests.
        "MOMALISA_BACKUP_SHARDS": "false",
    }
    if proxied:
        environment["MOMALISA_REPLICAS"] = " ".join(proxy.url for proxy in proxies)
    log = folder / "up.log"
    with ExitStack() as stack:
        for proxy in proxies:
            stack.enter_context(proxy.running())
        command = [str(SCRIPTS / "momalisa"), "up", "--first-port", str(first)]
        process = start(
            command,
            env=environment,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = Deployment(f"http://127.0.0.1:{port}", process, proxies, log)
        try:
            wait_until(lambda: running.awake() == 2 or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
