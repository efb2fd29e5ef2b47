"""A uniform walk through the API and two replicas compared with direct calls of the sampler: same total threads.

`python bench/fanout.py`. Direct: one process with two threads renders every frame. Fan-out: two replicas with one
thread each behind the API, over HTTP, until an event says that the last frame is stored in the bucket. Both are
measured in pairs. The ratio has two factors, which the replicas' metrics tell apart: how long their devices were busy,
over the direct time; and the whole time, over that in which they were busy.
"""

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import psutil
from rig.visitor import snapshots

from momalisa_api.fleet.wire import render_request
from momalisa_api.walks.spec import WalkSpec
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.settings import Settings
from momalisa_model.wire import Recipe
from tests.support.deployment import Deployment, deployed
from tests.support.processes import WEIGHTS

PAIRS = 5
START, END = "a red sunburst on yellow", "a blue spiral on white"
SHARD_SECONDS = re.compile(r"^momalisa_model_shard_seconds_sum (\S+)$", re.MULTILINE)


def direct(ready: LoadedModel, spec: dict[str, Any]) -> float:
    """Seconds for all frames of a walk of one leg, with the sampler only."""
    [leg] = WalkSpec.model_validate(spec).recipes(spec["seed"])
    recipe = Recipe.model_validate(render_request(leg, [])["recipe"])
    fractions = [index / (spec["frames"] - 1) for index in range(spec["frames"])]
    began = time.perf_counter()
    list(ready.sampler.frames(recipe, ready.sampler.encode(recipe), fractions))
    return time.perf_counter() - began


def through_the_api(deployment: Deployment, frames: int, seed: int) -> tuple[float, dict[str, Any]]:
    """Seconds from the request until the last frame is stored, and the walk's spec."""
    request = {"start": START, "end": END, "frames": frames, "seed": seed, "spacing": "uniform"}
    with httpx.Client(base_url=deployment.url, trust_env=False) as client:
        client.get("/api/v1/model").raise_for_status()
        began = time.perf_counter()
        walk = client.post("/api/v1/walks", json=request).raise_for_status().json()
        next(seen for seen in snapshots(client, walk) if len(seen["frames_ready"]) == frames)
        took_s = time.perf_counter() - began
    spec: dict[str, Any] = deployment.ended(walk)["spec"]
    return took_s, spec


def busy_s(deployment: Deployment) -> float:
    """Seconds that a replica's device was busy so far, on average."""
    ports = [
        at.laddr.port
        for replica in deployment.replica_processes()
        for at in replica.net_connections()
        if at.status == psutil.CONN_LISTEN
    ]
    metrics = [httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text for port in ports]
    return statistics.fmean(float(SHARD_SECONDS.findall(text)[0]) for text in metrics)


def main() -> None:
    ready = load_model(Settings(model_id=str(WEIGHTS), threads=2))
    micro_batch = ready.answer.card.micro_batch
    frames = 8 * micro_batch
    print(f"{frames} frames in 8 shards of {micro_batch}; {PAIRS} pairs")
    ratios, waits = [], []
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), proxied=False) as deployment:
        through_the_api(deployment, frames, seed=0)
        for pair in range(1, PAIRS + 1):
            before_s = busy_s(deployment)
            api_s, spec = through_the_api(deployment, frames, seed=pair)
            rendering_s = busy_s(deployment) - before_s
            direct_s = direct(ready, spec)
            ratios.append(api_s / direct_s)
            waits.append(api_s / rendering_s)
            print(
                f"direct {direct_s:6.2f} s   through the api {api_s:6.2f} s   {ratios[-1]:.2f}"
                f" = {rendering_s / direct_s:.2f} rendering x {waits[-1]:.2f} waiting",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.2f} (target: at most 1.05), waiting {statistics.median(waits):.2f}")


if __name__ == "__main__":
    main()
