"""How true the estimates are: what a walk said after its first round, beside what happened until its last frame.

`python bench/estimates.py [walks]`. Over HTTP, with an API and two replicas. Half of the walks run alone, the others in
pairs, with other lengths and stops. Walks with a leg that is rendered again are told apart: nothing is known of that
before the last round.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

from atelier.captions import draw_caption
from tests.support.deployment import Deployment, deployed

POLL_S = 0.1
TARGET = 1.5


@dataclass(frozen=True)
class Outcome:
    """What was estimated when the first round was complete, the time from then on, and whether a leg came again."""

    said_s: float
    happened_s: float
    again: bool

    @property
    def ratio(self) -> float:
        return self.happened_s / self.said_s


def watched(deployment: Deployment, request: dict[str, Any]) -> Outcome:
    """Follow a walk to its last frame."""
    walk, first, began = deployment.request_walk(**request), dict[str, Any](), 0.0
    while len(walk["frames_ready"]) < request["frames"]:
        time.sleep(POLL_S)
        walk = deployment.read(walk)
        assert walk["state"] not in ("failed", "cancelled"), walk
        if not first and len(walk["probes"]) == request["frames"]:
            first, began = walk, time.perf_counter()
    return Outcome(first["seconds_left"], time.perf_counter() - began, walk["rounds"] > first["rounds"])


def run(deployment: Deployment, requests: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Follow walks that run at the same time."""
    with ThreadPoolExecutor(len(requests)) as pool:
        outcomes = list(pool.map(lambda request: watched(deployment, request), requests))
    for request, one in zip(requests, outcomes, strict=True):
        shape = f"{request['frames']} frames, {len(request['stops'])} stops, {len(requests)} at once"
        note = "  a leg came again" if one.again else ""
        print(f"{shape:36} said {one.said_s:5.1f} s   happened {one.happened_s:5.1f} s   ratio {one.ratio:.2f}{note}")
    return outcomes


def main() -> None:
    walks = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    by_chance = Random(2026)

    def request(number: int) -> dict[str, Any]:
        stops = [draw_caption(by_chance, from_held_out=True).text for _ in range(2 + number % 2)]
        return {"stops": stops, "frames": (13, 25, 37)[number % 3], "seed": number}

    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), proxied=False) as deployment:
        deployment.ended(deployment.request_walk(start="a red star", end="blue waves", frames=10, seed=1))
        for number in range(walks // 2):
            outcomes += run(deployment, [request(number)])
        for number in range(walks // 2, walks, 2):
            outcomes += run(deployment, [request(number), request(number + 1)])
    for again in (False, True):
        ratios = [one.ratio for one in outcomes if one.again is again]
        if ratios:
            within = sum(1 / TARGET <= ratio <= TARGET for ratio in ratios)
            what = "a leg came again" if again else "as planned"
            middle = statistics.median(ratios)
            print(f"{what}: median {middle:.2f}, {within} of {len(ratios)} within a factor of {TARGET}")


if __name__ == "__main__":
    main()
