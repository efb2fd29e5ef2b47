"""How even a walk becomes with rounds of different sizes: ten walks between captions held out of the training.

    python bench/rounds.py [--walks 10] [--frames 25 61] [--known 25,35,45 25,50]

The product's own planner, on pictures of a dense grid: they are rendered when a row needs them, and stored in
.run/rounds for all later rows and runs. Compare the figures within one table: bench/evenness.py has other walks and no
grid. At the end, the time that the planner takes between two rounds.
"""

import argparse
import io
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from time import process_time

sys.path[:0] = [str(Path(__file__).parents[1] / "model-service")]

import torch
from PIL import Image

from atelier.captions import draw_caption
from momalisa_api.walks.even_spacing import follow
from momalisa_api.walks.smoothness import Thumbnail, gauge
from momalisa_model.lifecycle import LoadedModel, load_model
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.settings import Settings

FOLDER = Path(__file__).parents[1] / ".run" / "rounds"
# A multiple of the intervals of 25 and of 61 frames.
INTERVALS = 960
SCHEDULES: dict[int, tuple[tuple[int, ...], ...]] = {
    25: (
        (25,),
        (25, 32),
        (25, 38),
        (25, 50),
        (25, 29, 32),
        (25, 31, 38),
        (25, 30, 35),
        (25, 35, 45),
        (25, 38, 50),
        (25, 29, 34, 38),
        (25, 30, 35, 40),
        (25, 33, 42, 50),
    ),
    61: (
        (61,),
        (61, 78),
        (61, 92),
        (61, 122),
        (61, 69, 78),
        (61, 76, 91),
        (61, 92, 122),
        (61, 71, 81, 91),
        (61, 81, 102, 122),
    ),
}


@cache
def model() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(Settings(threads=1))


class Walk:
    """A walk whose pictures exist at all points of a grid, as far as the planner can tell."""

    def __init__(self, number: int, start: str, end: str) -> None:
        self._number, self._ends = number, (start, end)
        self._folder = FOLDER / str(number)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._distances: dict[tuple[int, int], float] = {}
        self._thumbnail = cache(lambda point: Thumbnail.of((self._folder / f"{point}.png").read_bytes()))

    def render(self, points: Iterable[int]) -> None:
        """Render the points that are not stored."""
        missing = [point / INTERVALS for point in points if not (self._folder / f"{point}.png").exists()]
        if not missing:
            return
        ready = model()
        card = ready.answer.card
        names = ("width", "height", "num_inference_steps", "guidance_scale", "negative_prompt", "scheduler")
        settings = {name: getattr(card, name) for name in names}
        start, end = self._ends
        recipe = BetweenRecipe(
            start=start, end=end, seed=self._number, model=card.model, revision=card.revision, **settings
        )
        for frame in ready.engine.sampler.frames(recipe, ready.engine.sampler.encode(recipe), missing):
            part = self._folder / "part"
            part.write_bytes(frame.png)
            part.rename(self._folder / f"{round(frame.fraction * INTERVALS)}.png")

    def distance(self, one: float, other: float) -> float:
        pair = round(one * INTERVALS), round(other * INTERVALS)
        if pair not in self._distances:
            self._distances[pair] = self._thumbnail(pair[0]).distance(self._thumbnail(pair[1]))
        return self._distances[pair]

    def spaced(self, known: Sequence[int]) -> list[float]:
        """The steps between the frames that the planner chooses. known: the number of pictures after each round."""
        frames, *sizes = known
        fractions: tuple[float, ...] = ()
        done = False
        while not done:
            fractions, done = follow(frames, fractions, self.distance, sizes)
            fractions = fractions if done else on_grid(fractions)
            self.render(round(fraction * INTERVALS) for fraction in fractions)
        return [self.distance(*pair) for pair in pairwise(fractions)]


def on_grid(fractions: Sequence[float]) -> tuple[float, ...]:
    """The nearest points of the grid, each used once."""
    points: list[int] = []
    free = set(range(INTERVALS + 1))
    for fraction in sorted(fractions, key=lambda fraction: abs(fraction * INTERVALS - round(fraction * INTERVALS))):
        points.append(min(free, key=lambda point: abs(point - fraction * INTERVALS)))
        free.remove(points[-1])
    return tuple(point / INTERVALS for point in sorted(points))


def report(walks: Sequence[Walk], known: Sequence[int]) -> None:
    """One row of the table."""
    gauged = [gauge(walk.spaced(known)) for walk in walks]
    evenness = [even or 0.0 for even, _, _ in gauged]
    largest = statistics.fmean(largest or 0.0 for _, largest, _ in gauged)
    name, times = ", ".join(map(str, known)), known[-1] / known[0]
    even, worst = statistics.fmean(evenness), min(evenness)
    print(f"| {name:18} | {len(known)} | {times:4.2f} x | {even:.3f} | {worst:.3f} | {largest:.2f} |", flush=True)


def time_planner() -> None:
    """The CPU time of the planner between two rounds of long walks, on a moving edge with a jump."""
    for frames in (61, 241, 1000):
        distance, sizes = moving_edge(), [frames * 3 // 2, frames * 2]
        known: tuple[float, ...] = ()
        done, seconds = False, []
        while not done:
            for fraction in known:
                distance(fraction, fraction)
            began = process_time()
            known, done = follow(frames, known, distance, sizes)
            seconds.append(process_time() - began)
        print(f"{frames} frames: plans {seconds[1]:.2f} and {seconds[2]:.2f} s, choice {seconds[3]:.2f} s")


def moving_edge() -> Callable[[float, float], float]:
    """The distance of pictures of 128 pixels in which an edge moves, slowly and then fast, and once jumps."""

    @cache
    def picture(fraction: float) -> Thumbnail:
        place = 128 * (0.2 * fraction + 0.6 * fraction**4 + 0.2 * (fraction > 0.7))
        wide = Image.frombytes("L", (128, 1), bytes(round(255 * min(1, max(0, place - x))) for x in range(128)))
        out = io.BytesIO()
        wide.resize((128, 128)).convert("RGB").save(out, "PNG")
        return Thumbnail.of(out.getvalue())

    return lambda one, other: picture(one).distance(picture(other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", type=int, default=10)
    parser.add_argument("--frames", type=int, nargs="*", default=list(SCHEDULES), help="whose tables to print")
    parser.add_argument("--known", nargs="*", help="these rows only, such as 25,35,45")
    chosen = parser.parse_args()
    by_chance, walks = Random(2027), []
    for number in range(chosen.walks):
        start, end = (draw_caption(by_chance, from_held_out=True).text for _ in range(2))
        walks.append(Walk(number, start, end))
    rows = [tuple(map(int, row.split(","))) for row in chosen.known or ()]
    print("| known after each round | rounds | frames | evenness | worst | largest / mean |\n|---|---|---|---|---|---|")
    for known in rows or [known for frames in chosen.frames for known in SCHEDULES[frames]]:
        report(walks, known)
    time_planner()


if __name__ == "__main__":
    main()
