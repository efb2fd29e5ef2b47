"""The costs of random kills: lost walks, seconds until another worker takes over, frames rendered twice.

`python bench/kills.py [--kills 100]`. A web process, two workers and three replicas with PostgreSQL and a fake GCS, and
always some open walks. Repeatedly, one random process of the six gets SIGKILL and is restarted at once.
Takeover: from a worker's death until another worker requests the first of the frames that the dead worker had requested
but not stored. MOMALISA_SEED repeats a run's random choices.
"""

import argparse
import math
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.processes import Service, wait_until
from tests.support.scaled import LEASE_S, REPLICAS, SEED, Scaled, is_ready, scaled

OPEN_WALKS, FRAMES, STEPS = 3, 13, 2
LONGEST_PAUSE_S = 1.5


class Visitors:
    """Keep some walks open: each one that ends is followed by a new one."""

    def __init__(self, running: Scaled) -> None:
        self._running = running
        self._enough = threading.Event()
        self._seeds = count(1)
        self._pool = ThreadPoolExecutor(OPEN_WALKS)
        self._work: list[Future[list[dict[str, Any]]]] = []

    def start(self) -> None:
        self._work = [self._pool.submit(self._visit) for _ in range(OPEN_WALKS)]

    def ended(self) -> list[dict[str, Any]]:
        """Request no new walks. Returns all walks once they have ended."""
        self._enough.set()
        return [walk for work in self._work for walk in work.result()]

    def _visit(self) -> list[dict[str, Any]]:
        walks = []
        while not self._enough.is_set():
            request = {
                "start": "a red sunburst on yellow",
                "end": "blue waves",
                "frames": FRAMES,
                "spacing": "uniform",
                "steps": STEPS,
            }
            walk = self._running.request_until_accepted(**request, seed=next(self._seeds))
            try:
                walks.append(self._running.ended(walk))
            except AssertionError:
                walks.append({**self._running.read(walk), "error": "the walk has not ended"})
        return walks


def takeover_s(running: Scaled, lost: set[str], since: float) -> float | None:
    """Seconds until the first of these frames was requested again, once each was requested again or is in the bucket.

    None if all of them are in the bucket without another request; infinity if one is still missing.
    """
    try:
        wait_until(lambda: lost <= running.requested_since(since).keys() | running.gcs.objects.keys())
    except AssertionError:
        return math.inf
    again = [at for key, at in running.requested_since(since).items() if key in lost]
    return min(again) - since if again else None


def kill_one(running: Scaled, victim: Service) -> float | None:
    """Kill and restart. Returns the seconds of the takeover, or None if there was nothing to take over."""
    victim.kill()
    since = time.monotonic()
    lost = running.in_flight(victim) if victim in running.workers else set()
    victim.restart()
    took_s = takeover_s(running, lost, since) if lost else None
    if victim not in running.replicas:
        wait_until(lambda: is_ready(victim))
    return took_s


def candidates(running: Scaled) -> list[Service]:
    """The processes that may be killed now. Replicas start slowly, so only one of them at a time."""
    awake = [replica for replica in running.replicas if is_ready(replica)]
    return [*running.api, *(awake if len(awake) == REPLICAS else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    kills = parser.parse_args().kills
    dice, killed, takeovers = random.Random(SEED), Counter[str](), []
    with tempfile.TemporaryDirectory() as folder, scaled(Path(folder)) as running:
        running.wait_until_ready()
        visitors = Visitors(running)
        visitors.start()
        while killed.total() < kills:
            time.sleep(dice.uniform(0, LONGEST_PAUSE_S))
            victim = dice.choice(candidates(running))
            killed[victim.name.partition("-")[0]] += 1
            if (took_s := kill_one(running, victim)) is not None:
                takeovers.append(took_s)
        walks = visitors.ended()
        rendered = running.rendered()
    report(killed, walks, takeovers, rendered)


def report(killed: Counter[str], walks: list[dict[str, Any]], takeovers: list[float], rendered: Counter[str]) -> None:
    of = ", ".join(f"{number} of {kind}" for kind, number in sorted(killed.items()))
    print(f"{killed.total()} kills ({of}), MOMALISA_SEED={SEED}")
    print(f"{len(walks)} walks of {FRAMES} frames, {OPEN_WALKS} at a time; a lease is {LEASE_S} s")
    lost = [walk for walk in walks if walk["state"] != "done"]
    for walk in lost:
        print(f"  lost: {walk['id']}, {walk['state']}: {walk['error']}")
    print(f"{'walks lost':28}{len(lost):8}   (target 0)")
    if takeovers:
        median_s, longest_s = statistics.median(takeovers), max(takeovers)
        print(f"{'takeover, seconds':28}{median_s:8.2f}   (longest of {len(takeovers)}: {longest_s:.2f})")
        print(f"{'takeover, in leases':28}{median_s / LEASE_S:8.2f}   (longest: {longest_s / LEASE_S:.2f})")
    twice = sum(times - 1 for times in rendered.values())
    print(f"{'frames rendered twice':28}{twice:8}   (of {rendered.total()}; {twice / killed.total():.2f} per kill)")


if __name__ == "__main__":
    main()
