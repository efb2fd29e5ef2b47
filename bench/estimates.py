"""How true the estimates are: what a walk said after its first round, beside what happened until its last frame.

`python bench/estimates.py [walks]`. Over HTTP, with an API and two replicas. Half of the walks run alone, the others in
pairs, with other lengths and stops.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

from atelier.captions import draw_caption
from tests.support.deployment import Deployment, deployed

POLL_S = 0.1
TARGET = 1.5


def watched(deployment: Deployment, request: dict[str, Any]) -> tuple[float, float]:
    """The seconds that were estimated when the first round was complete, and those that it took from then on."""
    walk, said, began = deployment.request_walk(**request), 0.0, 0.0
    while len(walk["frames_ready"]) < request["frames"]:
        time.sleep(POLL_S)
        walk = deployment.read(walk)
        assert walk["state"] not in ("failed", "cancelled"), walk
        if not began and len(walk["probes"]) == request["frames"]:
            said, began = walk["seconds_left"], time.perf_counter()
    return said, time.perf_counter() - began


def run(deployment: Deployment, requests: Sequence[dict[str, Any]]) -> list[float]:
    """What happened over what was said, of walks that run at the same time."""
    with ThreadPoolExecutor(len(requests)) as pool:
        results = list(pool.map(lambda request: watched(deployment, request), requests))
    for request, (said, happened) in zip(requests, results, strict=True):
        shape = f"{request['frames']} frames, {len(request['stops'])} stops, {len(requests)} at once"
        print(f"{shape:36} said {said:5.1f} s   happened {happened:5.1f} s   ratio {happened / said:.2f}", flush=True)
    return [happened / said for said, happened in results]


def main() -> None:
    walks = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    by_chance = Random(2026)

    def request(number: int) -> dict[str, Any]:
        stops = [draw_caption(by_chance, from_held_out=True).text for _ in range(2 + number % 2)]
        return {"stops": stops, "frames": (13, 25, 37)[number % 3], "seed": number}

    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), proxied=False) as deployment:
        deployment.ended(deployment.request_walk(start="a red star", end="blue waves", frames=10, seed=1))
        for number in range(walks // 2):
            ratios += run(deployment, [request(number)])
        for number in range(walks // 2, walks, 2):
            ratios += run(deployment, [request(number), request(number + 1)])
    within = sum(1 / TARGET <= ratio <= TARGET for ratio in ratios)
    print(f"median {statistics.median(ratios):.2f}, {within} of {len(ratios)} within a factor of {TARGET}")


if __name__ == "__main__":
    main()
