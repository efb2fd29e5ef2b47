"""Even walks compared with uniform ones: fifty walks between captions held out of the training, with equal seeds.

`python bench/evenness.py [walks]`. Over HTTP, with an API and two replicas. Of each pair, only the walk rendered first
is timed and its frames counted, since the other finds some frames in the bucket. Even and uniform are first in turn.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "model-service")]

from atelier.captions import draw_caption
from tests.support.deployment import Deployment, deployed

FRAMES = 25
EVEN, UNIFORM = "even", "uniform"


@dataclass
class Tally:
    """The measurements of one spacing so far."""

    moves: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rendered: list[int] = field(default_factory=list)

    def all(self, what: str) -> list[float]:
        return [moves[what] for moves in self.moves]


def walk(deployment: Deployment, request: dict[str, Any], tally: Tally, *, first: bool) -> None:
    """Record one walk's smoothness, which the API measures; for the first of a pair also its time and frames."""
    before, began = len(deployment.rendered), time.perf_counter()
    done = deployment.ended(deployment.request_walk(**request))
    tally.moves.append(done["smoothness"])
    if first:
        tally.seconds.append(time.perf_counter() - began)
        tally.rendered.append(len(deployment.rendered) - before)


def line(what: str, even: float, uniform: float, note: str = "") -> None:
    print(f"{what:32} even {even:6.3f}   uniform {uniform:6.3f}   {note}")


def worst_tenth(values: list[float]) -> float:
    """The mean of the lowest tenth."""
    return statistics.fmean(sorted(values)[: max(1, len(values) // 10)])


def report(even: Tally, uniform: Tally) -> None:
    mean = statistics.fmean
    line("1 - Gini, mean", mean(even.all("evenness")), mean(uniform.all("evenness")), "(target .93)")
    line("1 - Gini, worst tenth", worst_tenth(even.all("evenness")), worst_tenth(uniform.all("evenness")), "(.85)")
    line("largest step over mean", mean(even.all("largest")), mean(uniform.all("largest")), "(1.35)")
    ratio = mean(even.all("deviation")) / mean(uniform.all("deviation"))
    line("deviation", mean(even.all("deviation")), mean(uniform.all("deviation")), f"ratio {ratio:.2f} (.35)")
    ratio = mean(even.all("sharpness")) / mean(uniform.all("sharpness"))
    line("sharpness", mean(even.all("sharpness")), mean(uniform.all("sharpness")), f"ratio {ratio:.2f} (.97)")
    ratio = mean(even.rendered) / mean(uniform.rendered)
    line("frames rendered", mean(even.rendered), mean(uniform.rendered), f"ratio {ratio:.2f} (1.3)")
    ratio = statistics.median(even.seconds) / statistics.median(uniform.seconds)
    line("seconds, median", statistics.median(even.seconds), statistics.median(uniform.seconds), f"ratio {ratio:.2f}")


def main() -> None:
    walks = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    by_chance, tallies = Random(2026), {EVEN: Tally(), UNIFORM: Tally()}
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder)) as deployment:
        deployment.ended(deployment.request_walk(start="a red star", end="blue waves", frames=10, seed=1))
        for number in range(walks):
            start, end = (draw_caption(by_chance, from_held_out=True).text for _ in range(2))
            order = (EVEN, UNIFORM) if number % 2 else (UNIFORM, EVEN)
            for spacing in order:
                request = {"start": start, "end": end, "frames": FRAMES, "seed": number, "spacing": spacing}
                walk(deployment, request, tallies[spacing], first=spacing == order[0])
    report(tallies[EVEN], tallies[UNIFORM])


if __name__ == "__main__":
    main()
