"""Even walks beside uniform ones: fifty walks between captions that the atelier never saw, the same seeds.

`python bench/evenness.py [walks]`. Over HTTP, through an api and two replicas. Of every pair the one that is rendered
first is timed and its frames are counted, since the other finds some of them in the bucket; they take turns.
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
    """What one spacing has shown so far."""

    moves: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rendered: list[int] = field(default_factory=list)

    def all(self, what: str) -> list[float]:
        return [moves[what] for moves in self.moves]


def walk(deployment: Deployment, wish: dict[str, Any], tally: Tally, *, first: bool) -> None:
    """One walk, measured by the api itself; how long it took and what it rendered, where it came first."""
    before, began = len(deployment.rendered), time.perf_counter()
    done = deployment.ended(deployment.ask(**wish))
    tally.moves.append(done["smoothness"])
    if first:
        tally.seconds.append(time.perf_counter() - began)
        tally.rendered.append(len(deployment.rendered) - before)


def line(what: str, even: float, uniform: float, said: str = "") -> None:
    print(f"{what:32} even {even:6.3f}   uniform {uniform:6.3f}   {said}")


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
        deployment.ended(deployment.ask(start="a red star", end="blue waves", frames=10, seed=1))
        for number in range(walks):
            start, end = (draw_caption(by_chance, from_held_out=True).text for _ in range(2))
            order = (EVEN, UNIFORM) if number % 2 else (UNIFORM, EVEN)
            for spacing in order:
                wish = {"start": start, "end": end, "frames": FRAMES, "seed": number, "spacing": spacing}
                walk(deployment, wish, tallies[spacing], first=spacing == order[0])
    report(tallies[EVEN], tallies[UNIFORM])


if __name__ == "__main__":
    main()
