"""A uniform walk through the API and two replicas compared with direct calls of the sampler. Same total threads.

`python bench/fanout.py`. Direct: two processes with one thread each call the sampler, half of the frames each. Fan-out:
two replicas with one thread each behind the API, over HTTP, until an event says that the last frame is stored in the
bucket. Both are measured in pairs. The ratio has three factors, which the replicas' metrics tell apart: how long a
device was busy on average, over the direct time (rendering); the busier device over that (balance); and the whole time,
over that in which the busier device was busy (waiting). On a machine with other work, rendering and balance say most
about that work; the CPU time of all processes over that of the direct ones does not.
"""

import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import psutil
from rig.visitor import snapshots

from momalisa_api.fleet.wire import render_request
from momalisa_api.walks.between import BetweenSpec
from momalisa_model.lifecycle import load_model
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings
from tests.support.deployment import Deployment, deployed
from tests.support.processes import WEIGHTS

PAIRS = 5
START, END = "a red sunburst on yellow", "a blue spiral on white"
SHARD_SECONDS = re.compile(r"^momalisa_model_shard_seconds_sum (\S+)$", re.MULTILINE)


def sample(requests: Connection) -> None:
    """In a process of its own: render what arrives, with one thread, and say when it is done."""
    # Linux shares a busy machine between sessions, and each replica has one.
    os.setsid()
    ready = load_model(Settings(model_id=str(WEIGHTS), threads=1))
    requests.send(ready.answer.card.micro_batch)
    while (request := requests.recv()) is not None:
        recipe, fractions = BetweenRecipe.model_validate(request["recipe"]), request["fractions"]
        used_s = time.process_time()
        list(ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), fractions))
        requests.send(time.process_time() - used_s)


def direct(samplers: list[Connection], spec: dict[str, Any]) -> tuple[float, float]:
    """Seconds, and CPU seconds, for all frames of a walk of one leg, with the samplers only."""
    [leg] = BetweenSpec.model_validate(spec).recipes(spec["seed"])
    fractions = [index / (spec["frames"] - 1) for index in range(spec["frames"])]
    began = time.perf_counter()
    for number, sampler in enumerate(samplers):
        sampler.send(render_request(leg, fractions[number :: len(samplers)]))
    used_s = sum(sampler.recv() for sampler in samplers)
    return time.perf_counter() - began, used_s


@contextmanager
def processes() -> Iterator[list[Connection]]:
    """Two processes that call the sampler."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    for _, theirs in pipes:
        context.Process(target=sample, args=(theirs,), daemon=True).start()
    yield [ours for ours, _ in pipes]
    for ours, _ in pipes:
        ours.send(None)


def through_the_api(
    deployment: Deployment, frames: int, seed: int, used_s: Callable[[], float] = float
) -> tuple[float, dict[str, Any], float]:
    """Seconds from the request until the last frame is stored, the walk's spec, and what `used_s` returns then."""
    request = {"start": START, "end": END, "frames": frames, "seed": seed, "spacing": "uniform"}
    with httpx.Client(base_url=deployment.url, trust_env=False) as client:
        client.get("/api/v1/model").raise_for_status()
        began = time.perf_counter()
        walk = client.post("/api/v1/walks", json=request).raise_for_status().json()
        next(seen for seen in snapshots(client, walk) if len(seen["frames_ready"]) == frames)
        took_s, cpu = time.perf_counter() - began, used_s()
    spec: dict[str, Any] = deployment.ended(walk)["spec"]
    return took_s, spec, cpu


def busy_s(deployment: Deployment) -> list[float]:
    """Seconds that each replica's device was busy so far."""
    ports = [
        at.laddr.port
        for replica in deployment.replica_processes()
        for at in replica.net_connections()
        if at.status == psutil.CONN_LISTEN
    ]
    metrics = [httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text for port in ports]
    return [float(SHARD_SECONDS.findall(text)[0]) for text in metrics]


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its descendants so far."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def main() -> None:
    ratios, waits, cpus = [], [], []
    with (
        processes() as samplers,
        tempfile.TemporaryDirectory() as folder,
        deployed(Path(folder), proxied=False) as deployment,
    ):
        whole = psutil.Process(deployment.process.pid)
        [micro_batch] = {sampler.recv() for sampler in samplers}
        frames = 8 * micro_batch
        print(f"{frames} frames in 8 shards of {micro_batch}; {PAIRS} pairs")
        through_the_api(deployment, frames, seed=0)
        for pair in range(1, PAIRS + 1):
            before_s, used_s = busy_s(deployment), cpu_s(whole)
            api_s, spec, used_then_s = through_the_api(deployment, frames, pair, partial(cpu_s, whole))
            api_cpu_s = used_then_s - used_s
            busy = [after - before for after, before in zip(busy_s(deployment), before_s, strict=True)]
            direct_s, direct_cpu_s = direct(samplers, spec)
            cpus.append(api_cpu_s / direct_cpu_s)
            ratios.append(api_s / direct_s)
            waits.append(api_s / max(busy))
            mean_s = statistics.fmean(busy)
            print(
                f"direct {direct_s:6.2f} s   through the api {api_s:6.2f} s   {ratios[-1]:.2f} = "
                f"{mean_s / direct_s:.2f} rendering x {max(busy) / mean_s:.2f} balance x {waits[-1]:.2f} waiting"
                f"   CPU {cpus[-1]:.2f}",
                flush=True,
            )
    print(
        f"median {statistics.median(ratios):.2f} (target: at most 1.05), waiting {statistics.median(waits):.2f}, CPU "
        f"{statistics.median(cpus):.2f}"
    )


if __name__ == "__main__":
    main()
