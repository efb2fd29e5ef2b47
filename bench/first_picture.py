"""Time from the request of a default walk to its first picture, and where it goes, beside a bare micro-batch.

`python bench/first_picture.py [WALKS]`. `momalisa up` with two replicas and the embedded model, warm. A visitor POSTs a
walk, opens its event stream and fetches the first picture that an event names. For comparison, in turn with the walks:
both replicas render one micro-batch each, called directly and at once, until the first frame arrives; and the CPU time
that one of them took, which is what this would take on an idle core. The steps between come from the log of the API.
"""

import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import psutil
from rig.visitor import snapshots

from momalisa_api.fleet.wire import render_request
from momalisa_api.walks.recipe import Recipe
from tests.support.deployment import Deployment, deployed
from tests.support.processes import WEIGHTS

THINGS = ("spiral", "sunburst", "flower", "grid", "target", "rainbow", "star", "mosaic", "ladder", "lantern", "wave")
# A step of a walk, and the line of the log that tells its end.
STEPS = {"accepted": "walk accepted", "planned": "walk planned", "shard": "shard started", "stored": "frame stored"}
COLUMNS = (*STEPS, "event", "picture", "direct", "cpu")
JSON_LINE = re.compile(rb"\{.*\}")


def first_picture(client: httpx.Client, walk: dict[str, Any]) -> tuple[float, float]:
    """Watch a walk as its page does. Returns when an event named the first picture, and when it was fetched."""
    for seen in snapshots(client, walk):
        urls = [probe["url"] for probe in seen["probes"]]
        urls += [f"{walk['url']}/frames/{number}.png" for number in seen["frames_ready"]]
        if urls:
            named_at = time.perf_counter()
            client.get(urls[0]).raise_for_status()
            return named_at, time.perf_counter()
    raise SystemExit(f"the walk ended without a picture: {walk['url']}")


def timed(deployment: Deployment, start: str, end: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds from the request to each step of a walk, and the finished walk."""
    with httpx.Client(base_url=deployment.url, trust_env=False) as client:
        client.get("/api/v1/model").raise_for_status()
        began, now = time.time(), time.perf_counter()
        walk = client.post("/api/v1/walks", json={"start": start, "end": end}).raise_for_status().json()
        named_at, fetched_at = first_picture(client, walk)
    done = deployment.ended(walk)
    reached = {"event": named_at - now, "picture": fetched_at - now}
    return {**_logged(deployment.log, walk["id"], began), **reached}, done


def _logged(log: Path, walk_id: str, began: float) -> dict[str, float]:
    """Seconds until each step of a walk, by the log."""
    found: dict[str, float] = {}
    for line in log.read_bytes().splitlines():
        match = JSON_LINE.search(line)
        if not match or walk_id.encode() not in line:
            continue
        entry = json.loads(match[0])
        for step, event in STEPS.items():
            if entry["event"] == event:
                found.setdefault(step, datetime.fromisoformat(entry["timestamp"]).timestamp() - began)
    return found


def direct(replicas: list[psutil.Process], recipe: Recipe, micro_batch: int) -> dict[str, float]:
    """Seconds until the first frame of one micro-batch, while each replica renders one, and CPU seconds of each."""
    body = render_request(recipe, [number / (micro_batch - 1) for number in range(micro_batch)])
    took: list[float] = []

    def render(port: int) -> None:
        with httpx.stream(
            "POST", f"http://127.0.0.1:{port}/v1/render", json=body, timeout=120, trust_env=False
        ) as answer:
            for number, _ in enumerate(answer.iter_lines()):
                if number == 1:
                    took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=render, args=(port_of(replica),)) for replica in replicas]
    used_s = cpu_s(replicas)
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"direct": min(took), "cpu": (cpu_s(replicas) - used_s) / len(replicas)}


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def port_of(replica: psutil.Process) -> int:
    [at] = [at for at in replica.net_connections() if at.status == psutil.CONN_LISTEN]
    port: int = at.laddr.port
    return port


def main(walks: int) -> None:
    os.environ |= {"MOMALISA_LOG_LEVEL": "debug", "MOMALISA_LOG_FORMAT": "json"}
    rows: list[dict[str, float]] = []
    print("seconds from the request until " + ", ".join(COLUMNS[:-2]) + "; direct, cpu: a bare micro-batch")
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), proxied=False) as deployment:
        micro_batch = json.loads((WEIGHTS / "card.json").read_bytes())["micro_batch"]
        replicas = deployment.replica_processes()
        timed(deployment, "a green wave on white", "a pink star on black")
        for number in range(walks):
            first, second = THINGS[number % len(THINGS)], THINGS[(number + 1) % len(THINGS)]
            row, walk = timed(deployment, f"a red {first} on yellow", f"a blue {second} on white")
            spec = {name: walk["spec"][name] for name in Recipe.model_fields if name in walk["spec"]}
            recipe = Recipe.model_validate({**spec, "seed": 0, "start": f"a gold {first}", "end": f"a navy {second}"})
            row |= direct(replicas, recipe, micro_batch)
            rows.append(row)
            print("  ".join(f"{name} {row[name]:5.2f}" for name in COLUMNS), flush=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    print("median " + "  ".join(f"{name} {medians[name]:.2f}" for name in COLUMNS))
    ratio = statistics.median(row["picture"] / row["direct"] for row in rows)
    beside = medians["shard"] + medians["picture"] - medians["stored"]
    print(f"first picture over a bare micro-batch: {ratio:.2f}; before and after the shard {1000 * beside:.0f} ms")
    print("target: at most 1.5 s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
