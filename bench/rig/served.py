"""A real API process without replicas, and its databases."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.support.deployment import SCRIPTS, free_port
from tests.support.factories import CARD
from tests.support.postgres import migrated
from tests.support.processes import start

START_LIMIT_S = 60
# Far above the load of a bench: the API must accept all its requests.
BUDGETS = {
    "MOMALISA_MAX_QUEUED_WALKS": "1000000",
    "MOMALISA_MAX_WALKS_PER_OWNER": "1000000",
    "MOMALISA_FRAMES_PER_OWNER_PER_DAY": "100000000",
    "MOMALISA_OWNERS_PER_NETWORK": "1000",
}


@dataclass(frozen=True)
class Api:
    """A running API process."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """The CPU time of the process so far, which other load on the machine does not change."""
        used = self.process.cpu_times()
        return float(used.user + used.system)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database. kind: "SQLite", in the folder, or "PostgreSQL", on a new server."""
    if kind == "SQLite":
        yield f"sqlite:///{folder}/catalogue.sqlite"
        return
    with migrated() as url:
        yield url


@contextmanager
def served(folder: Path, database_url: str, **settings: str) -> Iterator[Api]:
    """A `momalisa serve` that is ready, without replicas. It logs to the folder."""
    port, card = free_port(), folder / "card.json"
    log = folder / f"api-{port}.log"
    card.write_text(json.dumps(CARD))
    environment = {
        **os.environ,
        **BUDGETS,
        "MOMALISA_MODEL_CARD": str(card),
        "MOMALISA_BUCKET": str(folder / "bucket"),
        "MOMALISA_DATABASE_URL": database_url,
        "MOMALISA_REPLICAS": "http://127.0.0.1:9",
        "MOMALISA_PORT": str(port),
        **settings,
    }
    with log.open("wb") as out:
        command = [str(SCRIPTS / "momalisa"), "serve"]
        process = start(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            _await_ready(port, process, log)
            yield Api(port, psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                print("the API did not stop and was killed", file=sys.stderr)


def _await_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"the API did not start:\n{log.read_text()}")
