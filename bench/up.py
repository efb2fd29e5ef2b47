"""What the embedded models for pictures and clips add to `momalisa up`: seconds until it is ready, and memory.

    python bench/up.py

`momalisa up` with the atelier alone, and with all embedded models, in turn: the seconds until the first model is ready
on one replica, and until all are ready on both; then the memory of both replicas, with what they share counted once.
The ratios compare the two in one run.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import psutil

from tests.support.deployment import Deployment
from tests.support.processes import SCRIPTS, free_port, start, wait_until

ROUNDS, REPLICAS, MB = 3, 2, 1 << 20


@dataclass(frozen=True)
class StartUp:
    """Seconds from the command to the first model and to all models, and the replicas' memory in bytes."""

    first_s: float
    all_s: float
    replicas: int
    models: int


def awake(url: str) -> list[int]:
    """How many replicas of each model can take work; none while the API does not answer."""
    try:
        models = httpx.get(f"{url}/api/v1/models", timeout=5, trust_env=False).json()["models"]
        return [model["replicas"]["awake"] for model in models]
    except (httpx.HTTPError, ValueError, KeyError):
        return []


def started(recipes: str) -> StartUp:
    """Start `momalisa up`, wait until it is ready, stop it. recipes: of the replicas; empty: the embedded default."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "MOMALISA_RECIPES": recipes,
            "MODEL_ID": "",
            "MOMALISA_MODEL_ID": "",
            "MOMALISA_PORT": str(port),
            "MOMALISA_BUCKET": f"{folder}/bucket",
            "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
            "MOMALISA_REFRESH_S": "0.2",
        }
        began, log = time.perf_counter(), Path(folder) / "up.log"
        with log.open("wb") as out:
            command = [str(SCRIPTS / "momalisa"), "up", "--replicas", str(REPLICAS)]
            process = start(command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            running = Deployment(f"http://127.0.0.1:{port}", process, [], log)
            wait_until(lambda: any(awake(running.url)), every_s=0.05)
            first_s = time.perf_counter() - began
            wait_until(lambda: (found := awake(running.url)) and min(found) == REPLICAS, every_s=0.05)
            all_s, models = time.perf_counter() - began, len(awake(running.url))
            used = sum(psutil.Process(each.pid).memory_full_info().pss for each in running.replica_processes())
            return StartUp(first_s, all_s, used, models)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def main() -> None:
    # Fills the caches of the disk.
    started("")
    rounds = [(started("atelier"), started("")) for _ in range(ROUNDS)]
    print(f"{rounds[0][0].models} model, then {rounds[0][1].models}; medians of {ROUNDS} rounds, {REPLICAS} replicas")
    for name, read in (
        ("first model ready", lambda found: found.first_s),
        ("all models ready", lambda found: found.all_s),
        ("memory of the replicas", lambda found: found.replicas / MB),
    ):
        alone, together = (median(read(pair[place]) for pair in rounds) for place in (0, 1))
        unit = "MB" if "memory" in name else "s"
        print(f"{name}: {together / alone:.2f} times ({alone:.1f} {unit}, then {together:.1f} {unit})")


if __name__ == "__main__":
    main()
